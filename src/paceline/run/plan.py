"""The plan: a deterministic rule over static facts, never a stopwatch."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from paceline.config.tree import flatten
from paceline.data.rows import RowFeed, RowPass, Rows
from paceline.errors import ModelError, RunError
from paceline.models.vectorise import is_recurrent, why_not
from paceline.run.costs import Facts, cohort_seconds, eager_seconds
from paceline.run.inputs import InMemory
from paceline.train.engine_cohort import CohortEngine
from paceline.train.learner import seeded_model
from paceline.types import Cohort, Plan

if TYPE_CHECKING:
    from paceline.run.config import RunConfig
    from paceline.run.job import Job

# What may differ between members of one cohort; everything else they share.
FREE = (
    "training.learning_rate", "training.weight_decay", "training.num_epochs", "training.schedule.",
    "training.selection.", "training.early_stopping.", "training.gradient_clip.value", "model.dropout",
)  # fmt: skip
MOST_THREADS_FLOPS = 2e9  # from here on one step is enough work for all cores


def make_plan(jobs: Sequence[Job], device: torch.device, *, workers: bool = True) -> Plan:
    """Return the plan for the members, in cohorts of equal shape. `workers=False` keeps all in this process.

    Raises ModelError where `training.engine=cohort` is asked for and cannot be had.
    """
    config = jobs[0].config
    cores = (os.cpu_count() or 1) if workers and device.type == "cpu" else 1
    cohorts: list[Cohort] = []
    for group in _groups(jobs):
        cohorts += _cohorts(group, device, _processes(config, cores))
    threads = config.numerics.threads
    processes = min(_processes(config, cores), len([c for c in cohorts if c.engine == "cohort"]) or 1)
    if threads == "auto":
        threads = (os.cpu_count() or 1) if processes == 1 and _flops(jobs[0]) > MOST_THREADS_FLOPS else 1
    return Plan(cohorts=tuple(cohorts), device=str(device), threads=threads, processes=processes)


def _processes(config: RunConfig, cores: int) -> int:
    wanted = config.training.processes
    return cores if wanted == "auto" else wanted


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


def _cohorts(jobs: Sequence[Job], device: torch.device, processes: int) -> list[Cohort]:
    """Choose engine, compilation and width for members of equal shape."""
    training = jobs[0].config.training
    model = seeded_model(jobs[0].build_model, jobs[0].member)
    reason = _why_not(jobs[0], model)
    eager = [Cohort(id=job.member.id, members=(job.member.id,)) for job in jobs]
    if training.engine == "cohort" and reason is not None:
        raise ModelError(f"these members cannot train as one cohort: {reason}", where="training.engine", got="cohort",
                         hint="training.engine=auto")  # fmt: skip
    if training.engine == "eager" or reason is not None:
        return eager
    facts = _facts(jobs, model)
    compiled = {"auto": [False, True], True: [True], False: [False]}[training.compile]
    if facts.time_steps and training.compile == "auto":
        compiled = [False]  # unrolled over time, compiling takes longer than it saves
    if training.compile is not False and device.type == "mps":
        compiled = [False]
    most = min(processes, len(jobs))
    counts = range(1, most + 1) if training.processes == "auto" else [most]
    ways = {(count, c): cohort_seconds(facts, count, compiled=c) for count in counts for c in compiled}
    best = min(ways, key=lambda way: ways[way])
    if training.engine == "auto" and not _worth_it(facts, model, device, ways[best]):
        return eager
    return _split(jobs, *best)


def _worth_it(facts: Facts, model: torch.nn.Module, device: torch.device, seconds: float) -> bool:
    if device.type == "cpu" and any(isinstance(module, torch.nn.LSTM) for module in model.modules()):
        return False  # the native LSTM runs at the matrix limit already
    return seconds < eager_seconds(facts)


def _split(jobs: Sequence[Job], processes: int, compiled: bool) -> list[Cohort]:
    width = -(-len(jobs) // processes)
    parts = [jobs[i : i + width] for i in range(0, len(jobs), width)]
    return [
        Cohort(
            id=part[0].member.id if len(part) == 1 else f"{part[0].member.id}-to-{part[-1].member.id}",
            members=tuple(job.member.id for job in part), engine="cohort", compile=compiled,
        )
        for part in parts
    ]  # fmt: skip


def _why_not(job: Job, model: torch.nn.Module) -> str | None:
    """Say why a member cannot be vectorised, or None."""
    training = job.config.training
    if not isinstance(job.inputs, InMemory):
        return "a DataLoader's batches are not in memory"
    if training.amp.enabled is True and training.amp.dtype == "float16":
        return "float16 scaling is per optimizer, not per member"
    if training.selection.keep_optimizer:
        return "training.selection.keep_optimizer keeps one optimizer's state"
    return why_not(model) or _trial(job, model)


def _trial(job: Job, model: torch.nn.Module) -> str | None:
    """Make one step of two copies on two samples: a forward of the user's own may do what no class tells."""
    assert isinstance(job.inputs, InMemory)
    rows = job.inputs.split.train[:2]
    table = {name: torch.from_numpy(column[rows]) for name, column in job.inputs.dataset.columns.items()}
    device, twice = torch.device("cpu"), [Rows(member=job.member, rows=np.arange(len(rows)))] * 2
    try:
        engine = CohortEngine(
            [model, copy.deepcopy(model)], [job.task] * 2, [job.config.training] * 2, [job.member] * 2, table,
            {"val": RowPass([np.arange(len(rows))] * 2, 2, device)}, device, compiled=False,
        )  # fmt: skip
        engine.step(RowFeed(twice, 2, 1, device).group(0), [0.0, 0.0], 0)
        engine.evaluate("val", [0, 1])
    except Exception as error:  # a foreign forward can raise anything; the eager engine then shows it as its own
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None


def _facts(jobs: Sequence[Job], model: torch.nn.Module) -> Facts:
    training = jobs[0].config.training
    shape = jobs[0].inputs.spec.shapes["x"]
    size = max(len(job.inputs.split.train) for job in jobs if isinstance(job.inputs, InMemory))
    time_steps = shape[0] if is_recurrent(model) and len(shape) > 1 else 0
    batches = -(-size // training.batch_size)
    return Facts(
        parameters=sum(p.numel() for p in model.parameters()),
        positions=training.batch_size * (shape[0] if len(shape) > 1 else 1),
        time_steps=time_steps,
        members=len(jobs),
        steps=training.num_epochs * -(-batches // training.gradient_accumulation_steps),
    )


def _flops(job: Job) -> float:
    """Operations of one optimizer step of one member, estimated."""
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
        cohorts = tuple(
            Cohort(id=c["id"], members=tuple(c["members"]), engine=c["engine"], compile=c["compile"])
            for c in content["cohorts"]
        )
        rest = {key: value for key, value in content.items() if key not in ("cohorts", "changes")}
        return Plan(cohorts=cohorts, changes=tuple(content["changes"]), **rest)
    except (KeyError, TypeError) as error:
        raise RunError("the plan cannot be read", where=where, got=repr(error)) from None
