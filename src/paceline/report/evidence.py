"""What hints rest on: the members' histories, the summary, the config and the splits of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from paceline.report.files import Json, RunFiles, items, section, sections
from paceline.report.results import MemberResult, leading_members
from paceline.report.words import clean, count, finite, number, numbers

_WIDTHS = ("hidden_size", "hidden", "width")  # keys of a model that say how wide it is
_LAYERS = ("hidden_dims", "hidden", "channels")


@dataclass(frozen=True, kw_only=True)
class Hint:
    """What was seen, with figures; why it matters; the config key to change, with a value."""

    rule: str
    seen: str
    why: str
    change: str

    @property
    def text(self) -> str:
        """One sentence and what to try."""
        return f"{self.seen}: {self.why}. Try {self.change}."


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the rules look at: the members of the leading variant, whose figures the summary gives."""

    members: Sequence[MemberResult]
    histories: Mapping[str, Json]
    summary: Json
    config: Json
    splits: Sequence[Json]
    classes: Sequence[str]

    def column(self, member: MemberResult, name: str) -> list[float]:
        """The finite values of a member's history."""
        return finite(numbers(self.histories.get(member.id, {}).get(name)))

    def counts(self, part: str) -> list[float]:
        """Samples per class of a part."""
        split = self.splits[0] if self.splits else {}
        return [value or 0.0 for value in numbers(section(split, "class_counts").get(part))]

    def size(self, part: str) -> int:
        """Samples of a part."""
        return len(items(self.splits[0], part)) if self.splits else 0

    def value(self, *names: str) -> float | None:
        """A number of the config; None where it is not known."""
        return number(section(self.config, *names[:-1]).get(names[-1]))

    def capacity(self) -> list[str]:
        """Changes that give the model about twice the width, by its own keys: `model.hidden=64 (now 32)`."""
        model = section(self.config, "model")
        sizes = {key: number(model.get(key)) for key in _WIDTHS}
        found = [f"model.{key}={2 * size:g} (now {size:g})" for key, size in sizes.items() if size]
        lists = {key: numbers(model.get(key)) for key in _LAYERS}
        for key, layers in lists.items():
            if layers and None not in layers:
                now, wide = (",".join(f"{f * (size or 0.0):g}" for size in layers) for f in (1, 2))
                found.append(f"model.{key}=[{wide}] (now [{now}])")
        return found[:1] or ["a larger model"]

    def most(self, holds: Callable[[Evidence, MemberResult], bool]) -> list[MemberResult]:
        """The members for which a statement holds, where these are most of those trained."""
        trained = [member for member in self.members if not member.failed]
        found = [member for member in trained if holds(self, member)]
        return found if 2 * len(found) > len(trained) else []

    def of(self, found: Sequence[MemberResult]) -> str:
        """`3 of 5 members`."""
        return f"{len(found)} of {count(len(self.members), 'member')}"

    def options(self, *changes: str) -> str:
        """`a or b`: those that the run does not vary itself."""
        varied = section(self.config, "members", "vary")
        keys = {change: change.split("=")[0].split()[-1] for change in changes}
        return " or ".join(c for c, key in keys.items() if key not in varied and key.split(".")[0] not in varied)

    def times(self, factor: float, *names: str) -> str:
        """`training.learning_rate=0.0002 (now 0.002)`."""
        key, now = ".".join(names), self.value(*names)
        return f"{key}={now * factor:.3g} (now {now:g})" if now else f"a {'higher' if factor > 1 else 'lower'} {key}"


def evidence_of(files: RunFiles) -> Evidence:
    """Gather what the rules look at."""
    return Evidence(
        members=leading_members(files.summary),
        histories=files.histories,
        summary=files.summary,
        config=section(files.environment, "config"),
        splits=sections(files.splits, "splits"),
        classes=[clean(name) for name in items(files.splits, "classes")],
    )


def head(values: Sequence[float]) -> float:
    """The mean of the first fifth."""
    return fmean(values[: max(1, len(values) // 5)])


def tail(values: Sequence[float]) -> float:
    """The mean of the last fifth."""
    return fmean(values[-max(1, len(values) // 5) :])
