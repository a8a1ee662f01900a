"""SIGKILL at random instants of real runs, each killed again and again: the bits of a run that was never killed."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paceline.api.runs import resume
from paceline.checkpoint.store import Store

from .forking import Board, Ended, run_forked
from .outcome import Row
from .runs import EVERY, Tiny, board, differences, newest, watch

LIVES = 10  # kills of one run, before it may end
AIMED = 0.6  # share of the kills that wait for a save
WHOLE = "whole"  # the run that is never killed


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a run takes here, and one save of it, in seconds; measured, since it decides when to kill."""

    run: float
    save: float


def sigkill(engine: str, kills: int, in_saves: int, *, seed: int, folder: Path, broken: bool = True) -> Row:
    """Kill runs of one engine so often, `in_saves` times inside a save; and with a broken saver until it is caught."""
    tiny = Tiny(folder=folder / engine, engine=engine)
    pace = prepare(tiny)
    row = Row(name=f"SIGKILL, {engine}", aim="inside a save", planned=kills)
    _until(row, tiny, pace, random.Random(seed), lambda: row.fired >= kills and row.landed >= in_saves, 3 * kills)
    if broken:
        other = Row(name="", aim="")
        _until(other, tiny, pace, random.Random(seed), lambda: other.lost > 0, 3 * kills, in_place)
        row.broken["in-place torch.save"] = other.lost
        row.notes["kills until the broken saver was found out"] = other.fired
    return row.judge(all_kills_fired=row.fired >= kills, enough_inside_a_save=row.landed >= in_saves)


def prepare(tiny: Tiny) -> Pace:
    """Train the reference in a child, after one run here that imports everything; return how long it takes."""
    tiny.write_data()
    Tiny(folder=tiny.folder, engine=tiny.engine, num_epochs=1, more=tiny.more).start("warm")
    numbers, spent = board(), Board("microseconds")
    started = time.monotonic()
    with watch(numbers), _timed(spent):  # a child inherits the hooks
        ended = run_forked(lambda: tiny.start(WHOLE))
    assert ended.code == 0, ended
    return Pace(run=time.monotonic() - started, save=spent["microseconds"] / 1e6 / max(1, numbers["ended"]))


def _until(
    row: Row,
    tiny: Tiny,
    pace: Pace,
    rng: random.Random,
    enough: Callable[[], bool],
    most: int,
    saver: Callable[[], Any] = nullcontext,
) -> None:
    """Kill one run after another until it is enough, or so many kills were tried."""
    number = 0
    while not enough() and sum(row.outcomes.values()) < most:
        number += 1
        _one_run(row, tiny, f"killed{number}", pace, rng, enough, saver)
        tiny.remove(f"killed{number}")


def _one_run(
    row: Row,
    tiny: Tiny,
    name: str,
    pace: Pace,
    rng: random.Random,
    enough: Callable[[], bool],
    saver: Callable[[], Any],
) -> None:
    """Kill a run in up to ten lives, let it end, and compare."""
    numbers, run = board(), tiny.run(name)
    reached = acked = 0
    with saver(), watch(numbers):
        for life in range(LIVES + 1):
            begin = (lambda: tiny.start(name)) if not run.is_run() else (lambda: resume(run.path))
            numbers["resumed"] = -1
            last = life == LIVES or enough()
            ended = run_forked(begin) if last else _killed(begin, numbers, run.is_run, pace, rng)
            row.outcomes[_words(ended)] += 1
            _check_life(row, numbers, reached, acked)
            if ended.signal == signal.SIGKILL:
                row.fired += 1
                row.landed += numbers["begun"] != numbers["ended"]
            numbers["ended"] = numbers["begun"]
            reached, acked = numbers["at"], numbers["acked"]
            if ended.signal is None:
                break
            if saver is nullcontext and newest(run) < acked:
                row.lose(f"{name}: step {acked} was saved, step {newest(run)} is what verifies")
    if ended.code != 0:
        row.lose(f"{name}: {ended.error or ended.code}: {' '.join(ended.text.split())}")
        return
    for difference in differences(run, tiny.run(WHOLE)) if saver is nullcontext else ():
        row.lose(f"{name}: {difference}")


def _check_life(row: Row, numbers: Board, reached: int, acked: int) -> None:
    """Judge where a life went on: at a step > 0 once there is a checkpoint, at most two intervals back."""
    went_on = numbers["resumed"]
    if went_on < 0:  # killed before it, or nothing to load
        return
    row.notes["resumes"] = row.notes.get("resumes", 0) + 1
    row.notes["steps recomputed, at most"] = max(row.notes.get("steps recomputed, at most", 0), reached - went_on)
    row.notes["steps recomputed, in all"] = row.notes.get("steps recomputed, in all", 0) + reached - went_on
    if acked and not went_on:
        row.lose(f"step {acked} was saved, and training began again at 0")
    if went_on < acked:
        row.lose(f"step {acked} was saved, and training went on at {went_on}")
    if reached - went_on > 2 * EVERY and acked:
        row.lose(f"went on at step {went_on} after {reached}: more than two save intervals of {EVERY}")


def _killed(
    begin: Callable[[], object], numbers: Board, exists: Callable[[], bool], pace: Pace, rng: random.Random
) -> Ended:
    if rng.random() < AIMED:
        save = numbers["begun"] + rng.randint(1, 3)
        return run_forked(begin, send=signal.SIGKILL, ready=lambda: numbers["begun"] >= save,
                          after_seconds=rng.uniform(0, pace.save), poll_seconds=0.0002)  # fmt: skip
    return run_forked(begin, send=signal.SIGKILL, ready=exists, after_seconds=rng.uniform(0, 0.3) * pace.run)


def _words(ended: Ended) -> str:
    if ended.signal is not None:
        return "killed"
    return "ended before the kill, or left alone" if ended.code == 0 else f"failed: {ended.error}"


@contextmanager
def _timed(spent: Board) -> Iterator[None]:
    """Add up what saves take."""
    save = Store.save

    def timed(self: Store, *args: Any, **options: Any) -> object:
        started = time.monotonic()
        try:
            return save(self, *args, **options)
        finally:
            spent["microseconds"] += int(1e6 * (time.monotonic() - started))

    Store.save = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        Store.save = save  # type: ignore[method-assign]


@contextmanager
def in_place() -> Iterator[None]:
    """The known-broken saver: `torch.save` over the file that is there."""
    before = Store.save, Store.recover

    def save(self: Store, step: int, state: Mapping[str, Any], **options: Any) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save({"step": step, "state": state}, self.folder / "state.pt")
        return self.folder

    def recover(self: Store) -> tuple[int, dict[str, Any]] | None:
        path = self.folder / "state.pt"
        if not path.exists():
            return None
        found = torch.load(path, weights_only=True)
        return found["step"], found["state"]

    Store.save, Store.recover = save, recover  # type: ignore[method-assign]
    try:
        yield
    finally:
        Store.save, Store.recover = before  # type: ignore[method-assign]
