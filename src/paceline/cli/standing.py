"""How a cohort in training stands, in a few words, from the validation records seen so far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from paceline.train.config import lower_is_better
from paceline.types import Cohort, Record, Value

FAMILIAR = ("accuracy", "rmse")  # shown rather than others, where a task has them


@dataclass
class MemberLine:
    """One member by the metric that is shown, of which `best` is the best so far."""

    member: str
    metric: str
    epoch: int
    now: float
    best: float
    best_epoch: int

    def see(self, epoch: int, now: float) -> None:
        """Take the next value."""
        sign = -1 if lower_is_better(f"val_{self.metric}") else 1
        self.epoch, self.now = epoch, now
        if sign * now > sign * self.best or self.best != self.best:
            self.best, self.best_epoch = now, epoch


class Standing:
    """One cohort: its members' latest values, how many still train, how fast."""

    def __init__(self, cohort: Cohort, resumed_at: int) -> None:
        self.id, self.size = cohort.id, len(cohort.members)
        self.lines: dict[str, MemberLine] = {}
        self.said = self._started = time.monotonic()
        self._latest: dict[str, Record] = {}
        self._selected: list[Record] = []
        self._epochs = (resumed_at, resumed_at)  # of the report before, and of this one
        self._pace: tuple[float, int] | None = None  # the time of the first report, and the steps made by then

    def see(self, record: Record) -> None:
        """Take a record into account."""
        if record.split == "best":
            self._selected.append(record)
        if record.split != "val":
            return
        self._latest[record.member] = record
        if record.epoch > self._epochs[1]:
            self._epochs = (self._epochs[1], record.epoch)
        metric = shown(record)
        value = record.values[metric]
        assert isinstance(value, (int, float))
        line = self.lines.setdefault(
            record.member, MemberLine(record.member, metric, record.epoch, value, value, record.epoch)
        )
        line.see(record.epoch, value)

    def is_active(self, line: MemberLine) -> bool:
        """Whether the member still trains: it was in the last report but one, or later."""
        return line.epoch >= self._epochs[0]

    def text(self, record: Record) -> str:
        """The record's values; for several members their mean, how many still train, the best of all, the pace."""
        if self.size == 1:
            return "  ".join((*self._steps_per_second(), note([record])))
        active = sum(map(self.is_active, self.lines.values()))
        sign = -1 if lower_is_better(f"val_{shown(record)}") else 1
        best = max(self.lines.values(), key=lambda line: sign * line.best)
        parts = (f"{active}/{self.size} active", *self._steps_per_second(), note(list(self._latest.values())),
                 f"best {best.best:.4g} ({best.member})")  # fmt: skip
        return "  ".join(parts)

    def last_words(self) -> str:
        """What to say when training is over."""
        seconds = time.monotonic() - self._started
        epochs = max((record.epoch for record in self._latest.values()), default=0)
        mean = "mean of the selected" if len(self._selected) > 1 else "selected"
        selected = f"{mean}: {note(self._selected)}" if self._selected else "failed"
        members = f"{self.size} members, " if self.size > 1 else ""
        return f"{self.id}: {members}{epochs} epochs in {seconds:.1f} s, {selected}"

    def _steps_per_second(self) -> list[str]:
        """Optimizer steps of all members per second since the first report; nothing before the second one."""
        now, made = time.monotonic(), sum(record.step for record in self._latest.values())
        if self._pace is None:
            self._pace = (now, made)
        seconds, steps = now - self._pace[0], made - self._pace[1]
        if seconds < 1.0 or steps <= 0:
            return []
        return [f"{steps / seconds:,.0f} steps/s"]


def shown(record: Record) -> str:
    """Return the metric that stands for a record: a familiar one if there is any, else the loss."""
    return next((name for name in FAMILIAR if _is_number(record.values.get(name))), "loss")


def note(records: Sequence[Record]) -> str:
    """Return the two validation values worth a glance: the loss and one metric, a well-known one if there is any."""
    first = records[0].values
    numbers = [name for name, value in first.items() if name != "loss" and _is_number(value)]
    known = [name for name in FAMILIAR if name in numbers]
    names = ["loss"] * _is_number(first.get("loss")) + (known or numbers)[:1]
    return "  ".join(f"val_{name} {_mean(records, name):.4g}" for name in names)


def _mean(records: Sequence[Record], name: str) -> float:
    values = [value for record in records if isinstance(value := record.values.get(name), (int, float))]
    return sum(values) / len(values)


def _is_number(value: Value | None) -> bool:
    return isinstance(value, (int, float))
