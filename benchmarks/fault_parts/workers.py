"""A worker that is killed or frozen: tried again from its last checkpoint, or its members are given up by name."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paceline.launch import workers as launched
from paceline.run.folder import Run

from .forking import run_forked
from .kills import WHOLE, prepare
from .outcome import Row
from .runs import Tiny, differences
from .stopped import WORKERS, processes_of

LIMIT_SECONDS = 10.0
VICTIM = "seed1"  # the cohort that is hit


@dataclass
class Attack:
    """Hits the workers of one cohort of a run, from a thread: `number` to so many of them."""

    run: Run
    number: signal.Signals
    times: int = 1
    hit: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # from a hit to the next worker, infinite where none came

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        if not _wait(lambda: self._saved() and bool(self._others()), 60):
            return
        for _ in range(self.times):
            if not _wait(lambda: bool(self._others()), 20):
                return
            victim = self._others()[0]
            os.kill(victim, self.number)
            self.hit.append(victim)
            began = time.monotonic()
            came = _wait(lambda: bool(self._others()) or self._over(), LIMIT_SECONDS)
            self.seconds.append(time.monotonic() - began if came else float("inf"))
            if not came:
                os.kill(victim, signal.SIGKILL)  # so that the run ends

    def _saved(self) -> bool:
        return any((self.run.path / "checkpoints" / VICTIM).glob("step-*/manifest.json"))

    def _over(self) -> bool:
        return (self.run.path / "summary.json").exists()

    def _others(self) -> list[int]:
        """Workers of the cohort that were not hit yet."""
        return [pid for pid in processes_of(self.run.path) if pid not in self.hit and _trains(pid)]


def worker_faults(kills: int, freezes: int, deaths: int, *, folder: Path) -> Row:
    """Kill and freeze workers so often, and let so many cohorts die twice."""
    row = Row(name="worker killed or frozen", aim="answered in 10 s", planned=kills + freezes + deaths)
    tiny = Tiny(folder=folder, engine="eager", num_epochs=24, more=WORKERS)
    prepare(tiny)
    plan = [(signal.SIGKILL, 1)] * kills + [(signal.SIGSTOP, 1)] * freezes + [(signal.SIGKILL, 2)] * deaths
    for index, (number, times) in enumerate(plan):
        _one(row, tiny, f"hit{index}", number, times)
    if freezes:
        broken = Row(name="", aim="")
        _one(broken, tiny, "unwatched", signal.SIGSTOP, 1, _unwatched)
        row.broken["nobody watches for frozen workers"] = broken.lost
    return row.judge(all_fired=row.fired == row.planned, all_answered=row.landed == row.fired)


def _one(
    row: Row,
    tiny: Tiny,
    name: str,
    number: signal.Signals,
    times: int,
    broken: Callable[[], Any] = nullcontext,
) -> None:
    run = tiny.run(name)
    attack = Attack(run=run, number=number, times=times)
    threads: list[threading.Thread] = []
    with broken():
        ended = run_forked(lambda: tiny.start(name), started=lambda pid: threads.append(attack.start()))
    threads[0].join(70)
    at = f"{name}, {number.name} x {times}"
    if len(attack.hit) < times or ended.code != 0:
        row.lose(f"{at}: hit {len(attack.hit)} times; {ended.error} {' '.join(ended.text.split())}")
        tiny.remove(name)
        return
    row.fired += 1
    slowest = max(attack.seconds)
    row.landed += slowest <= LIMIT_SECONDS
    row.notes["seconds to the answer, at most"] = max(
        round(slowest, 2), row.notes.get("seconds to the answer, at most", 0.0)
    )
    if slowest > LIMIT_SECONDS:
        row.lose(f"{at}: no answer in {LIMIT_SECONDS:.0f} s")
    _judge(row, tiny, name, times, at)
    if processes_of(run.path):
        row.lose(f"{at}: processes left: {processes_of(run.path)}")
    tiny.remove(name)


def _judge(row: Row, tiny: Tiny, name: str, times: int, at: str) -> None:
    run = tiny.run(name)
    if times == 1:
        row.outcomes["tried again, same bits"] += 1
        for difference in differences(run, tiny.run(WHOLE)):
            row.lose(f"{at}: {difference}")
        return
    reasons = {member["id"]: member["stopped"] for member in run.summary["members"]}
    row.outcomes[f"given up: {reasons.get(VICTIM)}"] += 1
    if run.summary["failed"] != [VICTIM] or "worker died" not in str(reasons.get(VICTIM)):
        row.lose(f"{at}: failed {run.summary['failed']}, {reasons}")


def _trains(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return VICTIM.encode() in words


def _wait(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def _unwatched() -> Iterator[None]:
    """The known-broken variant: silence is no sign of anything."""
    before = launched.FROZEN_SECONDS
    launched.FROZEN_SECONDS = 1e9
    try:
        yield
    finally:
        launched.FROZEN_SECONDS = before
