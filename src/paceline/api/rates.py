"""`lr_find`: which learning rate to begin with, by a range test on copies of the members' models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.api.given import with_given
from paceline.api.runs import PathLike, configure
from paceline.checkpoint.files import write_bytes_atomic
from paceline.errors import ConfigError, ModelError
from paceline.report.rates import picture
from paceline.run.assemble import assemble
from paceline.run.build import build
from paceline.train.range_test import losses_at, rising, smoothed, steepest
from paceline.train.runtime import resolve_device, session
from paceline.types import Cohort

if TYPE_CHECKING:
    from paceline.data.dataset import Dataset
    from paceline.run.job import Job
    from paceline.run.start import Overrides


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """One member's test. Losses are training losses before the step at each rate.

    suggestion: the rate at which the smoothed loss falls fastest, None where it hardly falls. lowest_at: where it is
    lowest. broke_off: the rate at which the loss was not finite or twice that of the beginning, None where it
    never was.
    """

    member: str
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    lowest_at: float
    broke_off: float | None


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """What a range test found. `suggestion` is the geometric mean of the members' own."""

    rates: tuple[float, ...]
    tests: tuple[RangeTest, ...]

    @property
    def suggestion(self) -> float | None:
        own = [test.suggestion for test in self.tests if test.suggestion is not None]
        return math.exp(sum(map(math.log, own)) / len(own)) if own else None


def lr_find(
    task: str | None = None,
    overrides: Overrides = (),
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 200,
    out: PathLike | None = None,
    config: PathLike | Mapping[str, Any] | None = None,
    data: Dataset | None = None,
    use: Sequence[PathLike] = (),
    config_dir: PathLike | None = None,
) -> LearningRates:
    """Train a copy of each member of the first variant at rates that rise from step to step (Smith, 2017).

    Optimizer, clipping, batch size and loss are those of the config, its schedule is not; the test part stays closed.
    lowest, highest: the first and the last rate. steps: how many, at least 20. out: a PNG file to write; nothing else
    is. The other arguments are those of `train`; data: in place of `data=given`.

    Raises ConfigError for rates that do not rise and for a file that cannot be written, ModelError for a model without
    gradients, and what `train` raises for bad input.
    """
    _check(lowest, highest, steps, out)
    if data is not None:
        overrides = with_given(overrides, data, "data" if config is None else "data.name")
    resolved, recipe = configure(task, overrides, config=config, use=use, config_dir=config_dir)
    prepared = build(resolved, recipe, config_dir=None if config_dir is None else Path(config_dir), data=data)
    rates = rising(lowest, highest, steps)
    first = prepared.jobs[0].member.variant
    jobs = [job for job in prepared.jobs if job.member.variant == first]
    with session(resolved.numerics, prepared.plan.threads):
        found = LearningRates(rates=tuple(rates), tests=tuple(_tested(job, rates) for job in jobs))
    if out is not None:
        curves = {test.member: (test.losses, test.smoothed) for test in found.tests}
        write_bytes_atomic(Path(out), picture(found.rates, curves, found.suggestion))
    return found


def _check(lowest: float, highest: float, steps: int, out: PathLike | None) -> None:
    if not 0 < lowest < highest < math.inf:
        raise ConfigError("the learning rates do not rise", where="lowest, highest", got=f"{lowest:g} to {highest:g}",
                          hint="1e-7 to 10")  # fmt: skip
    if steps < 20:
        raise ConfigError("too few steps for a range test", where="steps", got=steps, hint="steps=200")
    if out is None:
        return
    path = Path(out)
    if path.suffix != ".png" or path.exists() or not path.parent.is_dir():
        there = "the file exists already" if path.exists() else "the folder does not exist"
        problem = "the picture is a PNG file" if path.suffix != ".png" else there
        raise ConfigError(problem, where="out", got=str(out), hint="rates.png")


def _tested(job: Job, rates: Sequence[float]) -> RangeTest:
    if job.estimator is not None:
        raise ModelError("the model has no learning rate of gradient steps to find",
                         where=f"model={job.config.model.name}", hint="model=mlp")  # fmt: skip
    cohort = Cohort(id=job.member.id, members=(job.member.id,))
    made = assemble(cohort, [job], resolve_device(job.config.device), _closed)
    losses = losses_at(made.engine, made.feed, rates)
    smooth = smoothed(losses, len(rates))
    lowest_at = rates[min(range(len(smooth)), key=smooth.__getitem__)]
    return RangeTest(
        member=job.member.id,
        losses=tuple(losses),
        smoothed=tuple(smooth),
        suggestion=steepest(rates, smooth),
        lowest_at=lowest_at,
        broke_off=rates[len(losses) - 1] if len(losses) < len(rates) or not math.isfinite(losses[-1]) else None,
    )


def _closed() -> None:
    raise AssertionError("the test part stays closed")
