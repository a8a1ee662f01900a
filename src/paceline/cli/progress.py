"""Live progress: a line per cohort in training and a table of its members; plain lines when not a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from paceline.cli.standing import Standing
from paceline.run.execute import Observer
from paceline.types import Cohort, Record

PLAIN_SECONDS = 10.0  # between two plain lines of one cohort
TABLE = (("member", "left"), ("epoch", "right"), ("now", "right"), ("best", "right"), ("at", "right"), ("", "left"))


@contextmanager
def progress_view(console: Console) -> Iterator[Observer]:
    """Return an observer that shows a run's progress on the console."""
    if not console.is_terminal:
        yield PlainView(console)
        return
    view = LiveView(console)
    with Live(get_renderable=view.render, console=console, refresh_per_second=4, transient=True):
        yield view


class LiveView:
    """One live line per cohort in training, and below them a table of its members; what ended stays above."""

    def __init__(self, console: Console) -> None:
        # On a narrow terminal the values give way, not the bar or the time that is left.
        room = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[note]}", markup=False, table_column=room),
            TimeRemainingColumn(compact=True),
            console=console,
            expand=True,
        )
        self._training: dict[str, tuple[TaskID, Standing]] = {}

    def start(self, cohort: Cohort, number: int, of: int, num_epochs: int, resumed_at: int) -> None:
        name = f"{cohort.id} ({number} of {of})"
        if cohort.id in self._training:  # its worker died and was started again
            self._progress.remove_task(self._training[cohort.id][0])
        task = self._progress.add_task(name, total=num_epochs, completed=resumed_at, note="")
        self._training[cohort.id] = (task, Standing(cohort, resumed_at))

    def record(self, cohort: str, record: Record) -> None:
        task, standing = self._training[cohort]
        standing.see(record)
        if record.split == "val":
            self._progress.update(task, completed=record.epoch, note=standing.text(record))

    def end(self, cohort: str, skipped: bool) -> None:
        if cohort in self._training:
            task, standing = self._training.pop(cohort)
            self._progress.remove_task(task)
            self._console.print(Text(standing.last_words()), soft_wrap=True)
        elif skipped:
            self._console.print(Text(f"{cohort}: done before"), soft_wrap=True)

    def render(self) -> RenderableType:
        """Return what the live part of the screen shows now."""
        standings = [standing for _, standing in self._training.values()]
        table = member_table(standings, most=self._console.height - len(standings) - 4)
        return self._progress if table is None else Group(self._progress, table)


def member_table(standings: Iterable[Standing], most: int) -> Table | None:
    """Return a table of the members in training, in `most` rows; None where there are none to tell apart."""
    lines = [(line, standing.is_active(line)) for standing in standings for line in standing.lines.values()]
    if len(lines) < 2 or most < 2:
        return None
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, side in TABLE:
        table.add_column(name, justify="left" if side == "left" else "right", no_wrap=True)
    for line, active in lines if len(lines) <= most else lines[: most - 1]:
        now = f"{line.metric} {line.now:.4f}"
        state = "" if active else "ended"
        table.add_row(Text(line.member), str(line.epoch), now, f"{line.best:.4f}", str(line.best_epoch), state)
    if len(lines) > most:
        table.add_row(Text(f"and {len(lines) - most + 1} more"))
    return table


class PlainView:
    """A line at the start, every ten seconds, and at the end of a cohort."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._training: dict[str, Standing] = {}

    def start(self, cohort: Cohort, number: int, of: int, num_epochs: int, resumed_at: int) -> None:
        self._training[cohort.id] = Standing(cohort, resumed_at)
        together = f"{len(cohort.members)} members together, " if len(cohort.members) > 1 else ""
        going_on = f", going on after epoch {resumed_at}" if resumed_at else ""
        self._say(f"{cohort.id} ({number} of {of}): {together}{num_epochs} epochs{going_on}")

    def record(self, cohort: str, record: Record) -> None:
        standing = self._training[cohort]
        standing.see(record)
        if record.split == "val" and time.monotonic() - standing.said >= PLAIN_SECONDS:
            standing.said = time.monotonic()
            self._say(f"{cohort} epoch {record.epoch}  {standing.text(record)}")

    def end(self, cohort: str, skipped: bool) -> None:
        if skipped:
            self._say(f"{cohort}: done before")
        elif cohort in self._training:
            self._say(self._training.pop(cohort).last_words())

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)
