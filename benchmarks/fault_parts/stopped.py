"""SIGTERM and SIGINT to a command that trains in two workers: the right exit code, no process left, the same bits."""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path

from paceline.api.runs import resume
from paceline.checkpoint.store import Store
from paceline.cli import main

from .forking import Ended, run_forked
from .kills import WHOLE, prepare
from .outcome import Row
from .runs import Tiny, cohorts, differences

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
WORKERS = ("training.processes=2", "members.seeds=[1,2]")
SLOWEST = "seconds from the signal to the end, at most"


def stop_workers(count: int, *, seed: int, folder: Path) -> Row:
    """Send so many signals to commands at random instants."""
    row, rng = Row(name="SIGTERM/SIGINT, two workers", aim="while they trained", planned=count), random.Random(seed)
    tiny = Tiny(folder=folder, engine="eager", num_epochs=24, more=WORKERS)
    seconds = prepare(tiny).run
    for attempt in range(3 * count):
        if row.fired < count:
            _one(row, tiny, f"stopped{attempt}", rng.choice(list(CODES)), rng.uniform(0.1, 0.9) * seconds)
    return row.judge(all_fired=row.fired >= count)


def _one(row: Row, tiny: Tiny, name: str, number: signal.Signals, after: float) -> None:
    run, seen = tiny.run(name), dict[str, float]()

    def sending() -> None:
        seen["workers"], seen["at"] = len(processes_of(run.path)), time.monotonic()

    ended = run_forked(lambda: _command(tiny, name), send=number, after_seconds=after, sending=sending)
    if not ended.sent or ended.code == 0:
        tiny.remove(name)
        return  # it was over
    row.fired += 1
    row.landed += seen["workers"] > 0
    row.outcomes[f"{number.name} with {seen['workers']:.0f} workers: exit code {ended.code}"] += 1
    row.notes[SLOWEST] = max(round(time.monotonic() - seen["at"], 2), row.notes.get(SLOWEST, 0.0))
    _check(row, tiny, name, number, ended)
    tiny.remove(name)


def _check(row: Row, tiny: Tiny, name: str, number: signal.Signals, ended: Ended) -> None:
    run, at = tiny.run(name), f"{name}, {number.name}"
    early = ended.signal == number and not run.is_run()  # before the command has handlers; a shell sees the same code
    if ended.code != CODES[number] and not early:
        row.lose(f"{at}: exit code {ended.code}, signal {ended.signal}, {ended.error} {' '.join(ended.text.split())}")
    if processes_of(run.path):
        row.lose(f"{at}: processes left: {processes_of(run.path)}")
    if not run.is_run():
        return
    for cohort in cohorts(run):
        store = Store(run.path / "checkpoints" / cohort)
        trained = (run.path / "logs" / f"{cohort}.jsonl").exists()
        damaged = [reason for step in store.steps() if (reason := store.verify(step))]
        if damaged or (trained and not store.steps() and (run.path / "logs" / f"{cohort}.jsonl").stat().st_size):
            row.lose(f"{at}: {cohort} has no verified save: {damaged}")
    again = run_forked(lambda: resume(run.path))
    if again.code != 0:
        row.lose(f"{at}: does not resume: {again.error} {' '.join(again.text.split())}")
        return
    for difference in differences(run, tiny.run(WHOLE)):
        row.lose(f"{at}: {difference}")


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
