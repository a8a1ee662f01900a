"""What a row of the fault benchmark found: how many faults fired, what came of them, and which bars it met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SHOWN = 10  # problems that are kept in words; all are counted


@dataclass(kw_only=True)
class Row:
    """One kind of fault. `landed` are the faults that fired where the row aims, which `aim` names."""

    name: str
    aim: str
    planned: int = 0
    fired: int = 0
    landed: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    lost: int = 0  # outcomes that must not be
    problems: list[str] = field(default_factory=list)  # the first of them, in words
    broken: dict[str, int] = field(default_factory=dict)  # known-broken variants: how often the row caught them
    bars: dict[str, bool] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""  # why the row could not run here
    seconds: float = 0.0
    key: str = ""  # what `--rows` calls it
    seed: int = 0
    date: str = ""

    def lose(self, words: str) -> None:
        """Count something that must not happen."""
        self.lost += 1
        if len(self.problems) < SHOWN:
            self.problems.append(words)

    def judge(self, **bars: bool) -> Row:
        """Set the bars: these, no loss, and every known-broken variant caught."""
        named = {name.replace("_", " "): met for name, met in bars.items()}
        caught = {f"catches {name}": times > 0 for name, times in self.broken.items()}
        self.bars = {"nothing lost": self.lost == 0, **named, **caught}
        return self

    @property
    def missed(self) -> list[str]:
        """The bars that were missed; a row without bars has not been judged."""
        if self.skipped:
            return []
        return [name for name, met in self.bars.items() if not met] if self.bars else ["it was not judged"]

    def to_json(self) -> dict[str, Any]:
        """The row as plain values."""
        return {**asdict(self), "outcomes": dict(self.outcomes), "missed": self.missed}


def skipped(name: str, reason: str) -> Row:
    """A row that could not run here."""
    return Row(name=name, aim="", skipped=reason)


def lines(row: Row) -> list[str]:
    """The row for a terminal."""
    if row.skipped:
        return [f"{row.name:<28} not run: {row.skipped}"]
    words = "ok" if not row.missed else "MISSED: " + ", ".join(row.missed)
    head = f"{row.name:<28}{row.fired:>7,} fired {row.landed:>7,} {row.aim:<22}{row.seconds:>6.0f} s  {words}"
    return [head, f"{'':<4}{_joined(row.outcomes)}", *(f"{'':<4}{text}" for text in _more(row))]


def _more(row: Row) -> list[str]:
    caught = [f"known broken, caught: {_joined(row.broken)}"] if row.broken else []
    notes = [f"{name}: {value}" for name, value in row.notes.items()]
    return [*caught, *notes, *(f"LOST: {words}" for words in row.problems)]


def _joined(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{name} {times:,}" for name, times in counts.items()) or "no outcome"
