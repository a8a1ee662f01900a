"""Making a run folder, and opening one again to go on: what was decided is read back, never decided anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paceline.config.compose import compose
from paceline.config.tree import Tree, flatten, put, to_yaml
from paceline.data.audit import splits_from_json, splits_to_json
from paceline.data.fingerprint import fingerprint
from paceline.errors import ConfigError, DataError, RunError
from paceline.run.build import Job, Prepared, member_job
from paceline.run.config import CHOICES, RunConfig, resolve
from paceline.run.environment import command_line, describe
from paceline.run.folder import Run, create, overrides_text, to_json
from paceline.run.inputs import split_inputs
from paceline.run.members import expand, variant_names
from paceline.run.plan import plan_from_json, plan_to_json
from paceline.run.recipe import Recipe, conf_folders, options

Overrides = Sequence[str] | Mapping[str, Any]


def compose_config(
    overrides: Overrides, recipe: Recipe, tasks: Sequence[str], config_dir: Path | None = None
) -> RunConfig:
    """Return a recipe's config with the user's overrides: Hydra's `key=value` texts, or a mapping of dotted keys."""
    texts = [text for text in overrides if isinstance(text, str)] if not isinstance(overrides, Mapping) else []
    values: Mapping[str, Any] = overrides if isinstance(overrides, Mapping) else {}
    groups = [f"{name}={value}" for name, value in values.items() if name in CHOICES]
    chosen = [] if any(text.startswith("task=") for text in [*texts, *groups]) else [f"task={recipe.name}"]
    folders = conf_folders(recipe, config_dir)
    tree = compose([*chosen, *groups, *texts], options(recipe, tasks), folders)
    for path, value in values.items():
        if path not in CHOICES:
            put(tree, path, value)
    return resolve(tree, recipe)


def create_run(path: Path, prepared: Prepared, used: Sequence[Path] = ()) -> Run:
    """Write the folder of a new run: config, plan, environment, splits, every member's differences."""
    tree = prepared.config.tree()
    texts = {
        "config.yaml": to_yaml(tree),
        "plan.json": to_json(plan_to_json(prepared.plan)),
        "environment.json": to_json({**describe(command_line(), used), "config": tree}),
    }
    if prepared.dataset is not None:
        document = splits_to_json(prepared.splits, prepared.dataset, prepared.checks)
        texts["splits.json"] = to_json(document)
    for job in prepared.jobs:
        texts[f"members/{job.member.id}/overrides.yaml"] = overrides_text(prepared.overrides(job))
    return create(path, texts)


def reopen(run: Run, recipe: Recipe) -> Prepared:
    """Return the parts of an existing run: its config, plan and splits as they were written.

    Raises ConfigError or DataError, saying what changed, when config or data are not those the run was made with.
    """
    check_unchanged(run)
    config = resolve(run.config, recipe)
    plan = plan_from_json(run.read_json("plan.json"), where=str(run.path / "plan.json"))
    dataset = config.data.load()
    splits, checks = splits_from_json(run.read_json("splits.json"), where=str(run.path / "splits.json"))
    now = fingerprint(dataset)
    if splits[0].fingerprint != now:
        raise DataError(
            "the data changed since the run was made",
            where=f"data.name={config.data.name}",
            got=f"{now}, not {splits[0].fingerprint}",
            hint="bring the data back, or start a new run",
        )
    per_seed = config.members.split_seed == "per_seed"
    inputs = {
        (split.seed if per_seed else None, split.fold): split_inputs(dataset, split, config.data) for split in splits
    }
    jobs: list[Job] = []
    for member in expand(config, variant_names(config)):
        own = resolve(run.member_config(member.id), recipe)
        jobs.append(member_job(member, own, inputs[member.seed if per_seed else None, member.fold]))
    known = {member for cohort in plan.cohorts for member in cohort.members}
    if known != {job.member.id for job in jobs}:
        raise RunError("the plan does not fit the run's members", where=str(run.path / "plan.json"))
    return Prepared(config=config, plan=plan, jobs=jobs, dataset=dataset, splits=splits, checks=checks)


def check_unchanged(run: Run) -> None:
    """Raise ConfigError when `config.yaml` is no longer the config that the run was made with, naming the keys."""
    made_with: Tree = run.read_json("environment.json").get("config", {})
    before, now = dict(flatten(made_with)), dict(flatten(run.config))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        shown = ", ".join(f"{key}: {before.get(key)} -> {now.get(key)}" for key in changed[:3])
        raise ConfigError("the config changed since the run was made", where=str(run.path / "config.yaml"),
                          got=shown, hint="put it back, or start a new run with --config")  # fmt: skip
