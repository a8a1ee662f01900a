"""The plan: a deterministic rule over static facts, never a stopwatch."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from paceline.config.reading import parse_json, read_text
from paceline.config.tree import flatten
from paceline.errors import RunError
from paceline.run.buckets import batches_of
from paceline.run.costs import WORKER_SECONDS
from paceline.run.fitted import ENGINE, seconds
from paceline.run.folder import Run, write_json
from paceline.run.inputs import InMemory
from paceline.run.schemas import check_schema
from paceline.run.ways import Costs, Estimated, Way, ways
from paceline.train.learner import seeded_model
from paceline.types import Cohort, Plan

if TYPE_CHECKING:
    from paceline.run.job import Job

# What may differ between members of one cohort; everything else they share.
FREE = (
    "training.learning_rate", "training.weight_decay", "training.num_epochs", "training.schedule.",
    "training.selection.", "training.early_stopping.", "training.gradient_clip.value", "training.init_from",
    "model.dropout",
)  # fmt: skip
LOG = logging.getLogger("paceline")
MOST_THREADS_FLOPS = 2e9  # from here on one step is enough work for all cores


def make_plan(jobs: Sequence[Job], device: torch.device, *, workers: bool = True, costs: Costs | None = None) -> Plan:
    """Return the plan for the members, in cohorts of equal shape. `workers=False` keeps all in this process.

    Raises ModelError where `training.engine=cohort` is asked for and cannot be had.
    """
    config = jobs[0].config
    cores = (os.cpu_count() or 1) if workers and device.type == "cpu" else 1
    processes = cores if config.training.processes == "auto" else config.training.processes
    cohorts: list[Cohort] = []
    used = 1
    for group in _groups(jobs):
        if group[0].estimator is not None:
            way = _fitting(group, processes)
            cohorts += _split(group, way, "whole", ENGINE)
        else:
            way = min(ways(group, device, processes, costs or Estimated()), key=lambda way: way.seconds)
            cohorts += _split(group, way, batches_of(group[0], device))
        used = max(used, way.processes)
    threads = config.numerics.threads
    if threads == "auto":
        threads = (os.cpu_count() or 1) if used == 1 and _flops(jobs[0]) > MOST_THREADS_FLOPS else 1
    return Plan(cohorts=tuple(cohorts), device=str(device), threads=threads, processes=min(used, len(cohorts)))


def _groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """Put jobs together whose configs differ only in what may differ within a cohort."""
    groups: dict[Any, list[Job]] = {}
    for job in jobs:
        shared = [
            (path, repr(value)) for path, value in flatten(job.config.tree())
            if not path.startswith(("members", *FREE))
        ]  # fmt: skip
        # A task is compared by value where it is a frozen dataclass (class weights may differ between folds).
        groups.setdefault((tuple(shared), isinstance(job.inputs, InMemory), _hashable(job.task)), []).append(job)
    return list(groups.values())


def _hashable(task: object) -> object:
    try:
        hash(task)
    except TypeError:
        return id(task)
    return task


def _fitting(jobs: Sequence[Job], processes: int) -> Way:
    """Estimators share nothing: side by side where that was asked for, or saves more than it takes to begin."""
    side_by_side, alone = min(processes, len(jobs)), seconds(jobs)
    pays = alone / side_by_side + WORKER_SECONDS < alone or jobs[0].config.training.processes != "auto"
    cohorts = side_by_side if pays else 1
    return Way(cohorts=cohorts, processes=cohorts, compiled=False, seconds=alone / cohorts)


def _split(jobs: Sequence[Job], way: Way, batches: str, engine: str = "cohort") -> list[Cohort]:
    if not way.cohorts:
        return [Cohort(id=job.member.id, members=(job.member.id,), batches=batches) for job in jobs]
    ends = [round(len(jobs) * i / way.cohorts) for i in range(way.cohorts + 1)]  # sizes differ by one at most
    parts = [jobs[a:b] for a, b in pairwise(ends)]
    return [
        Cohort(
            id=part[0].member.id if len(part) == 1 else f"{part[0].member.id}-to-{part[-1].member.id}",
            members=tuple(job.member.id for job in part), engine=engine, compile=way.compiled, batches=batches,
        )
        for part in parts
    ]  # fmt: skip


def _flops(job: Job) -> float:
    """Operations of one optimizer step of one member, estimated; an estimator makes none."""
    if job.estimator is not None:
        return 0.0
    shape = job.inputs.spec.shapes.get("x", (1,))
    positions = job.config.training.batch_size * (shape[0] if len(shape) > 1 else 1)
    model = seeded_model(job.build_model, job.member)
    return 6.0 * positions * sum(p.numel() for p in model.parameters())


def members_of(plan: Plan) -> set[str]:
    """Return the ids of all members that the plan trains."""
    return {member for cohort in plan.cohorts for member in cohort.members}


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as plain values."""
    return asdict(plan)


def plan_from_json(content: Mapping[str, Any], where: str) -> Plan:
    """Read a plan back. Raises RunError when it is not one."""
    try:
        cohorts = tuple(_cohort(entry) for entry in content["cohorts"])
        plan = Plan(**{**content, "cohorts": cohorts, "changes": tuple(content.get("changes", ()))})
    except (KeyError, TypeError) as error:
        raise RunError("the plan cannot be read", where=where, got=repr(error)) from None
    twice = [id for id, times in Counter(m for c in cohorts for m in c.members).items() if times > 1]
    twice += [id for id, times in Counter(c.id for c in cohorts).items() if times > 1]
    if twice:
        raise RunError("the plan names a member or cohort twice", where=where, got=twice[0])
    several = [c.id for c in cohorts if c.engine == "eager" and len(c.members) > 1]
    if several:
        raise RunError("the plan has the eager engine train several members", where=where, got=several[0])
    return plan


def _cohort(entry: Mapping[str, Any]) -> Cohort:
    micro_batches = tuple((step, samples) for step, samples in entry.get("micro_batches", ()))
    return Cohort(**{**entry, "members": tuple(entry["members"]), "micro_batches": micro_batches})


def read_plan(path: Path) -> Plan:
    """Read the plan in a file of its own. Raises RunError when it is none."""
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise RunError("the plan cannot be read", where=str(path), got=str(error)) from None
    check_schema(content, "plan.json", where=str(path))
    return plan_from_json(content, where=str(path))


def change_plan(run: Run, change: Mapping[str, Any]) -> None:
    """Write down what is otherwise for a cohort (`cohort`) from a `step` on, and why; whoever resumes keeps to it.

    `compile`: the step runs as it is. `micro_batch`: so many samples at once. `device`: training goes on there.
    """
    LOG.warning("%s: %s: %s", change["cohort"], _said(change), change["reason"])
    plan = plan_from_json(run.read_json("plan.json"), where=str(run.path / "plan.json"))
    cohorts = tuple(changed_cohort(c, change) if c.id == change["cohort"] else c for c in plan.cohorts)
    write_json(run.path / "plan.json", plan_to_json(replace(plan, cohorts=cohorts, changes=(*plan.changes, change))))


def changed_cohort(cohort: Cohort, change: Mapping[str, Any]) -> Cohort:
    """Return a cohort after a change. On another device micro-batches are whole again."""
    if "micro_batch" in change:
        return replace(cohort, micro_batches=(*cohort.micro_batches, (change["step"], change["micro_batch"])))
    if "device" in change:
        return replace(cohort, device=change["device"], micro_batches=())
    return replace(cohort, compile=change["compile"])


def _said(change: Mapping[str, Any]) -> str:
    if "micro_batch" in change:
        return (f"out of memory in step {change['step']}: from here on micro-batches of {change['micro_batch']}, "
                "accumulated to the same batch")  # fmt: skip
    if "device" in change:
        return f"out of memory in step {change['step']} with one sample: training goes on on {change['device']}"
    return "the step cannot be compiled and runs as it is"
