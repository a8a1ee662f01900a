"""Making a run folder, and opening one again to go on: what was decided is read back, never decided anew."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paceline.config.compose import GROUPS, compose
from paceline.config.tree import Tree, flatten, merge, to_yaml, undot
from paceline.data.audit import splits_from_json, splits_to_json
from paceline.data.dataset import Dataset
from paceline.data.fingerprint import fingerprint
from paceline.errors import ConfigError, DataError, RunError
from paceline.models.building import refuse_oversized
from paceline.run.build import Prepared, load, member_job
from paceline.run.config import RunConfig, resolve
from paceline.run.defaults import changed
from paceline.run.environment import command_line, describe
from paceline.run.folder import Run, create, overrides_text, to_json
from paceline.run.initial import begun_again, copies, to_record
from paceline.run.inputs import Ready, split_inputs
from paceline.run.job import Job
from paceline.run.lineage import config_made_with, in_force, read_lineage
from paceline.run.members import expand, variant_names
from paceline.run.plan import members_of, plan_from_json, plan_to_json
from paceline.run.recipe import Recipe, conf_folders, options

Overrides = Sequence[str] | Mapping[str, Any]


def compose_config(
    overrides: Overrides, recipe: Recipe, tasks: Sequence[str], config_dir: Path | None = None
) -> RunConfig:
    """Return a recipe's config with the user's overrides: Hydra's `key=value` texts, or a mapping of dotted keys."""
    mapping = overrides if isinstance(overrides, Mapping) else {}
    chosen_by = {name: mapping[name] for name in GROUPS if isinstance(mapping.get(name), str)}
    values = undot({name: value for name, value in mapping.items() if name not in chosen_by})
    groups = [f"{name}={option}" for name, option in chosen_by.items()]
    texts = groups if isinstance(overrides, Mapping) else list(overrides)
    chosen = [] if any(text.startswith("task=") for text in texts) else [f"task={recipe.name}"]
    tree = compose([*chosen, *texts], options(recipe, tasks), conf_folders(recipe, config_dir))
    return resolve(merge(tree, values), recipe)


def create_run(path: Path, prepared: Prepared, used: Sequence[Path] = (), recipe: Recipe | None = None) -> Run:
    """Write the folder of a new run: config, plan, environment, splits, every member's differences."""
    tree = prepared.config.tree()
    made_with = {"config": tree, "changed": changed(prepared.config, recipe)}
    environment = describe(command_line(), used, prepared.plan)
    begin_with = to_record(prepared.jobs)
    environment |= {"init_from": begin_with} if begin_with else {}
    texts = {
        "config.yaml": to_yaml(tree),
        "plan.json": to_json(plan_to_json(prepared.plan)),
        "environment.json": to_json({"run_id": secrets.token_hex(8), **environment, **made_with}),
    }
    if prepared.dataset is not None:
        document = splits_to_json(prepared.splits, prepared.dataset, prepared.checks)
        texts["splits.json"] = to_json(document)
    for job in prepared.jobs:
        texts[f"members/{job.member.id}/overrides.yaml"] = overrides_text(prepared.overrides(job))
    return create(path, texts, copies(prepared.jobs))


def reopen(
    run: Run, recipe: Recipe, data: Dataset | None = None, ready: Sequence[Ready | None] | None = None
) -> Prepared:
    """Return the parts of an existing run: its config, plan and splits as they were written.

    data: see `build`. ready: per split what `split_inputs` need not do again.

    Raises ConfigError or DataError, saying what changed, when config or data are not those the run was made with.
    """
    check_unchanged(run)
    config = resolve(run.config, recipe)
    plan = plan_from_json(run.read_json("plan.json"), where=str(run.path / "plan.json"))
    dataset = load(config.data) if data is None else data
    check_data(run, dataset)
    splits, checks = splits_from_json(run.read_json("splits.json"), where=str(run.path / "splits.json"))
    per_seed = config.members.split_seed == "per_seed"
    inputs = {
        (split.seed if per_seed else None, split.fold): split_inputs(dataset, split, config.data, own)
        for split, own in zip(splits, ready or [None] * len(splits), strict=True)
    }
    jobs: list[Job] = []
    for member in expand(config, variant_names(config)):
        own = resolve(run.member_config(member.id), recipe)
        jobs.append(member_job(member, own, inputs[member.seed if per_seed else None, member.fold]))
    if members_of(plan) != {job.member.id for job in jobs}:
        raise RunError("the plan does not fit the run's members", where=str(run.path / "plan.json"))
    for job in {job.member.variant: job for job in jobs}.values():
        if job.estimator is None:
            refuse_oversized(job.build_model, f"model={job.config.model.name}")
    jobs = begun_again(run, jobs)
    return Prepared(config=config, plan=plan, jobs=jobs, dataset=dataset, splits=splits, checks=checks)


def check_unchanged(run: Run) -> None:
    """Raise ConfigError when `config.yaml` is not the config that the run was made or last resumed with."""
    refuse_changes(in_force(config_made_with(run), read_lineage(run)), run.config, where=str(run.path / "config.yaml"),
                   hint=f"put it back, and change it by paceline resume {run.path} KEY=VALUE")  # fmt: skip


def refuse_changes(made_with: Tree, given: Tree, *, where: str, hint: str) -> None:
    """Raise ConfigError naming the keys in which `given` is not the config that a run was made with."""
    before, now = dict(flatten(made_with)), dict(flatten(given))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        shown = ", ".join(f"{key}: {before.get(key)} -> {now.get(key)}" for key in changed[:3])
        raise ConfigError("the config changed since the run was made", where=where, got=shown, hint=hint)


def check_data(run: Run, dataset: Dataset | None) -> None:
    """Raise DataError when `dataset` is not the data that the run was made with. None stands for a user's loaders."""
    if dataset is None and not (run.path / "splits.json").exists():
        return
    made_with = run.read_json("splits.json").get("fingerprint")
    now = "DataLoaders" if dataset is None else fingerprint(dataset)
    if now != made_with:
        raise DataError("the data changed since the run was made", where=str(run.path),
                        got=f"{now}, not {made_with}",
                        hint="bring the data back, or --accept-changed-data, or a new run")  # fmt: skip
