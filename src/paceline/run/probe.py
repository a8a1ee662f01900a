"""What the ways to train would cost here and now, by a stopwatch: for `paceline plan --probe`, never for `auto`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from paceline.run.assemble import assemble
from paceline.run.costs import WORKER_SECONDS, Facts
from paceline.train.runtime import session
from paceline.types import Cohort

if TYPE_CHECKING:
    from paceline.run.job import Job

SECONDS = 1.0  # of steps that are timed per way
STEPS = 100  # at most


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds of one engine: until its first step is done, of a later step, of one evaluation."""

    first: float
    step: float
    look: float

    def training(self, facts: Facts, evaluations: int) -> float:
        return self.first + self.step * facts.steps + self.look * evaluations


class Probed:
    """Times each way on the members' own data, one core; how processes slow each other down is not measured."""

    def __init__(self, device: torch.device, said: Callable[[str], None]) -> None:
        self._device, self._said = device, said
        self._found: dict[tuple[str, int, str, bool], Measured] = {}

    def eager(self, jobs: Sequence[Job], facts: Facts, processes: int) -> float:
        each = self._measured(jobs[:1], "eager", False).training(facts, _evaluations(jobs[0]))
        return each * len(jobs) if processes == 1 else -(-len(jobs) // processes) * (each + WORKER_SECONDS)

    def cohort(self, jobs: Sequence[Job], facts: Facts, cohorts: int, processes: int, *, compiled: bool) -> float:
        width = -(-len(jobs) // cohorts)
        each = self._measured(jobs[:width], "cohort", compiled).training(facts, _evaluations(jobs[0]))
        return -(-cohorts // processes) * (each + (WORKER_SECONDS if processes > 1 else 0.0))

    def _measured(self, jobs: Sequence[Job], engine: str, compiled: bool) -> Measured:
        key = (jobs[0].member.id, len(jobs), engine, compiled)
        if key not in self._found:
            with session(jobs[0].config.numerics, 1):
                self._found[key] = measure(jobs, engine, compiled, self._device)
            found = self._found[key]
            way = f"{engine}, compiled" if compiled else engine
            self._said(f"{way}, {len(jobs)} at once: {found.step / len(jobs) * 1e6:.0f} us per member and step, "
                       f"{found.first:.1f} s to begin, {found.look * 1e3:.0f} ms per evaluation")  # fmt: skip
        return self._found[key]


def measure(jobs: Sequence[Job], engine: str, compiled: bool, device: torch.device) -> Measured:
    """Make an engine, some steps and an evaluation, and time them."""
    began = time.perf_counter()
    cohort = Cohort(id="probe", members=tuple(job.member.id for job in jobs), engine=engine, compile=compiled)
    made = assemble(cohort, jobs, device, lambda: None)
    rates = [job.config.training.learning_rate for job in jobs]

    def step(at: int) -> float:
        started = time.perf_counter()
        made.engine.step(made.feed.group(at), rates, at)
        _wait(device)
        return time.perf_counter() - started

    step(0)
    first, times = time.perf_counter() - began, list[float]()
    while sum(times) < SECONDS and len(times) < STEPS:
        times.append(step(1 + len(times)))
    everyone, looks = range(len(jobs)), []
    for _ in range(2):
        started = time.perf_counter()
        made.engine.evaluate("val", everyone)
        looks.append(time.perf_counter() - started)
    return Measured(first=first, step=statistics.median(times), look=min(looks))


def _evaluations(job: Job) -> int:
    training = job.config.training
    return -(-training.num_epochs // training.evaluate.every_epochs)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
