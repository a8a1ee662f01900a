"""The sections on classes: the confusion matrix, and precision, recall and F1 of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from paceline.evaluate.predictions import Floats, Predictions
from paceline.evaluate.statistics import Interval
from paceline.report.files import Json, items, section
from paceline.report.heat import HeatMap, heat_map
from paceline.report.predicted import Predicted
from paceline.report.results import Metric
from paceline.report.tables import Cell, Table, brief, limits_for, metric_strip, share_bar
from paceline.report.words import BEYOND, THIN, beyond, capital, clean, label, number, numbers, percent, shorten, show

_MISSING = "Orange is what is missing to 1."
_TITLE = "precision, recall and F1 of each class"
_TOP = 8  # confusions in the table


ClassRow = tuple[str, Sequence[float | None], float | None]  # name; precision, recall, F1; support


@dataclass(frozen=True, kw_only=True)
class ConfusionView:
    """The heat map, the split it is of, a sentence, and the most frequent confusions (None without any)."""

    drawing: Markup
    split: str
    lead: str
    top: Table | None


def confusion(summary: Json) -> ConfusionView | None:
    """The confusion matrix of the members' summed counts; test before validation."""
    for split in ("test", "val"):
        table = section(summary, "confusion", split)
        classes = [clean(name) for name in items(table, "classes")]
        counts = [[number(cell) or 0.0 for cell in row] for row in items(table, "counts") if isinstance(row, list)]
        if classes and len(counts) == len(classes) and all(len(row) == len(classes) for row in counts):
            words = _confusion_words(classes, counts)
            title = f"{capital(label(split + '_confusion'))}"
            drawn = heat_map(HeatMap(id="confusion-map", title=title, desc=words, classes=classes, counts=counts))
            return ConfusionView(
                drawing=Markup(drawn),  # noqa: S704 - well-formed by construction
                split=split,
                lead=words,
                top=_top_confusions(classes, counts),
            )
    return None


def _top_confusions(classes: Sequence[str], counts: Sequence[Sequence[float]]) -> Table | None:
    wrong = _wrong(counts)[:_TOP]
    rows: list[list[Cell]] = [
        [brief(classes[i]), brief(classes[j]), f"{n:,.0f}", percent(n / sum(counts[i]))] for n, i, j in wrong
    ]
    columns = [("true class", "name"), ("taken for", "name"), ("count", "number"), ("of the class", "number")]
    return Table(columns=columns, rows=rows, title="most frequent confusions") if rows else None


def _wrong(counts: Sequence[Sequence[float]]) -> list[tuple[float, int, int]]:
    """(count, true, predicted) of each kind of error, the most frequent first."""
    wrong = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if i != j and n > 0]
    return sorted(wrong, key=lambda cell: (-cell[0], cell[1], cell[2]))


def _confusion_words(classes: Sequence[str], counts: Sequence[Sequence[float]]) -> str:
    total, wrong = sum(map(sum, counts)), _wrong(counts)
    if not total:
        return "The matrix is empty."
    if not wrong:
        return f"All {total:,.0f} predictions are right."
    share = sum(n for n, _, _ in wrong) / total
    n, i, j = wrong[0]
    often = (
        f"the most frequent error takes “{shorten(classes[i], 40)}” for “{shorten(classes[j], 40)}” ({n:,.0f} times)"
    )
    return f"{sum(n for n, _, _ in wrong):,.0f} of {total:,.0f} predictions are wrong ({percent(share)}); {often}."


@dataclass(frozen=True, kw_only=True)
class ClassView:
    """The table of the classes and what it stands on."""

    table: Table
    lead: str


def class_view(summary: Json, found: Predicted | None) -> ClassView | None:
    """Precision, recall and F1 of each class as means over the members with intervals, and the support.

    Where the members' predictions are not stored, the figures come from the summed confusion matrix, and there are no
    intervals.
    """
    if found is not None and found.classes:
        return _over_members(found)
    for split in ("test", "val"):
        table = section(summary, "per_class", split)
        if items(table, "classes"):
            lead = f"On the {label(split + '_part')}, all members' predictions put together."
            return ClassView(table=_table(_summed(table)), lead=f"{lead} {_MISSING}")
    return None


def class_scores(found: Predictions, n_classes: int) -> Floats:
    """Precision, recall and F1 of each class (3, C), 0 where a ratio is 0/0; NaN for a class that does not occur."""
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (found.y, found.prediction), 1)
    hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    pairs = ((hits, predicted), (hits, true), (2 * hits, true + predicted))
    ratios = [np.divide(part, whole, out=np.zeros(n_classes), where=whole > 0) for part, whole in pairs]
    return np.where(true > 0, ratios, np.nan)


def _over_members(found: Predicted) -> ClassView:
    n_classes = len(found.classes)
    scores = np.array([class_scores(one.found, n_classes) for one in found.members])  # (K, 3, C)
    index = np.concatenate([one.found.index for one in found.members])
    _, first = np.unique(index, return_index=True)
    support = np.bincount(np.concatenate([one.found.y for one in found.members])[first], minlength=n_classes)
    lacking = bool(np.isnan(scores[:, :, support > 0]).any())
    absent = " Members whose part lacks a class do not count for it." if lacking else ""
    if len(found.members) == 1:
        rows: list[ClassRow] = [
            (name, numbers(scores[0, :, k].tolist()), float(support[k])) for k, name in enumerate(found.classes)
        ]
        return ClassView(table=_table(rows), lead=f"On the {found.words}. {_MISSING}")
    intervals = [
        [found.interval(scores[:, score, k].tolist(), found.members) for score in range(3)] for k in range(n_classes)
    ]
    method = next((one.method.partition(":")[0] for row in intervals for one in row if one.low is not None), "")
    of = f"; small figures: 95{THIN}% intervals of these means ({method})" if method else ""
    return ClassView(
        table=_table_of_members(found.classes, scores[:, 2], intervals, support.tolist()),
        lead=f"On the {found.words_of_members}: means over the members{of}.{absent}",
    )


def _table_of_members(
    classes: Sequence[str], f1: Floats, intervals: Sequence[Sequence[Interval]], support: Sequence[int]
) -> Table:
    """Rows of means with intervals; f1 (K, C) is drawn with a dot per member."""
    rows = [
        Metric(name="f1", mean=row[2].mean, std=None, interval=_within(_bounds(row[2])), n=row[2].n, method="",
               values=tuple(numbers(f1[:, k].tolist())))
        for k, row in enumerate(intervals)
    ]  # fmt: skip
    limits = limits_for("f1", rows)
    heads = [("class", "name"), ("precision", "spread"), ("recall", "spread"), ("F1", "spread")]
    cells: list[list[Cell]] = [
        [name, *map(_spread, intervals[k]), metric_strip(rows[k], f"class-{k}", limits), f"{support[k]:,}"]
        for k, name in enumerate(classes)
    ]
    columns = [*heads, ("F1 of the members", "plot"), ("support", "number")]
    scale = f", {show(limits[0], 2)} to {show(limits[1], 2)}" if limits else ""
    caption = f"Dots: F1 of each member, on one scale for all classes{scale}; the bar is the interval."
    if any(beyond("f1", _bounds(one)) for row in intervals for one in row):
        caption += f" {capital(BEYOND)}."
    return Table(columns=columns, rows=cells, caption=caption, title=_TITLE)


def _bounds(one: Interval) -> tuple[float, float] | None:
    return None if one.low is None or one.high is None else (one.low, one.high)


def _within(bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    """The part of an interval that a share can have: one far bound would leave the dots no room on the scale."""
    return None if bounds is None else (max(0.0, bounds[0]), min(1.0, bounds[1]))


def _spread(one: Interval) -> Markup:
    """A mean with its interval; where all members agree there is no interval to speak of."""
    bounds, text = _bounds(one), ""
    if bounds:
        text = f"{show(bounds[0], 3)} to {show(bounds[1], 3)}" if bounds[1] > bounds[0] else "all the same"
    return Markup("<b>{}</b> <i>{}</i>").format(show(one.mean, 3), text)


def _summed(table: Json) -> list[ClassRow]:
    columns = {name: numbers(items(table, name)) for name in ("precision", "recall", "f1", "support")}
    rows: list[ClassRow] = []
    for index, name in enumerate(items(table, "classes")):
        cells = {key: values[index] if index < len(values) else None for key, values in columns.items()}
        rows.append((clean(name), [cells[key] for key in ("precision", "recall", "f1")], cells["support"]))
    return rows


def _table(rows: Sequence[ClassRow]) -> Table:
    heads = [("class", "name"), ("precision", "share"), ("recall", "share"), ("F1", "share"), ("support", "number")]
    cells: list[list[Cell]] = [
        [name, *(share_bar(score or 0.0, show(score, 3), css="bar miss") for score in scores),
         show(None) if support is None else f"{support:,.0f}"]
        for name, scores, support in rows
    ]  # fmt: skip
    return Table(columns=heads, rows=cells, title=_TITLE)
