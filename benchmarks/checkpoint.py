"""What a checkpoint costs: how long a save blocks the training thread, how long it takes in all, its share of a run.

    python3 x.py bench checkpoint --json checkpoint.json      # two minutes
    python3 x.py bench checkpoint --quick                     # a look

What is timed stands in benchmarks/README.md. Everything runs on one core, the thread that writes included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from arms.outcome import Bound, json_target, write_json
from step import describe
from torch import nn

from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import count_bytes
from paceline.data.loader import ArrayFeed, ArrayPass
from paceline.tasks import Regression
from paceline.track.journal import Journal
from paceline.train.cohort import Trainee
from paceline.train.config import TrainingConfig
from paceline.train.control import LoopControl
from paceline.train.engine_eager import EagerEngine
from paceline.train.learner import EngineAndFeed, GradientLearner, seeded_model
from paceline.train.saving import Saver
from paceline.types import Member

MEGABYTES = (1, 100)
BATCH, FEATURES = 32, 64
MEMBER = Member(seed=42)
STEPS_APART = 10
BLOCKED_MS, SHARE_PERCENT = Bound("at most", 50.0), Bound("at most", 3.0)


@dataclass(frozen=True, kw_only=True)
class Saves:
    """Milliseconds of some saves of one state. `blocked`: of the training thread; `cpu`: of its processor time."""

    megabytes: float
    asynchronous: bool
    blocked: tuple[float, ...]
    cpu: tuple[float, ...]
    in_all: tuple[float, ...]


class Training:
    """A regression MLP whose state (weights, two moments, the best weights) has a given size."""

    def __init__(self, folder: Path, megabytes: float, rows: int, **training: Any) -> None:
        config = TrainingConfig(batch_size=BATCH, early_stopping={"enabled": False}, **training)
        generator = torch.Generator().manual_seed(0)
        columns = {"x": torch.randn(rows, FEATURES, generator=generator), "y": torch.randn(rows, generator=generator)}
        passes = {"val": ArrayPass({name: column[:1000] for name, column in columns.items()}, 500)}
        engine = EagerEngine(
            seeded_model(lambda: mlp(megabytes), MEMBER), Regression(), config, MEMBER, passes, torch.device("cpu")
        )
        self._data = EngineAndFeed(engine, ArrayFeed(columns, MEMBER, BATCH, 1))
        self._trainees = [Trainee(member=MEMBER, training=config)]
        self.journal = Journal(folder / "logs", "c0")
        self.saver = Saver(Store(folder / "store"), config.save, {"log": self.journal}, {}, self.journal.sync)
        self._learner = GradientLearner(saver=self.saver, control=LoopControl())
        self._learner.prepare(self._data, self._trainees)
        assert self._learner.cohort is not None
        self.cohort = self._learner.cohort

    def epochs(self) -> list[float]:
        """Train to the end; return the seconds of every epoch but the first."""
        at = []
        with closing(self.journal), closing(self._learner.fit(self._data, self._trainees)) as records:
            for record in records:
                self.journal.write(record)
                if record.split == "val":
                    at.append(time.perf_counter())
        return [after - before for before, after in pairwise(at)]


def mlp(megabytes: float) -> nn.Module:
    """A model of a quarter of that: the moments of AdamW and the best weights are as large again each."""
    parameters = megabytes * 1e6 / 4 / 4
    width = round((parameters + (FEATURES / 2) ** 2) ** 0.5 - FEATURES / 2)
    return nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))


def time_saves(folder: Path, megabytes: float, repeats: int, *, asynchronous: bool) -> Saves:
    """Save every ten steps, asked for as the loop does; each save is done before the next steps begin."""
    save = {"every_seconds": None, "every_steps": STEPS_APART, "asynchronous": asynchronous}
    training = Training(folder, megabytes, rows=640, save=save)
    training.cohort.engine.keep(0)
    blocked, cpu, in_all = [], [], []
    for _ in range(repeats):
        training.cohort.step()
        while not training.saver.due(training.cohort):
            training.cohort.step()
        started, cpu_started = time.perf_counter(), time.thread_time()
        training.saver.save(training.cohort)
        blocked.append(1e3 * (time.perf_counter() - started))
        cpu.append(1e3 * (time.thread_time() - cpu_started))
        training.saver.close()  # waits
        in_all.append(1e3 * (time.perf_counter() - started))
    training.journal.close()
    size = count_bytes(training.cohort.state_dict()) / 1e6
    return Saves(megabytes=size, asynchronous=asynchronous, blocked=(*blocked,), cpu=(*cpu,), in_all=(*in_all,))


def time_share(folder: Path, rounds: int, epochs: int) -> dict[str, list[float]]:
    """Seconds per epoch of a run of 1 MB, saved each epoch and never; processor seconds of all threads likewise."""
    rows = BATCH * steps_per_second(folder / "pace")
    found: dict[str, list[float]] = {name: [] for name in ("saved", "unsaved", "saved_cpu", "unsaved_cpu")}
    for i in range(rounds):
        arms = (("saved", 1), ("unsaved", None))
        for name, every in arms if i % 2 else arms[::-1]:
            save = {"every_seconds": None, "every_epochs": every}
            training = Training(folder / f"{name}{i}", 1, rows, num_epochs=epochs, save=save)
            started = time.process_time()
            found[name] += training.epochs()
            found[f"{name}_cpu"].append((time.process_time() - started) / epochs)
    return found


def steps_per_second(folder: Path) -> int:
    training = Training(folder, 1, rows=64 * BATCH)
    for _ in range(200):
        training.cohort.step()
    started = time.perf_counter()
    for _ in range(1000):
        training.cohort.step()
    training.journal.close()
    return max(1, round(1000 / (time.perf_counter() - started)))


def report(
    saves: Sequence[Saves], share: Mapping[str, Sequence[float]], environment: Mapping[str, Any]
) -> dict[str, Any]:
    """The JSON of the benchmark."""
    seconds = {name: statistics.median(values) for name, values in share.items()}
    percent = 100 * (seconds["saved"] / seconds["unsaved"] - 1)
    largest = max((s for s in saves if s.asynchronous), key=lambda s: s.megabytes)
    return {
        "name": "checkpoint",
        "unit": "ms",
        "results": {
            f"{s.megabytes:.0f} MB, {'asynchronous' if s.asynchronous else 'at once'}": {
                "blocked": statistics.median(s.blocked),
                "blocked_worst": max(s.blocked),
                "blocked_first": s.blocked[0],
                "blocked_cpu": statistics.median(s.cpu),
                "blocked_cpu_worst": max(s.cpu),
                "in_all": statistics.median(s.in_all),
            }
            for s in saves
        },
        "share_percent": percent,
        "share_cpu_percent": 100 * (seconds["saved_cpu"] / seconds["unsaved_cpu"] - 1),
        "seconds_per_epoch": {name: seconds[name] for name in ("saved", "unsaved")},
        "bars": {
            f"blocked at {largest.megabytes:.0f} MB, worst save": BLOCKED_MS.verdict(max(largest.blocked)),
            "share of a run of 1 MB, %": SHARE_PERCENT.verdict(percent),
        },
        "rows": [asdict(s) for s in saves],
        "environment": dict(environment),
    }


def table(result: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    lines = [f"{'ms per save':<26}{'blocked':>9}{'worst':>8}{'first':>8}{'cpu':>8}{'in all':>9}"]
    for name, row in result["results"].items():
        cells = [row[key] for key in ("blocked", "blocked_worst", "blocked_first", "blocked_cpu", "in_all")]
        lines.append(f"{name:<26}" + "".join(f"{cell:>{n}.1f}" for cell, n in zip(cells, (9, 8, 8, 8, 9), strict=True)))
    seconds = result["seconds_per_epoch"]
    lines += [
        "",
        f"epochs of {seconds['unsaved']:.3f} s, {seconds['saved']:.3f} s with a save of 1 MB each: "
        f"{result['share_percent']:+.2f} % (processor time {result['share_cpu_percent']:+.2f} %)",
        *(f"{name}: {verdict}" for name, verdict in result["bars"].items()),
    ]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="x.py bench checkpoint", description=__doc__.splitlines()[0])
    json_target(parser)
    parser.add_argument("--quick", action="store_true", help="fewer saves and epochs: a look, not a result")
    parser.add_argument("--folder", type=Path, help="where to save (default: the system's temporary folder)")
    args = parser.parse_args(argv)
    repeats, rounds, epochs = (5, 2, 4) if args.quick else (25, 8, 9)
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    environment = describe(rounds=rounds, epochs=epochs, threads=1)
    with tempfile.TemporaryDirectory(prefix="bench-checkpoint-", dir=args.folder) as name:
        folder = Path(name)
        saves = [
            time_saves(folder / f"{size}-{asynchronous}", size, repeats, asynchronous=asynchronous)
            for size in MEGABYTES
            for asynchronous in (True, False)
        ]
        share = time_share(folder, rounds, epochs)
    result = report(saves, share, environment)
    print(f"{environment['cpu']}, one core; the load before was {environment['load_before']:.1f}\n\n{table(result)}")
    write_json(args.json, result)
    return 1 if any("MISSED" in verdict for verdict in result["bars"].values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
