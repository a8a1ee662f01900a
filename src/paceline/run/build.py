"""From a config to the parts of a run: data, splits, and one job per member. Nothing is written here."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from paceline.config.tree import Tree, difference
from paceline.data.audit import Check, audit
from paceline.data.config import DataConfig
from paceline.data.dataset import Dataset
from paceline.data.split import Split, make_splits
from paceline.data.target import valid_targets
from paceline.errors import ConfigError, DataError, PacelineError
from paceline.losses.config import asked_by, doubtful
from paceline.models.config import EstimatorConfig
from paceline.run.blame import defined_at, users_errors, users_line
from paceline.run.config import RunConfig
from paceline.run.defaults import changed
from paceline.run.fitted import without_meaning
from paceline.run.initial import begun
from paceline.run.inputs import InMemory, split_inputs
from paceline.run.job import Job
from paceline.run.members import Variant, expand, variants
from paceline.run.plan import make_plan, members_of
from paceline.run.recipe import Recipe
from paceline.run.references import check_references
from paceline.run.rehearse import rehearse
from paceline.train.runtime import resolve_device
from paceline.types import Member, Plan

if TYPE_CHECKING:
    from paceline.train.learner import ModelFactory
    from paceline.types import Estimator

LOG = logging.getLogger("paceline")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that a run needs before its first step."""

    config: RunConfig
    plan: Plan
    jobs: Sequence[Job]
    dataset: Dataset | None = None  # None for a user's own loaders
    splits: Sequence[Split] = ()
    checks: Sequence[Sequence[Check]] = ()

    def overrides(self, job: Job) -> Tree:
        """What a member's config changes of the run's."""
        return difference(_shared(self.config), _shared(job.config))


def build(
    config: RunConfig,
    recipe: Recipe,
    *,
    config_dir: Path | None = None,
    plan: Plan | None = None,
    data: Dataset | None = None,
) -> Prepared:
    """Load, split, audit, span the members and rehearse one evaluation per variant.

    `plan` reuses an earlier plan, if it is for the same members. `data` is what `data=given` stands for: all members
    then train in this process, as no other has it. Raises PacelineError for whatever would fail later because of the
    input.
    """
    points = variants(config, recipe, config_dir)
    if any(point.config.data != config.data for point in points):
        raise ConfigError("the data cannot vary within a run: members would not be comparable", where="members.vary",
                          hint="one run per data set, then paceline compare")  # fmt: skip
    dataset = load(config.data) if data is None else data
    check_references(config.data, dataset)
    if config.data.loader.num_workers:
        LOG.warning("data is in memory: workers are not used")
    splits, checks = _splits(dataset, config)
    jobs = _jobs(points, dataset, splits)
    device = resolve_device(config.device)
    rehearse(jobs, device)
    jobs = begun(jobs)
    texts = [*_doubts(jobs), *_no_notice(jobs, recipe)]
    for text in filter(None, dict.fromkeys(texts)):
        LOG.warning(text)
    if plan is None or members_of(plan) != {job.member.id for job in jobs}:
        plan = make_plan(jobs, device, workers=data is None)
    return Prepared(config=config, plan=plan, jobs=jobs, dataset=dataset, splits=splits, checks=checks)


def load(config: DataConfig) -> Dataset:
    """Load the data of a section. Whatever a user's own `load` raises, and what it returns, is judged here."""
    name = f"data={config.name}"
    try:
        found: object = config.load()
    except PacelineError as error:
        line = users_line(error)
        if not line:
            raise
        within = f": {error.where}" * bool(error.where)
        raise DataError(error.what, where=line + within, got=error.got or None, hint=error.hint) from error
    except MemoryError as error:
        raise DataError("there is not enough memory for the data", where=name, got=str(error)) from error
    except Exception as error:
        line = users_line(error)
        if not line and type(config).__module__.startswith("paceline."):
            raise  # our own bug
        raise DataError(f"the data cannot be loaded: {type(error).__name__}: {error}", where=line or name) from error
    if not isinstance(found, Dataset):
        raise DataError("`load` returned something other than a data set", where=defined_at(type(config).load) or name,
                        got=type(found).__name__, hint="return paceline.dataset(x=..., y=...)")  # fmt: skip
    return found


def _splits(dataset: Dataset, config: RunConfig) -> tuple[list[Split], list[list[Check]]]:
    seeds: Sequence[int | None] = config.members.seeds if config.members.split_seed == "per_seed" else [None]
    splits = [
        split
        for seed in seeds
        for split in make_splits(dataset, config.data.split, n_folds=config.members.folds, seed=seed)
    ]
    return splits, [audit(dataset, split, config.data.duplicates) for split in splits]


def _jobs(points: Sequence[Variant], dataset: Dataset, splits: Sequence[Split]) -> list[Job]:
    config = points[0].config
    per_seed = config.members.split_seed == "per_seed"
    inputs = {
        (split.seed if per_seed else None, split.fold): split_inputs(dataset, split, config.data) for split in splits
    }
    variant = {point.name: point.config for point in points}
    return [
        member_job(member, variant[member.variant], inputs[member.seed if per_seed else None, member.fold])
        for member in expand(config, list(variant))
    ]


def member_job(member: Member, config: RunConfig, inputs: InMemory) -> Job:
    """Return the job of one member: model, loss and task built from its own config."""
    spec = inputs.spec
    counts = inputs.dataset.spec(inputs.trained(config.training)).class_counts  # what the loss will see
    with users_errors("the loss cannot be built", f"loss={config.loss.name}"):
        loss = config.loss.build(replace(spec, class_counts=counts))
    with users_errors("the task cannot be built", f"task={config.task.name}"):
        task = config.task.build(spec, loss)
    spec = asked_by(loss, spec)
    build_model = cast("ModelFactory", partial(config.model.build, spec))
    estimator: Estimator | None = None
    if isinstance(config.model, EstimatorConfig):
        with users_errors("the model cannot be built", f"model={config.model.name}"):
            estimator = config.model.build(spec)
    return Job(member=member, config=config, inputs=inputs, task=task, build_model=build_model, estimator=estimator)


def _doubts(jobs: Sequence[Job]) -> Iterator[str]:
    """What each variant's loss is probably not meant for."""
    for job in {job.member.variant: job for job in reversed(jobs)}.values():
        loss, inputs = job.config.loss, job.inputs
        yield doubtful(loss)
        if isinstance(inputs, InMemory) and not inputs.spec.classes and "y" in inputs.dataset.columns:
            yield doubtful(loss, inputs.spec, valid_targets(inputs.dataset.columns, inputs.split.train))


def _no_notice(jobs: Sequence[Job], recipe: Recipe) -> list[str | None]:
    """What each variant's estimator takes no notice of, of what was changed for it."""
    first = {job.member.variant: job for job in reversed(jobs) if job.estimator is not None}
    return [without_meaning(job, changed(job.config, recipe)) for job in first.values()]


def restricted(prepared: Prepared, members: Sequence[str]) -> Prepared:
    """Return the same run with some of its jobs."""
    return replace(prepared, jobs=[job for job in prepared.jobs if job.member.id in members])


def _shared(config: RunConfig) -> Mapping[str, Any]:
    return {name: value for name, value in config.tree().items() if name != "members"}
