"""The section on calibration: is a prediction that is 80 % sure right in 80 % of the cases?

Shapes: M bins, N predictions (every member's), C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paceline.evaluate.calibration import BINS, Reliability, expected_calibration_error, reliability, tempered
from paceline.evaluate.predictions import Floats
from paceline.report.figures import Figure, Panel, draw
from paceline.report.predicted import One, Predicted
from paceline.report.svg import Bar, Chart, Line, Marker
from paceline.report.words import THIN, count, percent, places_for, show

_Z = 1.959964  # the 97.5 % quantile of the normal distribution


def calibration(found: Predicted | None) -> Figure | None:
    """The reliability diagram with counts; None where the members' probabilities are not stored."""
    if found is None or not found.classes:
        return None
    table = _table(found, [_probability(one) for one in found.sets])
    after = [tempered(_probability(one), one.temperature) for one in found.sets]
    changed = _table(found, after) if any(one.temperature != 1 for one in found.sets) else None
    words = _words(found, table)
    if changed is not None:
        words += f" After the fitted temperatures it is {_ece(found, after)}."
    legend = [("key chosen c0", "predictions of all members" if len(found.sets) > 1 else "predictions")]
    legend += [("key ring c1", "after the fitted temperatures")] if changed is not None else []
    legend += [("key whisker c0", f"95{THIN}% interval"), ("key ideal", "perfect"), ("key block right", "right")]
    legend += [("key block wrong", "wrong")]
    return Figure(
        panels=[
            Panel(heading="Reliability diagram", svg=draw(_diagram(table, changed, len(found.sets)))),
            Panel(heading="Predictions by confidence", svg=draw(_counts(table))),
        ],
        legend=legend,
        intro=words,
        note=_note(found),
    )


@dataclass(frozen=True, kw_only=True)
class Gap:
    """`right` and `sure`: share of right predictions and mean confidence, over all predictions."""

    right: float
    sure: float


def gap_of(table: Reliability) -> Gap:
    """What the whole table says of accuracy and confidence."""
    held = table.count > 0
    right, sure = (
        float(np.average(values[held], weights=table.count[held])) for values in (table.accuracy, table.confidence)
    )
    return Gap(right=right, sure=sure)


def wilson(right: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share of `n` (Wilson, JASA 22, 209-212, 1927); inside 0 and 1, wide for few."""
    centre = (right + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(right * (1 - right) / n + _Z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def _probability(one: One) -> Floats:
    assert one.found.probability is not None
    return one.found.probability.astype(np.float64)


def _table(found: Predicted, probability: Sequence[Floats]) -> Reliability:
    """All sets together, with these probabilities (N, C) of each."""
    return reliability(np.concatenate(probability), np.concatenate([one.found.y for one in found.sets]))


def _ece(found: Predicted, probability: Sequence[Floats]) -> str:
    """The mean over the sets with its interval: `0.0616 (95 % 0.0549 to 0.0682, t over 3 seeds, one split)`."""
    errors = [expected_calibration_error(p, one.found.y) for p, one in zip(probability, found.sets, strict=True)]
    spread = found.interval(errors, found.sets)
    if spread.low is None or spread.high is None:
        return show(spread.mean)
    places = places_for((spread.high - spread.low) / 2)
    interval = f"{show(spread.low, places)} to {show(spread.high, places)}"
    return f"{show(spread.mean, places)} (95{THIN}% {interval}, {spread.method.partition(':')[0]})"


def _words(found: Predicted, table: Reliability) -> str:
    gap = gap_of(table)
    points = 100 * (gap.sure - gap.right)
    tends = f"{'over' if points > 0 else 'under'}-confident by {show(abs(points), 1)} points"
    means = f"mean confidence {percent(gap.sure)}, accuracy {percent(gap.right)}"
    ece = f"The expected calibration error is {_ece(found, [_probability(one) for one in found.sets])}"
    return f"On the {found.words}: {means}, {'well matched' if abs(points) < 1 else tends}. {ece}."


def _note(found: Predicted) -> str:
    text = f"Confidence: the probability of the predicted class, in {BINS} bins of equal width. "
    text += "The calibration error is the mean distance from the diagonal, weighted by counts; with few samples it is "
    text += "above 0 by chance alone. Intervals: Wilson"
    if len(found.sets) > 1:
        text += f", each count divided by {len(found.sets)}, as members predict the same samples"
    return text + "."


def _diagram(table: Reliability, changed: Reliability | None, members: int) -> Chart:
    bins = _held(table)
    lines = [Line(points=[(0.0, 0.0), (1.0, 1.0)], css="ideal", title="perfect calibration")]
    for sure, right, n in bins:
        low, high = wilson(right, max(1.0, n / members))
        lines.append(Line(points=[(sure, low), (sure, high)], css="whisker c0"))
    lines.append(Line(points=[(sure, right) for sure, right, _ in bins], css="joined c0"))
    markers = [_mark(each, "chosen c0") for each in bins]
    if changed is not None:
        lines.append(Line(points=[(sure, right) for sure, right, _ in _held(changed)], css="joined c1"))
        markers += [_mark(each, "ring c1") for each in _held(changed)]
    return Chart(
        id="calibration-diagram",
        title="Reliability diagram",
        desc="; ".join(
            f"confidence {show(sure, 2)}: {show(right, 2)} right, {n:,} predictions" for sure, right, n in bins
        ),
        lines=lines,
        markers=markers,
        x_label="confidence",
        y_label="share of right predictions",
        whole_x=False,
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        height=300,
    )


def _held(table: Reliability) -> list[tuple[float, float, int]]:
    """(confidence, accuracy, count) of the bins that are not empty."""
    held = np.flatnonzero(table.count)
    return [(float(table.confidence[k]), float(table.accuracy[k]), int(table.count[k])) for k in held]


def _mark(each: tuple[float, float, int], css: str) -> Marker:
    sure, right, n = each
    title = f"confidence {show(sure, 3)}, right {show(right, 3)}: {count(n, 'prediction')}"
    return Marker(x=sure, y=right, css=css, title=title)


def _counts(table: Reliability) -> Chart:
    held = np.flatnonzero(table.count)
    right = np.round(np.nan_to_num(table.accuracy) * table.count).astype(int)
    bars: list[Bar] = []
    for k in held:
        low, high = float(table.low[k]), float(table.high[k])
        width = high - low
        where = f"confidence {show(low, 2)} to {show(high, 2)}"
        pairs: Sequence[tuple[str, int, float]] = (
            ("right", int(right[k]), low + 0.1 * width),
            ("wrong", int(table.count[k] - right[k]), low + 0.52 * width),
        )
        bars += [
            Bar(left=left, right=left + 0.38 * width, y=float(n), css=kind, title=f"{where}: {n:,} {kind}")
            for kind, n, left in pairs
            if n
        ]
    total = int(table.count.sum())
    return Chart(
        id="calibration-counts",
        title="Predictions by confidence",
        desc=f"{total:,} predictions, {int(right.sum()):,} of them right, by the probability of the predicted class.",
        bars=bars,
        x_label="confidence",
        y_label="predictions (log scale)",
        log_y=True,
        whole_x=False,
        x_range=(0.0, 1.0),
        y_range=(0.5, 2.0 * max(bar.y for bar in bars)),
        height=300,
    )
