"""From a config to the parts of a run: data, splits, and one job per member. Nothing is written here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from paceline.config.suggest import hint
from paceline.config.tree import Tree, difference
from paceline.data.audit import Check, audit
from paceline.data.dataset import Dataset
from paceline.data.split import Split, make_splits
from paceline.errors import ConfigError, DataError, ModelError
from paceline.evaluate.passes import evaluate
from paceline.run.config import RunConfig
from paceline.run.inputs import InMemory, Inputs, split_inputs
from paceline.run.members import Variant, expand, variants
from paceline.run.plan import make_plan, members_of
from paceline.run.recipe import Recipe
from paceline.train.learner import ModelFactory, seeded_model
from paceline.train.runtime import autocast, resolve_device
from paceline.types import Member, Plan, Task


@dataclass(frozen=True, kw_only=True)
class Job:
    """One member, ready to train."""

    member: Member
    config: RunConfig
    inputs: Inputs = field(repr=False)
    task: Task = field(repr=False)
    build_model: ModelFactory = field(repr=False)


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


def build(config: RunConfig, recipe: Recipe, *, config_dir: Path | None = None, plan: Plan | None = None) -> Prepared:
    """Load, split, audit, span the members and rehearse one evaluation per variant.

    `plan` reuses an earlier plan, if it is for the same members. Raises PacelineError for whatever would fail later
    because of the input.
    """
    points = variants(config, recipe, config_dir)
    if any(point.config.data != config.data for point in points):
        raise ConfigError("the data cannot vary within a run: members would not be comparable", where="members.vary",
                          hint="one run per data set, then paceline compare")  # fmt: skip
    dataset = config.data.load()
    splits, checks = _splits(dataset, config)
    jobs = _jobs(points, dataset, splits)
    device = resolve_device(config.device)
    rehearse(jobs, device)
    if plan is None or members_of(plan) != {job.member.id for job in jobs}:
        plan = make_plan(jobs, device)
    return Prepared(config=config, plan=plan, jobs=jobs, dataset=dataset, splits=splits, checks=checks)


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
    task = config.task.build(spec, config.loss.build(spec))
    return Job(member=member, config=config, inputs=inputs, task=task, build_model=partial(config.model.build, spec))


def rehearse(jobs: Sequence[Job], device: torch.device) -> None:
    """Evaluate one small batch per variant: shapes fit, the loss runs, the selection metric exists."""
    for job in {job.member.variant: job for job in reversed(jobs)}.values():
        training = job.config.training
        with _model_errors("the model cannot be built", job):
            model = seeded_model(job.build_model, job.member)
        if not isinstance(model, torch.nn.Module):
            raise ModelError("the model is not a torch.nn.Module", where=f"model.name={job.config.model.name}",
                             got=type(model).__name__)  # fmt: skip
        batch = next(iter(job.inputs.passes(training, device)["val"]), None)
        if batch is None:
            raise DataError("the validation part is empty", where="data.split")
        small = {name: column[:2] for name, column in batch.items()}
        shapes = ", ".join(f"{name} {tuple(column.shape)}" for name, column in small.items())
        with _model_errors("the model fails on two samples of the data", job, shapes):
            values = evaluate(model.to(device), job.task, [small], autocast(training.amp, device))
        numbers = [f"val_{name}" for name, value in values.items() if not isinstance(value, list)]
        if training.selection.metric not in numbers:
            raise ConfigError("the task has no metric of that name", where="training.selection.metric",
                              got=training.selection.metric, hint=hint(training.selection.metric, numbers))  # fmt: skip


@contextmanager
def _model_errors(what: str, job: Job, got: str | None = None) -> Iterator[None]:
    """Turn what a model's own code raises into a ModelError."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, NameError, ArithmeticError) as error:
        where = f"model.name={job.config.model.name}"
        raise ModelError(f"{what}: {type(error).__name__}: {error}", where=where, got=got) from error


def restricted(prepared: Prepared, members: Sequence[str]) -> Prepared:
    """Return the same run with some of its jobs."""
    return replace(prepared, jobs=[job for job in prepared.jobs if job.member.id in members])


def _shared(config: RunConfig) -> Mapping[str, Any]:
    return {name: value for name, value in config.tree().items() if name != "members"}
