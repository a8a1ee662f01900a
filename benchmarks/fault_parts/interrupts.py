"""SIGTERM and SIGINT at random instants of every phase of the command: save, exit code, no orphan, the same bits."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paceline.report
from paceline.api import runs as api
from paceline.cli import main
from paceline.launch.signals import EXIT_CODES
from paceline.run import execute
from paceline.train.cohort import CohortTraining
from paceline.train.control import LoopControl
from paceline.train.engine_cohort import CohortEngine
from paceline.train.engine_eager import EagerEngine
from paceline.train.saving import Saver

from .forking import Board, run_forked
from .outcome import Row
from .runs import Tiny, differences, newest

PHASES = ("start-up", "step", "evaluation", "save", "report")
GRACE_SECONDS = 10.0  # far more than a step, a batch or a save of these runs takes
LINGER_SECONDS = 0.003  # added to every visit of a phase, so that a signal can land in it
EPOCHS = 6


def interrupts(engine: str, count: int, *, seed: int, folder: Path, broken: bool = True) -> Row:
    """Send so many signals to runs of one engine, each aimed at one phase; resume every run and compare."""
    tiny, rng = Tiny(folder=folder / engine, engine=engine, num_epochs=EPOCHS), random.Random(seed)
    tiny.write_data()
    Tiny(folder=tiny.folder, engine=engine, num_epochs=1).start("warm")  # a child then has all imports
    paceline.report.write(tiny.folder / "warm")
    assert run_forked(lambda: tiny.start("whole")).code == 0
    row = Row(name=f"SIGTERM/SIGINT, {engine}", aim="in the phase aimed at", planned=count)
    for index in range(count):
        _one(row, tiny, f"run{index}", PHASES[index % len(PHASES)], list(EXIT_CODES)[index % 2], rng)
    if broken:
        other = Row(name="", aim="")
        for index in range(6):
            _one(other, tiny, f"broken{index}", "step", signal.SIGTERM, rng, _never_saves)
            if other.lost:
                break
        row.broken["a loop that ends without a save"] = other.lost
    return row.judge(all_fired=row.fired >= 0.9 * count, most_landed=row.landed >= 0.8 * row.fired)


def _one(
    row: Row, tiny: Tiny, name: str, phase: str, number: signal.Signals, rng: random.Random,
    patch: Callable[[], object] = lambda: None,
) -> None:  # fmt: skip
    """Start a run, send a signal at one visit of a phase, look at what is left, resume it, compare it."""
    numbers = Board("phase", "seen", "at", *PHASES)
    numbers["phase"], numbers["seen"] = -1, -1
    visit = rng.randint(1, {"step": 15, "evaluation": EPOCHS, "save": 4}.get(phase, 1))
    children: list[int] = []

    def child() -> None:
        patch()
        with _phases(numbers):
            _command("train", "task=pain", *tiny.overrides(), "--runs", str(tiny.folder), "--name", name)

    ended = run_forked(
        child, send=number, ready=lambda: numbers[phase] >= visit and numbers["phase"] == PHASES.index(phase),
        after_seconds=rng.uniform(0, LINGER_SECONDS), poll_seconds=0.0003, started=children.append,
    )  # fmt: skip
    fired = numbers["seen"] >= 0
    row.fired += fired
    row.landed += numbers["seen"] == PHASES.index(phase)
    row.outcomes[f"{PHASES[numbers['seen']]} -> exit {ended.code}" if fired else "too late"] += 1
    wanted = EXIT_CODES[number] if fired else 0
    if ended.code != wanted:
        row.lose(f"{name}: {number.name} in {phase}: exit {ended.code} ({ended.signal}), not {wanted}: {ended.text}")
    if _session(children[0]):
        row.lose(f"{name}: processes were left behind")
    run = tiny.run(name)
    saved = newest(run) if run.is_run() else 0
    if fired and numbers["seen"] in (1, 2, 3) and saved < numbers["at"]:
        row.lose(f"{name}: the signal came at step {numbers['at']}, the last save is of step {saved}")
    if not run.is_run():
        if list(tiny.folder.glob(f".{name}*")):
            row.lose(f"{name}: half a run folder was left")
        tiny.start(name)
    elif run_forked(lambda: _command("resume", str(run.path))).code != 0:
        row.lose(f"{name}: it could not be resumed")
        return
    found = differences(run, tiny.run("whole"))
    if found:
        row.lose(f"{name}: {number.name} in {phase}: {', '.join(found[:3])}")
    tiny.remove(name)


def _command(*words: str) -> None:
    sys.argv = ["paceline", *words]
    main()


@contextmanager
def _phases(numbers: Board) -> Iterator[None]:
    """Write down in which phase this process is, and in which one it was told to end. For a forked child."""
    os.setsid()
    watched: Sequence[tuple[Any, str, str]] = (
        (api, "build", "start-up"), (CohortTraining, "step", "step"), (EagerEngine, "evaluate", "evaluation"),
        (CohortEngine, "evaluate", "evaluation"), (Saver, "save", "save"), (execute, "finish", "report"),
    )  # fmt: skip
    told = LoopControl.interrupt

    def hook(owner: Any, name: str, phase: str) -> None:
        real = getattr(owner, name)

        def visited(*args: Any, **options: Any) -> Any:
            before, numbers["phase"] = numbers["phase"], PHASES.index(phase)
            numbers[phase] += 1
            try:
                time.sleep(LINGER_SECONDS)
                return real(*args, **options)
            finally:
                numbers["phase"] = before
                numbers["at"] = args[0].at if phase == "step" else numbers["at"]

        setattr(owner, name, visited)

    def interrupt(self: LoopControl, exit_code: int) -> None:
        numbers["seen"] = max(numbers["phase"], -1)
        told(self, exit_code)

    for owner, name, phase in watched:
        hook(owner, name, phase)
    LoopControl.interrupt = interrupt  # type: ignore[method-assign]
    yield


def _never_saves() -> None:
    """The known-broken variant: the loop ends at a signal and saves nothing."""
    honest = Saver.save

    def save(self: Saver, cohort: CohortTraining, *, awaited: bool = False) -> None:
        if not awaited or not cohort.active():
            honest(self, cohort, awaited=awaited)

    Saver.save = save  # type: ignore[method-assign]


def _session(leader: int) -> list[int]:
    """Processes of a session that still live."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[3]) == leader and after_name[0] != "Z":
            found.append(int(entry.name))
    return found
