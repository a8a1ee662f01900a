"""SIGTERM and SIGINT to a command that trains in two workers: the right exit code, no process left, the same bits.

The runs save at a signal and at their end only, so that a checkpoint shows that the signal was obeyed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from paceline.api.runs import resume
from paceline.checkpoint.store import Store
from paceline.cli import main
from paceline.launch.workers import Worker
from paceline.run.folder import Run

from .forking import Ended, run_forked
from .kills import WHOLE, prepare
from .outcome import Row
from .runs import Tiny, cohorts, differences

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
WORKERS = ("training.processes=2", "members.seeds=[1,2]")
UNSAVED = ("training.save.every_steps=null", "training.save.every_seconds=null")
SLOWEST = "seconds from the signal to the end, at most"
ATTEMPTS = 6  # to catch a known-broken variant
TRAINING_SECONDS = 0.3  # within which a signal comes that is aimed at the training


def stop_workers(count: int, *, seed: int, folder: Path) -> Row:
    """Send so many signals to commands, every other one while workers train, the others at any instant."""
    row, rng = Row(name="SIGTERM/SIGINT, two workers", aim="while they trained", planned=count), random.Random(seed)
    tiny = Tiny(folder=folder, engine="eager", num_epochs=60, more=(*WORKERS, *UNSAVED))
    seconds = prepare(tiny).run
    for attempt in range(3 * count):
        if row.fired < count:
            after = None if attempt % 2 else rng.uniform(0.1, 0.9) * seconds
            _one(row, tiny, f"stopped{attempt}", rng, rng.choice(list(CODES)), after)
    for name, variant in BROKEN.items():
        other = Row(name="", aim="")
        for attempt in range(ATTEMPTS):
            if not other.lost:
                _one(other, tiny, f"broken{attempt}", rng, signal.SIGTERM, None, variant)
        row.broken[name] = other.lost
    return row.judge(all_fired=row.fired >= count, some_while_they_trained=row.landed >= max(1, count // 3))


def _one(
    row: Row, tiny: Tiny, name: str, rng: random.Random, number: signal.Signals, after: float | None,
    variant: Callable[[], Any] = nullcontext,
) -> None:  # fmt: skip
    """Send one signal `after` so many seconds; None: while workers train."""
    run, seen = tiny.run(name), dict[str, float]()
    aim: dict[str, Any] = {"after_seconds": after}
    if after is None:
        aim = {"ready": lambda: trained(run), "after_seconds": rng.uniform(0, TRAINING_SECONDS)}

    def sending() -> None:
        seen["training"], seen["workers"] = trained(run), len(processes_of(run.path))
        seen["at"] = time.monotonic()

    with variant():
        ended = run_forked(lambda: _command(tiny, name), send=number, sending=sending, **aim)
    if not ended.sent or ended.code == 0:
        _wait_for_workers(run)
        tiny.remove(name)
        return  # it was over
    row.fired += 1
    row.landed += seen["workers"] > 0 and seen["training"] > 0
    where = "training" if seen["training"] else "starting"
    row.outcomes[f"{number.name} to {seen['workers']:.0f} workers, {where}: exit code {ended.code}"] += 1
    row.notes[SLOWEST] = max(round(time.monotonic() - seen["at"], 2), row.notes.get(SLOWEST, 0.0))
    _check(row, tiny, name, number, ended)
    tiny.remove(name)


def _check(row: Row, tiny: Tiny, name: str, number: signal.Signals, ended: Ended) -> None:
    run, at = tiny.run(name), f"{name}, {number.name}"
    early = ended.signal == number and not run.is_run()  # before the command has handlers; a shell sees the same code
    if ended.code != CODES[number] and not early:
        row.lose(f"{at}: exit code {ended.code}, signal {ended.signal}, {ended.error} {' '.join(ended.text.split())}")
    left = processes_of(run.path)
    if left:
        row.lose(f"{at}: processes left: {left}")
        _wait_for_workers(run)
    if not run.is_run():
        return
    for cohort in cohorts(run):
        store = Store(run.path / "checkpoints" / cohort)
        damaged = [reason for step in store.steps() if (reason := store.verify(step))]
        if damaged or (trained(run, cohort) and not store.steps()):
            row.lose(f"{at}: {cohort} has trained and has no verified save: {damaged}")
    again = run_forked(lambda: resume(run.path))
    if again.code != 0:
        row.lose(f"{at}: does not resume: {again.error} {' '.join(again.text.split())}")
        return
    for difference in differences(run, tiny.run(WHOLE)):
        row.lose(f"{at}: {difference}")


def trained(run: Run, cohort: str = "*") -> bool:
    """Whether a cohort of a run, or any, has an evaluation on record."""
    return any(path.stat().st_size for path in (run.path / "logs").glob(f"{cohort}.jsonl"))


def _command(tiny: Tiny, name: str) -> None:
    """The command line, in this process."""
    for number in CODES:
        signal.signal(number, signal.SIG_DFL)  # as a shell starts it
    sys.argv = ["paceline", "train", "task=pain", *tiny.overrides(), "--runs", str(tiny.folder), "--name", name]
    main()


def processes_of(run: Path) -> list[int]:
    """Process ids of the workers that train a run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"paceline.worker" in words and str(run).encode() in words:
            found.append(int(entry.name))
    return found


def _wait_for_workers(run: Run, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while processes_of(run.path) and time.monotonic() < end:
        time.sleep(0.05)


@contextmanager
def _telling(stop: Callable[[Worker], None]) -> Iterator[None]:
    """A known-broken variant of what the command does with a worker when it is told to stop."""
    before = Worker.stop
    Worker.stop = stop  # type: ignore[method-assign]
    try:
        yield
    finally:
        Worker.stop = before  # type: ignore[method-assign]


def _kill(worker: Worker) -> None:
    if worker.process is not None:
        worker.process.kill()


BROKEN: dict[str, Callable[[], Any]] = {
    "workers that are killed, not asked to save": lambda: _telling(_kill),
    "a command that leaves before its workers": lambda: _telling(lambda worker: os._exit(CODES[signal.SIGTERM])),
}
