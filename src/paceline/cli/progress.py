"""Live progress: one line for the cohort in training, a line for each that ended; plain lines when not a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from paceline.run.execute import Observer
from paceline.types import Cohort, Record, Value

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
    """One live line per cohort in training; a line for each that ended stays above them."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._cohorts = _Cohorts(console)

    def start(self, cohort: Cohort, number: int, of: int, num_epochs: int, resumed_at: int) -> None:
        self._cohorts.start(cohort, resumed_at)
        self._tasks[cohort.id] = self._progress.add_task(
            f"{cohort.id} ({number} of {of})", total=num_epochs, completed=resumed_at, note=""
        )

    def record(self, cohort: str, record: Record) -> None:
        self._cohorts.record(cohort, record)
        if record.split == "val":
            text = self._cohorts.text(cohort, record)
            self._progress.update(self._tasks[cohort], completed=record.epoch, note=text)

    def end(self, cohort: str, skipped: bool) -> None:
        if cohort in self._tasks:
            self._progress.remove_task(self._tasks.pop(cohort))
        self._cohorts.end(cohort, skipped)


class PlainView:
    """A line at the start, every ten seconds, and at the end of a cohort."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._cohorts = _Cohorts(console)
        self._said: dict[str, float] = {}

    def start(self, cohort: Cohort, number: int, of: int, num_epochs: int, resumed_at: int) -> None:
        self._cohorts.start(cohort, resumed_at)
        self._said[cohort.id] = time.monotonic()
        together = f"{len(cohort.members)} members together, " if len(cohort.members) > 1 else ""
        going_on = f", going on after epoch {resumed_at}" if resumed_at else ""
        line = f"{cohort.id} ({number} of {of}): {together}{num_epochs} epochs{going_on}"
        self._console.print(Text(line), soft_wrap=True)

    def record(self, cohort: str, record: Record) -> None:
        self._cohorts.record(cohort, record)
        if record.split == "val" and time.monotonic() - self._said[cohort] >= PLAIN_SECONDS:
            self._said[cohort] = time.monotonic()
            text = self._cohorts.text(cohort, record)
            self._console.print(Text(f"{cohort} epoch {record.epoch}  {text}"), soft_wrap=True)

    def end(self, cohort: str, skipped: bool) -> None:
        self._cohorts.end(cohort, skipped)


class _Cohorts:
    """What is known of the cohorts in training, in a few words."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        self._seen: dict[str, dict[str, Record]] = {}  # the latest validation record of each member
        self._best: dict[str, list[Record]] = {}
        self._epochs: dict[str, tuple[int, int]] = {}  # of the report before, and of this one

    def start(self, cohort: Cohort, resumed_at: int) -> None:
        self._started[cohort.id], self._sizes[cohort.id] = time.monotonic(), len(cohort.members)
        self._seen[cohort.id], self._best[cohort.id] = {}, []
        self._epochs[cohort.id] = (resumed_at, resumed_at)

    def record(self, cohort: str, record: Record) -> None:
        if record.split == "val":
            self._seen[cohort][record.member] = record
            if record.epoch > self._epochs[cohort][1]:
                self._epochs[cohort] = (self._epochs[cohort][1], record.epoch)
        if record.split == "best":
            self._best[cohort].append(record)

    def text(self, cohort: str, record: Record) -> str:
        """How training goes: the record's values; for several members their mean, and how many still train."""
        seen = self._seen[cohort]
        if self._sizes[cohort] == 1:
            return note([record])
        active = [r for r in seen.values() if r.epoch >= self._epochs[cohort][0]]
        return f"{len(active)} of {self._sizes[cohort]} active  {note(list(seen.values()))}"

    def end(self, cohort: str, skipped: bool) -> None:
        if skipped:
            self._console.print(Text(f"{cohort}: done before"), soft_wrap=True)
            return
        seconds = time.monotonic() - self._started[cohort]
        best = self._best[cohort]
        epochs = max((record.epoch for record in self._seen[cohort].values()), default=0)
        mean = "mean of the selected" if len(best) > 1 else "selected"
        selected = f"{mean}: {note(best)}" if best else "failed"
        members = f"{self._sizes[cohort]} members, " if self._sizes[cohort] > 1 else ""
        self._console.print(Text(f"{cohort}: {members}{epochs} epochs in {seconds:.1f} s, {selected}"), soft_wrap=True)


def note(records: Sequence[Record]) -> str:
    """Return the two validation values worth a glance: the loss and one metric, a well-known one if there is any."""
    first = records[0].values
    numbers = [name for name, value in first.items() if name != "loss" and _is_number(value)]
    known = [name for name in ("accuracy", "rmse") if name in numbers]
    shown = ["loss"] * _is_number(first.get("loss")) + (known or numbers)[:1]
    return "  ".join(f"val_{name} {_mean(records, name):.4g}" for name in shown)


def _mean(records: Sequence[Record], name: str) -> float:
    values = [value for record in records if isinstance(value := record.values.get(name), (int, float))]
    return sum(values) / len(values)


def _is_number(value: Value | None) -> bool:
    return isinstance(value, (int, float))
