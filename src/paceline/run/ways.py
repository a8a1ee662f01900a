"""The ways in which members of equal shape could train, and what each would cost."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from paceline.data.rows import RowFeed, RowPass, Rows
from paceline.errors import ModelError
from paceline.models.vectorise import is_ours, is_recurrent, why_not
from paceline.run.costs import Facts, cohort_seconds, eager_seconds
from paceline.run.inputs import InMemory
from paceline.run.memory import budget, need
from paceline.train.engine_cohort import CohortEngine
from paceline.train.learner import seeded_model
from paceline.train.runtime import amp_enabled

if TYPE_CHECKING:
    from paceline.run.job import Job


class Costs(Protocol):
    """Seconds of the ways in which members of equal shape could train."""

    def eager(self, jobs: Sequence[Job], facts: Facts, processes: int) -> float: ...

    def cohort(self, jobs: Sequence[Job], facts: Facts, cohorts: int, processes: int, *, compiled: bool) -> float: ...


class Estimated:
    """The committed table of costs: the same plan everywhere."""

    def eager(self, jobs: Sequence[Job], facts: Facts, processes: int) -> float:
        return eager_seconds(facts, processes)

    def cohort(self, jobs: Sequence[Job], facts: Facts, cohorts: int, processes: int, *, compiled: bool) -> float:
        return cohort_seconds(facts, cohorts, processes, compiled=compiled)


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to train a group of members: one after another (`cohorts` 0), or stacked."""

    cohorts: int
    processes: int
    compiled: bool
    seconds: float


def ways(jobs: Sequence[Job], device: torch.device, processes: int, costs: Costs) -> list[Way]:
    """Return the ways to train members of equal shape that are open, at least one."""
    training = jobs[0].config.training
    model = seeded_model(jobs[0].build_model, jobs[0].member)
    reason = _why_not(jobs[0], model, device)
    if training.engine == "cohort" and reason is not None:
        raise ModelError(f"these members cannot train as one cohort: {reason}", where="training.engine", got="cohort",
                         hint="training.engine=auto")  # fmt: skip
    side_by_side = min(processes, len(jobs))
    if not isinstance(jobs[0].inputs, InMemory):
        return [Way(cohorts=0, processes=1, compiled=False, seconds=0.0)]
    facts = facts_of(jobs, model)
    fixed = training.processes != "auto"
    eager = [
        Way(cohorts=0, processes=n, compiled=False, seconds=costs.eager(jobs, facts, n))
        for n in sorted({side_by_side} if fixed else {1, side_by_side})
    ]
    if training.engine == "eager" or reason is not None:
        return eager
    needed, counts = need(jobs, model), [side_by_side] if fixed else range(1, side_by_side + 1)
    stacked = []
    for count, compiled in product(counts, _compiled(jobs[0], facts, device)):
        most = needed.fits(budget(training, device, count))
        cohorts = min(len(jobs), count * -(-len(jobs) // (most * count)))
        seconds = costs.cohort(jobs, facts, cohorts, count, compiled=compiled)
        stacked.append(Way(cohorts=cohorts, processes=count, compiled=compiled, seconds=seconds))
    if training.engine == "cohort":
        return stacked
    if device.type == "cpu" and any(isinstance(module, torch.nn.LSTM) for module in model.modules()):
        return eager  # the native LSTM runs at the matrix limit already
    return [*eager, *stacked]


def _compiled(job: Job, facts: Facts, device: torch.device) -> list[bool]:
    training = job.config.training
    if device.type == "cpu" and getattr(getattr(job.task, "loss", None), "not_compiled", False):
        return [False]  # a loss whose compiled step is known to crash, asked for or not
    if device.type == "mps" or (facts.time_steps and training.compile == "auto"):
        return [False]  # unrolled over time, compiling takes longer than it saves
    return {"auto": [False, True], True: [True], False: [False]}[training.compile]


def _why_not(job: Job, model: torch.nn.Module, device: torch.device) -> str | None:
    """Say why a member cannot be vectorised, or None."""
    training = job.config.training
    if not isinstance(job.inputs, InMemory):
        return "a DataLoader's batches are not in memory"
    if training.amp.dtype == "float16" and amp_enabled(training.amp, device):
        return "float16 scaling is per optimizer, not per member"
    if training.selection.keep_optimizer:
        return "training.selection.keep_optimizer keeps one optimizer's state"
    reason = why_not(model)
    # Code of one's own may do what no class tells; that of the package and of torch's layers is known.
    return _trial(job, model) if reason is None and not (is_ours(model) and _is_ours(job.task)) else reason


def _is_ours(thing: object) -> bool:
    """Whether a task or loss, and all that its fields hold, is code of this package or plain values."""
    if callable(thing) and not dataclasses.is_dataclass(thing):
        return str(getattr(thing, "__module__", "")).startswith("paceline.")
    if dataclasses.is_dataclass(thing):
        own = type(thing).__module__.startswith("paceline.")
        return own and all(_is_ours(getattr(thing, field.name)) for field in dataclasses.fields(thing))
    return type(thing).__module__.split(".")[0] in ("builtins", "torch", "paceline")


def _trial(job: Job, model: torch.nn.Module) -> str | None:
    """Make one step of two copies on two samples: a forward of the user's own may do what no class tells."""
    assert isinstance(job.inputs, InMemory)
    rows = job.inputs.split.train[:2]
    table = {name: torch.from_numpy(column) for name, column in job.inputs.columns(rows).items()}
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


def facts_of(jobs: Sequence[Job], model: torch.nn.Module) -> Facts:
    """Return what is known of members of equal shape before their first step."""
    training = jobs[0].config.training
    shape = jobs[0].inputs.spec.shapes["x"]
    size = max(len(job.inputs.trained(training)) for job in jobs if isinstance(job.inputs, InMemory))
    time_steps = shape[0] if is_recurrent(model) and len(shape) > 1 else 0
    batches = -(-size // training.batch_size)
    return Facts(
        parameters=sum(p.numel() for p in model.parameters()),
        positions=training.batch_size * (shape[0] if len(shape) > 1 else 1),
        time_steps=time_steps,
        members=len(jobs),
        steps=training.num_epochs * -(-batches // training.gradient_accumulation_steps),
    )
