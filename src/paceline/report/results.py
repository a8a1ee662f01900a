"""The result of a run as plain values: metrics with intervals, members, the verdict. Reads a `summary.json` tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paceline.report.files import Json, items, section, sections
from paceline.report.words import (
    THIN,
    before,
    capital,
    clean,
    count,
    finite,
    label,
    number,
    places_for,
    show,
    span,
    split_of,
)

_SMOOTHINGS = {"ema": "an exponential average", "median_ema": "a running median and an exponential average"}
_SECOND = ("f1_macro", "log_loss", "rmse", "mae", "r2")  # after accuracy; the log-loss judges the probabilities
_ORDER = {"test": 0, "val": 1, "best": 2, "last": 3, "train": 4, "": 5}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One row of `summary.metrics`: mean over members, standard deviation, 95 % interval of the mean.

    `samples` is the interval over draws of the samples measured on, `samples_method` how it was made.
    """

    name: str
    mean: float | None
    std: float | None
    interval: tuple[float, float] | None
    n: int
    method: str
    values: tuple[float | None, ...] = ()
    samples: tuple[float, float] | None = None
    samples_method: str = ""

    @property
    def short_method(self) -> str:
        """The method without its explanation: `t over 5 seeds, one split`."""
        return self.method.partition(":")[0]

    @property
    def places(self) -> int | None:
        """Decimals of the mean and its interval: two significant digits of the half width, three of the mean."""
        half = (self.interval[1] - self.interval[0]) / 2 if self.interval else self.std
        known = [places_for(half), None if self.mean is None else places_for(abs(self.mean), digits=3)]
        return max(finite(known), default=None) if known[0] is not None else None

    @property
    def std_text(self) -> str:
        """The standard deviation with two significant digits, and no fewer decimals than the mean."""
        return show(self.std, max(finite([self.places, places_for(self.std)]), default=None))

    @property
    def range_text(self) -> str:
        """`0.9851 to 0.9901`, or a dash."""
        return self.range_with(self.places)

    def range_with(self, places: int | None) -> str:
        """The interval with other decimals than its own."""
        return " to ".join(show(edge, places) for edge in self.interval) if self.interval else show(None)

    @property
    def samples_text(self) -> str:
        """The interval over samples: `0.9412 to 0.9743`, or a dash."""
        return self.samples_with(self.places)

    def samples_with(self, places: int | None) -> str:
        """The interval over samples with other decimals than its own."""
        return " to ".join(show(edge, places) for edge in self.samples) if self.samples else show(None)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which epoch's weights a member kept, and why."""

    metric: str = ""
    mode: str = ""
    smoothing: str = ""
    weights: str = ""  # `ema` or `swa` where they are averages
    epoch: float | None = None
    step: float | None = None
    value: float | None = None
    smoothed: float | None = None
    raw_best_epoch: float | None = None
    raw_best_value: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class MemberResult:
    """One training: its place among the members, how it ended, what it chose, what it scored."""

    id: str
    seed: float | None = None
    fold: float | None = None
    variant: str = ""
    status: str = ""
    epochs: float | None = None
    stopped: str = ""
    chosen: Chosen = field(default_factory=Chosen)
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.status == "failed"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One point of the grid that was varied, with its own metrics."""

    name: str
    members: Sequence[MemberResult]
    metrics: Sequence[Metric]


def metrics_of(summary: Json) -> list[Metric]:
    """All metrics (of the leading variant), test first, then validation; the loss last, else as in the summary."""
    return _metrics(section(summary, "metrics"), leading_members(summary))


def variants_of(summary: Json) -> list[Variant]:
    """The variants, the leading one first; empty where nothing was varied."""
    everyone = members_of(summary)
    found: list[Variant] = []
    for row in sections(summary, "variants"):
        name = clean(row.get("name"))
        own = [member for member in everyone if member.variant == name]
        found.append(Variant(name=name, members=own, metrics=_metrics(section(row, "metrics"), own)))
    return found if len(found) > 1 else []


def leading_members(summary: Json) -> list[MemberResult]:
    """The members that the summary's own metrics stand on: those of the leading variant, or all."""
    everyone = members_of(summary)
    if not variant_names(summary):
        return everyone
    return [member for member in everyone if member.variant == clean(summary.get("variant"))]


def variant_names(summary: Json) -> list[str]:
    """The names of the variants, the leading one first; empty where nothing was varied."""
    names = [clean(row.get("name")) for row in sections(summary, "variants")]
    return names if len(names) > 1 else []


def members_of(summary: Json) -> list[MemberResult]:
    """The members in the order of the summary."""
    return [_member(row) for row in sections(summary, "members")]


def headline_of(summary: Json, limit: int = 3) -> list[Metric]:
    """The metrics that a reader looks at first: on test if it was opened, else on validation, else whatever there is.

    The metric that chose the weights comes first (unless it is a loss), then accuracy, then the others, losses last.
    """
    rows = metrics_of(summary)
    for split in ("test", "val", "best"):
        here = [row for row in rows if split_of(row.name)[0] == split and row.mean is not None]
        if here:
            return sorted(here, key=lambda row: _rank(row.name, selection_metric(summary)))[:limit]
    return [row for row in rows if row.mean is not None][:limit]


def selection_metric(summary: Json) -> str:
    """The name of the metric that chose the weights; empty where members differ in it or none is given."""
    names = {member.chosen.metric for member in members_of(summary) if member.chosen.metric}
    return names.pop() if len(names) == 1 else ""


def verdict(summary: Json) -> str:
    """One line: `Test accuracy 0.9876 (95 % 0.9851 to 0.9901, t over 5 seeds)`, and a second metric if there is one."""
    rows = headline_of(summary, limit=2)
    if not rows:
        return "No result yet: no member has finished."
    first, *others = rows
    start = leading_words(summary)  # begins with a name, whose case is its own
    name = label(first.name) if start else capital(label(first.name))
    text = f"{start}{name} {show(first.mean, first.places)} ({interval_words(first)})"
    for row in others:
        extra = f"95{THIN}% {row.range_text}" if row.interval else "no interval"
        text += f"; {label(row.name, with_split=False)} {show(row.mean, row.places)} ({extra})"
    return text


def interval_words(row: Metric) -> str:
    """`95 % 0.9851 to 0.9901, t over 5 seeds`, or why there is none."""
    if row.interval:
        return f"95{THIN}% {row.range_text}" + (f", {row.short_method}" if row.method else "")
    return row.method or "no interval"


def selection_rule(chosen: Sequence[Chosen]) -> str:
    """The rule in words, where all members share one; else empty."""
    rules = {(one.metric, one.mode, one.smoothing, one.weights) for one in chosen}
    if len(rules) != 1:
        return ""
    metric, mode, smoothing, weights = rules.pop()
    extreme = "lowest" if mode == "min" else "highest"
    smoothed = "" if smoothing in ("", "none") else f", smoothed by {_SMOOTHINGS.get(smoothing, smoothing)}"
    kept = "weights" if weights in ("", "raw") else f"averaged weights ({weights.upper()})"
    return f"Each member keeps the {kept} with the {extreme} {label(metric)}{smoothed}."


def leading_words(summary: Json) -> str:
    """`lstm, the best of 3 variants by validation macro F1: `, or nothing where nothing was varied."""
    names = variant_names(summary)
    rule = selection_metric(summary)
    judged = f" by {label(rule)}" if rule else ""
    return f"{names[0]}, the best of {count(len(names), 'variant')}{judged}: " if names else ""


def chosen_epochs(members: Sequence[MemberResult]) -> str:
    """`epoch 25`, `epochs 22 to 34`, or nothing."""
    epochs = finite(member.chosen.epoch for member in members if not member.failed)
    if not epochs:
        return ""
    return ("epoch " if min(epochs) == max(epochs) else "epochs ") + span(epochs)


def _rank(name: str, chosen_by: str) -> tuple[int, int]:
    base = split_of(name)[1]
    if base == "loss":
        return (3, 0)
    if base == split_of(chosen_by)[1] and base != "log_loss":
        return (0, 0)
    return (1, 0) if base == "accuracy" else (2, _SECOND.index(base) if base in _SECOND else len(_SECOND))


def _metrics(table: Json, members: Sequence[MemberResult]) -> list[Metric]:
    trained = [member for member in members if not member.failed]
    rows = [_metric(name, row, trained) for name, row in table.items() if isinstance(row, Mapping)]
    place = {row.name: index for index, row in enumerate(rows)}

    def order(row: Metric) -> tuple[int, bool, int]:
        split, base = split_of(row.name)
        return _ORDER[split], base == "loss", place.get(before(row.name), place[row.name])  # after the raw one

    return sorted(rows, key=order)


def _metric(name: str, row: Json, members: Sequence[MemberResult]) -> Metric:
    return Metric(
        name=clean(name),
        mean=number(row.get("mean")),
        std=number(row.get("std")),
        interval=_range(row, "ci95"),
        n=int(number(row.get("n")) or 0),
        method=clean(row.get("method")),
        values=tuple(member.metrics.get(name) for member in members),
        samples=_range(row, "ci95_samples"),
        samples_method=clean(row.get("method_samples")),
    )


def _range(row: Json, name: str) -> tuple[float, float] | None:
    edges = finite(number(edge) for edge in items(row, name))
    return (edges[0], edges[1]) if len(edges) == 2 else None


def _member(row: Json) -> MemberResult:
    chosen = section(row, "selection")
    return MemberResult(
        id=clean(row.get("id")),
        seed=number(row.get("seed")),
        fold=number(row.get("fold")),
        variant=clean(row.get("variant")),
        status=clean(row.get("status")),
        epochs=number(row.get("epochs")),
        stopped=clean(row.get("stopped")),
        metrics={name: number(value) for name, value in section(row, "metrics").items()},
        chosen=Chosen(
            metric=clean(chosen.get("metric")),
            mode=clean(chosen.get("mode")),
            smoothing=clean(chosen.get("smoothing")),
            weights=clean(chosen.get("weights")),
            epoch=number(chosen.get("epoch")),
            step=number(chosen.get("step")),
            value=number(chosen.get("value")),
            smoothed=number(chosen.get("smoothed")),
            raw_best_epoch=number(chosen.get("raw_best_epoch")),
            raw_best_value=number(chosen.get("raw_best_value")),
            reason=clean(chosen.get("reason")),
        ),
    )
