"""Live progress: one line for the cohort in training, a line for each that ended; plain lines when not a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from paceline.run.execute import Observer
from paceline.types import Record, Value

PLAIN_SECONDS = 10.0  # between two plain lines of one cohort


@contextmanager
def progress_view(console: Console) -> Iterator[Observer]:
    """Return an observer that shows a run's progress on the console."""
    if not console.is_terminal:
        yield PlainView(console)
        return
    # On a narrow terminal the values give way, not the bar or the time that is left.
    room = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[note]}", markup=False, table_column=room),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        yield LiveView(console, progress)


class LiveView:
    """One live line; members that ended stay above it."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console, self._progress = console, progress
        self._task: TaskID | None = None
        self._ended = _Ended(console)

    def start(self, cohort: str, number: int, of: int, num_epochs: int, resumed_at: int) -> None:
        self._ended.start(resumed_at)
        description = f"{cohort} ({number} of {of})"
        self._task = self._progress.add_task(description, total=num_epochs, completed=resumed_at, note="")

    def record(self, record: Record) -> None:
        self._ended.record(record)
        if self._task is not None and record.split == "val":
            self._progress.update(self._task, completed=record.epoch, note=note(record))

    def end(self, cohort: str, skipped: bool) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self._ended.end(cohort, skipped)


class PlainView:
    """A line at the start, every ten seconds, and at the end of a cohort."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ended = _Ended(console)
        self._said = 0.0

    def start(self, cohort: str, number: int, of: int, num_epochs: int, resumed_at: int) -> None:
        self._ended.start(resumed_at)
        self._said = time.monotonic()
        going_on = f", going on after epoch {resumed_at}" if resumed_at else ""
        self._console.print(Text(f"{cohort} ({number} of {of}): {num_epochs} epochs{going_on}"), soft_wrap=True)

    def record(self, record: Record) -> None:
        self._ended.record(record)
        if record.split == "val" and time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            self._console.print(Text(f"{record.member} epoch {record.epoch}  {note(record)}"), soft_wrap=True)

    def end(self, cohort: str, skipped: bool) -> None:
        self._ended.end(cohort, skipped)


class _Ended:
    """The line that remains of a cohort."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started, self._epoch, self._best = time.monotonic(), 0, ""

    def start(self, resumed_at: int) -> None:
        self._started, self._epoch, self._best = time.monotonic(), resumed_at, ""

    def record(self, record: Record) -> None:
        self._epoch = max(self._epoch, record.epoch)
        if record.split == "best":
            self._best = note(record)

    def end(self, cohort: str, skipped: bool) -> None:
        if skipped:
            self._console.print(Text(f"{cohort}: done before"), soft_wrap=True)
            return
        seconds = time.monotonic() - self._started
        selected = f"selected: {self._best}" if self._best else "failed"
        self._console.print(Text(f"{cohort}: {self._epoch} epochs in {seconds:.1f} s, {selected}"), soft_wrap=True)


def note(record: Record) -> str:
    """Return the two validation values worth a glance: the loss and one metric, a well-known one if there is any."""
    numbers = [name for name, value in record.values.items() if name != "loss" and _is_number(value)]
    known = [name for name in ("accuracy", "rmse") if name in numbers]
    shown = ["loss"] * _is_number(record.values.get("loss")) + (known or numbers)[:1]
    return "  ".join(f"val_{name} {record.values[name]:.4g}" for name in shown)


def _is_number(value: Value | None) -> bool:
    return isinstance(value, (int, float))
