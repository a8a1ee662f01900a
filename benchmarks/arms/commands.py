"""Runs `paceline train` as a command of its own and reads from the run folder how long its epochs took.

The standard library alone. Commands run in the benchmarks' folder, each with an empty cache of the compiler.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished command."""

    run: Path
    seconds: float  # wall time of the whole command: start-up, compilation, report
    cpu_seconds: float  # of all its processes
    epoch_seconds: float  # of all members, after the first epoch
    epochs: int
    val_loss: float  # after the last epoch, mean over members
    plan: str  # in words

    def scaled(self, epochs: int) -> float:
        """Return the seconds of so many epochs: the missing ones at the time of those after the first."""
        return self.seconds + (epochs - self.epochs) * self.epoch_seconds


def side_by_side(commands: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str]) -> float:
    """Run commands at the same time, their output to files in `folder`; return when they were started, as time.time().

    Raises RuntimeError with the end of the output of one that fails; the others are ended.
    """
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled"), "PYTHONUNBUFFERED": "1"}
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    logs = [folder / f"output-{i}.txt" for i in range(len(commands))]
    started, running = time.time(), []
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("wb") as out:
                env = os.environ | quiet | cache | environment
                running.append(subprocess.Popen(list(command), cwd=BENCHMARKS, env=env, stdout=out, stderr=out))
        for process, log in zip(running, logs, strict=True):
            if process.wait() != 0:
                tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
                raise RuntimeError("\n".join(tail))
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
                process.wait()
    return started


def train_command(overrides: Sequence[str], folder: Path, name: str, *, config: Path | None = None) -> list[str]:
    """Return the words of `paceline train`; `config` is an earlier run's, whose plan is then reused."""
    base = ["--config", str(config)] if config else []
    return [sys.executable, "-m", "paceline", "train", *overrides, *base, "--runs", str(folder), "--name", name]


def train(overrides: Sequence[str], folder: Path, *, config: Path | None = None) -> Trained:
    """Run one command to its end. Raises RuntimeError as `side_by_side` does."""
    before = os.times()
    started = side_by_side([train_command(overrides, folder, "run", config=config)], folder, {})
    seconds, after = time.time() - started, os.times()
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return read(folder / "run", seconds, spent)


def train_shorter(use: Sequence[str], overrides: Sequence[str], epochs: int, folder: Path) -> Trained:
    """Train for fewer epochs by the plan that the whole training has; making the plan is not counted."""
    side_by_side([[sys.executable, "-m", "arms.plan_ahead", str(folder / "planned"), *use, *overrides]], folder, {})
    return train([*use, f"training.num_epochs={epochs}"], folder, config=folder / "planned" / "config.yaml")


def read(run: Path, seconds: float, cpu_seconds: float) -> Trained:
    """Return what the folder of a finished run says."""
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    times = {c["id"]: epoch_times(run / "logs" / f"{c['id']}.timing.csv") for c in plan["cohorts"]}
    losses = [last_loss(run / "members" / m / "history.csv") for c in plan["cohorts"] for m in c["members"]]
    waves = -(-len(times) // plan["processes"])
    return Trained(
        run=run,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        epoch_seconds=max(after_first(t) for t in times.values()) * waves,
        epochs=max(max(t) for t in times.values()),
        val_loss=statistics.fmean(losses),
        plan=in_words(plan),
    )


def epoch_times(path: Path) -> dict[int, float]:
    """Return the seconds at which each epoch of a cohort was over: that of its last member."""
    found: dict[int, float] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for _, _, epoch, seconds in csv.reader(lines):
            found[int(epoch)] = max(found.get(int(epoch), 0.0), float(seconds))
    return found


def after_first(times: Mapping[int, float]) -> float:
    """Seconds per epoch, the first one (which compiles) left out; NaN for a run of one epoch."""
    first, last = min(times), max(times)
    return (times[last] - times[first]) / (last - first) if last > first else float("nan")


def last_loss(history: Path) -> float:
    with history.open(encoding="utf-8", newline="") as lines:
        return float(list(csv.DictReader(lines))[-1]["val_loss"])


def in_words(plan: Mapping[str, object]) -> str:
    """Say what a plan.json holds: `2 x cohort of 16, compiled, 2 processes, 1 thread`."""
    cohorts = plan["cohorts"]
    assert isinstance(cohorts, list)
    first = cohorts[0]
    size = f"cohort of {len(first['members'])}" if first["engine"] == "cohort" else "eager"
    compiled = ", compiled" if first["compile"] else ""
    return f"{len(cohorts)} x {size}{compiled}, processes {plan['processes']}, threads {plan['threads']}"
