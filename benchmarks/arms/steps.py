"""How long one optimizer step takes in each engine, without its run: no evaluation, no record, one thread.

`python -m arms.steps` compiles one step with an empty cache and prints the seconds that it took.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from paceline.api.runs import configure
from paceline.run.assemble import assemble
from paceline.run.build import build
from paceline.train.cohort import CohortTraining, Trainee
from paceline.train.runtime import session

ARMS = Path(__file__).resolve().parent
WAYS = ("eager", "plain", "compiled")
BLOCKS = 5


@dataclass(frozen=True, kw_only=True)
class Point:
    """One kind of training. `time_steps` is 0 for an MLP of two hidden layers, else the steps of a GRU."""

    width: int
    batch: int
    members: int = 1
    time_steps: int = 0

    def overrides(self) -> list[str]:
        common = [f"training.batch_size={self.batch}", f"members.seeds={self.members}", "training.processes=1"]
        if self.time_steps:
            data = [f"data.steps={self.time_steps}", f"data.channels={self.width}"]
            return ["task=waves", f"model.hidden={self.width}", *data, *common]
        return ["task=mlp", f"model.widths=[{self.width},{self.width}]", *common]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a step of all members costs; `flops` are of one member: 6 per parameter and position."""

    point: Point
    way: str
    us: float
    flops: float


def training(point: Point, way: str) -> tuple[CohortTraining, float]:
    """Return a training that is ready for its first step, and the operations of a member's step."""
    engine = ["training.engine=eager"] if way == "eager" else ["training.engine=cohort"]
    overrides = [*point.overrides(), *engine, f"training.compile={str(way == 'compiled').lower()}"]
    config, recipe = configure(None, overrides, use=[ARMS / ("gru_recipe.py" if point.time_steps else "mlp_recipe.py")])
    prepared = build(config, recipe)
    (cohort,) = prepared.plan.cohorts
    assert cohort.compile == (way == "compiled") and cohort.engine == ("eager" if way == "eager" else "cohort")
    data = assemble(cohort, prepared.jobs, torch.device("cpu"), lambda: None)
    trainees = [Trainee(member=job.member, training=job.config.training) for job in prepared.jobs]
    parameters = sum(p.numel() for p in prepared.jobs[0].build_model().parameters())
    flops = 6.0 * parameters * point.batch * max(1, point.time_steps)
    return CohortTraining(data.engine, data.feed, trainees), flops


def cost(point: Point, way: str, seconds: float) -> Cost:
    """Measure one way for some seconds: the median over blocks of steps."""
    torch.compiler.reset()  # else a ninth shape of the same step would no longer be compiled
    trained, flops = training(point, way)
    for _ in range(3):
        trained.step()
    count = max(1, int(seconds / BLOCKS / block(trained, 3)))
    return Cost(
        point=point, way=way, us=statistics.median(block(trained, count) for _ in range(BLOCKS)) * 1e6, flops=flops
    )


def block(trained: CohortTraining, count: int) -> float:
    """Seconds per step over some steps."""
    started = time.perf_counter()
    for _ in range(count):
        trained.step()
    return (time.perf_counter() - started) / count


def measure(points: Sequence[Point], ways: Sequence[str], seconds: float) -> list[Cost]:
    """Measure every way at every point on one thread. An eager step is measured once for all numbers of members."""
    config, _ = configure("mlp", [], use=[ARMS / "mlp_recipe.py"])
    found = []
    with session(config.numerics, 1):
        for point in points:
            found += [cost(point, way, seconds) for way in ways if way != "eager" or point.members == 1]
    return found


def main() -> None:
    point = Point(width=64, batch=32, members=16)
    config, _ = configure("mlp", [], use=[ARMS / "mlp_recipe.py"])
    with session(config.numerics, 1):
        trained, _ = training(point, "compiled")
        print(block(trained, 1))


if __name__ == "__main__":
    main()
