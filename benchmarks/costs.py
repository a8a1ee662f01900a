"""Measure the constants of paceline/run/costs.py on this machine, and print them beside the committed ones.

    python3 x.py bench costs --json costs.json      # some minutes
    python3 x.py bench costs --quick                # a coarse grid: a look, not a result

Also printed are Markdown tables for the documentation: where training together is faster than one after another, and
where it is not. One core, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from arms.commands import BENCHMARKS, ONE_THREAD, side_by_side
from arms.outcome import json_target, write_json
from arms.steps import Cost, Point, measure
from scipy.optimize import nnls
from step import describe

from paceline.api.runs import open_with_recipe
from paceline.run import costs
from paceline.run.shared import shared_data
from paceline.run.start import reopen

Term = Callable[[Cost], float]


@dataclass(frozen=True)
class Grid:
    widths: Sequence[int]
    batches: Sequence[int]
    members: Sequence[int]
    time_steps: Sequence[int]
    seconds: float  # per point and way

    def mlp(self) -> list[Point]:
        axes = product(self.widths, self.batches, self.members)
        return [Point(width=w, batch=b, members=k) for w, b, k in axes]

    def gru(self) -> list[Point]:
        """Smaller: a step over time costs as much as many of an MLP."""
        widths, members = [w for w in self.widths if w <= 128], [k for k in self.members if k <= 16]
        axes = product(widths, self.batches[:1], self.time_steps, members)
        return [Point(width=w, batch=b, time_steps=t, members=k) for w, b, t, k in axes]


FULL = Grid((32, 64, 128, 256), (32, 256), (1, 4, 16, 64), (20, 80), 0.4)
QUICK = Grid((32, 128), (32,), (1, 8), (20,), 0.1)


def fit(found: Sequence[Cost], terms: Mapping[str, Term], known: Term = lambda cost: 0.0) -> dict[str, float]:
    """Least squares of relative errors with coefficients of at least 0. `known` is a part that is not fitted."""
    us = np.array([cost.us for cost in found])
    columns = np.array([[term(cost) for term in terms.values()] for cost in found])
    rest = np.array([max(cost.us - known(cost), 0.0) for cost in found])
    return dict(zip(terms, map(float, nnls(columns / us[:, None], rest / us)[0]), strict=True))


def constants(found: Sequence[Cost]) -> dict[str, float]:
    """Return the constants of `paceline.run.costs` that belong to steps, fitted to the measurements."""
    mlp = [cost for cost in found if not cost.point.time_steps]
    gru = [cost for cost in found if cost.point.time_steps]

    def when(way: str, value: Term) -> Term:
        return lambda cost: value(cost) if cost.way == way else 0.0

    work = fit(mlp, {
        "EAGER_US": when("eager", lambda c: 1.0),
        "PLAIN_US": when("plain", lambda c: 1.0),
        "COMPILED_US": when("compiled", lambda c: 1.0),
        "COMPILED_MEMBER_US": when("compiled", lambda c: c.point.members),
        "FLOPS_PER_US": lambda c: c.flops * c.point.members,
    })  # fmt: skip
    step = {"eager": work["EAGER_US"], "plain": work["PLAIN_US"]}
    recurrent = fit(gru, {
        "EAGER_RECURRENT_US": when("eager", lambda c: c.point.time_steps),
        "PLAIN_RECURRENT_US": when("plain", lambda c: c.point.time_steps),
        "RECURRENT_FLOPS_PER_US": lambda c: c.flops * c.point.members,
    }, known=lambda c: step[c.way])  # fmt: skip
    both = work | recurrent
    return {name: 1 / value if "FLOPS" in name and value else value for name, value in both.items()}


def cold_seconds() -> float:
    """Seconds of the first step with an empty cache of the compiler, in a new process."""
    with tempfile.TemporaryDirectory(prefix="bench-costs-") as folder:
        command = [sys.executable, "-m", "arms.steps"]
        side_by_side([command], Path(folder), ONE_THREAD)
        return float((Path(folder) / "output-0.txt").read_text(encoding="utf-8").split()[-1])


def worker_seconds() -> float:
    """Seconds from the start of a worker to its first report: imports, data, the cohort's models."""
    with tempfile.TemporaryDirectory(prefix="bench-costs-") as folder:
        run, use = Path(folder) / "run", ["--use", "arms/mlp_recipe.py"]
        wanted = ["task=mlp", "members.seeds=2", "training.engine=cohort", "training.compile=false"]
        side_by_side([[sys.executable, "-m", "arms.plan_ahead", str(run), *use, *wanted]], Path(folder), {})
        cohort = json.loads((run / "plan.json").read_text(encoding="utf-8"))["cohorts"][0]["id"]
        command = [sys.executable, "-m", "paceline.worker", str(run), cohort, *use]
        made, recipe = open_with_recipe(run, [BENCHMARKS / use[1]])
        with shared_data(made, reopen(made, recipe)):
            started = time.perf_counter()
            with subprocess.Popen(
                command, cwd=BENCHMARKS, env=os.environ | ONE_THREAD, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as worker:
                heard = next((line for line in worker.stdout if b"start" in line), None)
                seconds = time.perf_counter() - started
                worker.kill()
        if heard is None:
            raise RuntimeError("the worker did not start")
        return seconds


def speedups(found: Sequence[Cost]) -> dict[Point, dict[str, float]]:
    """Per point and way of the cohort: time of the members one after another over their time together."""
    alone = {one_member(cost.point): cost.us for cost in found if cost.way == "eager"}
    table: dict[Point, dict[str, float]] = {}
    for cost in found:
        if cost.way != "eager":
            table.setdefault(cost.point, {})[cost.way] = alone[one_member(cost.point)] * cost.point.members / cost.us
    return table


def one_member(point: Point) -> Point:
    return Point(width=point.width, batch=point.batch, time_steps=point.time_steps)


def predicted(point: Point, flops: float) -> dict[str, float]:
    """The speed-ups by the committed constants, a single step and nothing that is paid once."""
    positions = point.batch * max(1, point.time_steps)
    parameters = round(flops / 6 / positions)
    facts = costs.Facts(
        parameters=parameters, positions=positions, time_steps=point.time_steps, members=point.members, steps=10**9
    )
    alone = costs.eager_seconds(facts)
    ways = {"plain": False, "compiled": True}
    return {way: alone / costs.cohort_seconds(facts, 1, 1, compiled=compiled) for way, compiled in ways.items()}


def agreement(found: Sequence[Cost]) -> tuple[int, int]:
    """At how many points the committed constants choose the fastest way, and of how many."""
    flops = {cost.point: cost.flops for cost in found}
    right = 0
    for point, ways in speedups(found).items():
        guess = {way: value for way, value in predicted(point, flops[point]).items() if way in ways}
        right += fastest(ways) == fastest(guess)
    return right, len(speedups(found))


def fastest(ways: Mapping[str, float]) -> str:
    best = max(ways, key=lambda way: ways[way])
    return best if ways[best] > 1 else "eager"


def markdown(found: Sequence[Cost]) -> str:
    """Tables of speed-ups: rows are models, columns numbers of members; a bold one is below 1, a loss."""
    table = speedups(found)
    parts = []
    for recurrent in (False, True):
        points = [point for point in table if bool(point.time_steps) == recurrent]
        members = sorted({point.members for point in points})
        head = ["width", "batch", *(["steps"] if recurrent else []), *(f"K = {k}" for k in members)]
        title = "GRU: uncompiled" if recurrent else "MLP of two hidden layers: uncompiled / compiled"
        lines = [f"{title}, times faster than one after another on one core", "", row(head), row(["---"] * len(head))]
        for model in dict.fromkeys(map(one_member, points)):
            cells = [table[p] for p in sorted(points, key=lambda p: p.members) if one_member(p) == model]
            sizes = [model.width, model.batch, *([model.time_steps] if recurrent else [])]
            lines.append(row([*map(str, sizes), *(" / ".join(map(figure, cell.values())) for cell in cells)]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def figure(ratio: float) -> str:
    text = f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"
    return f"**{text}**" if ratio < 1 else text


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="x.py bench costs", description=__doc__.splitlines()[0])
    json_target(parser)
    parser.add_argument("--quick", action="store_true", help="a coarse grid: a look, not a result")
    args = parser.parse_args(argv)
    grid, started = QUICK if args.quick else FULL, time.perf_counter()
    environment = describe(rounds=1, epochs=0, threads=1)
    found = measure(grid.mlp(), ("eager", "plain", "compiled"), grid.seconds)
    found += measure(grid.gru(), ("eager", "plain"), grid.seconds)
    measured = constants(found)
    measured["COMPILE_SECONDS"] = statistics.median(cold_seconds() for _ in range(1 if args.quick else 3))
    measured["WORKER_SECONDS"] = statistics.median(worker_seconds() for _ in range(1 if args.quick else 3))
    right, points = agreement(found)
    print(f"{environment['cpu']}, one thread; {time.perf_counter() - started:.0f} s\n")
    print(f"{'':<24}{'measured':>10}{'committed':>11}")
    for name, value in measured.items():
        print(f"{name:<24}{value:>10.4g}{getattr(costs, name):>11.4g}")
    print(f"\nthe committed ones choose the fastest way at {right} of {points} points\n\n{markdown(found)}")
    result: dict[str, Any] = {"name": "costs", "results": measured, "agreement": [right, points]}
    committed = {name: getattr(costs, name) for name in measured}
    rows = [asdict(cost) for cost in found]
    write_json(args.json, result | {"committed": committed, "rows": rows, "environment": environment})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
