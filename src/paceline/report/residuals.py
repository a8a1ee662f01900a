"""The section on residuals of a regression: predicted against true, and the error against what was predicted.

Shapes: K members, N samples, D outputs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from paceline.evaluate.predictions import Array, Floats
from paceline.report.figures import Figure, Panel, draw
from paceline.report.predicted import Predicted
from paceline.report.scale import padded
from paceline.report.svg import Chart, Line
from paceline.report.words import capital, count, places_for, show

_POINTS = 1_500  # more predictions than this are not all drawn
_OUTPUTS = 3  # more outputs than this are not all drawn


def residuals(found: Predicted | None) -> Figure | None:
    """Two charts for each output; None where the members' predictions are not stored."""
    if found is None or found.classes:
        return None
    true, predicted = (
        np.concatenate([_outputs(getattr(one.found, name), one.found.mask) for one in found.members])
        for name in ("y", "prediction")
    )
    known = np.isfinite(predicted).all(axis=1)
    if not known.any():
        return None
    true, predicted = true[known], predicted[known]
    outputs = true.shape[1]
    panels: list[Panel] = []
    for k in range(min(outputs, _OUTPUTS)):
        panels += _panels(true[:, k], predicted[:, k], f"output {k}" if outputs > 1 else "")
    notes = []
    if len(true) > _POINTS:
        notes.append(f"Points: {_POINTS:,} of {count(len(true), 'prediction')}, evenly over their order.")
    if outputs > _OUTPUTS:
        notes.append(f"Shown: {_OUTPUTS} of {outputs:,} outputs.")
    lead = f"On the {found.words}, one point for each prediction. A perfect model lies on the line."
    return Figure(panels=panels, intro=lead, note=" ".join(notes))


def error_words(true: Floats, predicted: Floats) -> str:
    """Bias, spread and the largest errors of (N,) predictions."""
    error = predicted - true
    places = places_for(float(np.std(error)))
    mean, std = show(float(error.mean()), places), show(float(error.std()), places)
    median, most, largest = (show(float(edge), places) for edge in np.quantile(np.abs(error), (0.5, 0.95, 1.0)))
    return (
        f"Mean error {mean}, standard deviation {std}. "
        f"Half of the absolute errors are below {median}, 95 of 100 below {most}, the largest is {largest}."
    )


def _panels(true: Floats, predicted: Floats, name: str) -> list[Panel]:
    step = math.ceil(len(true) / _POINTS)
    shown = list(zip(true[::step].tolist(), predicted[::step].tolist(), strict=True))
    words = error_words(true, predicted)
    headings = ["Predicted against true", "Error against predicted"]
    if name:
        headings = [f"{capital(name)}: {heading[0].lower()}{heading[1:]}" for heading in headings]
    axis, across = padded([*true.tolist(), *predicted.tolist()]), padded(predicted.tolist())
    against = _scatter(headings[0], shown, [(axis[0], axis[0]), (axis[1], axis[1])], axis)
    errors = [(p, p - t) for t, p in shown]
    beside = _scatter(headings[1], errors, [(across[0], 0.0), (across[1], 0.0)], padded((predicted - true).tolist()))
    funnel = "A slope is a bias that depends on the value; a funnel, an error that grows with it."
    charts = (
        (replace(against, x_label="true", y_label="predicted", desc=words), words),
        (replace(beside, x_label="predicted", y_label="predicted less true"), funnel),
    )
    return [Panel(heading=chart.title, svg=draw(chart), text=text) for chart, text in charts]


def _scatter(
    title: str, points: Sequence[tuple[float, float]], ideal: Sequence[tuple[float, float]], y: tuple[float, float]
) -> Chart:
    """Dots, and the line from end to end of the x axis on which a perfect model's would lie."""
    return Chart(
        id="residuals-" + re.sub(r"[^a-z0-9]+", "-", title.lower()),
        title=title,
        desc=f"{count(len(points), 'point')}.",
        lines=[Line(points=ideal, css="ideal", title="perfect"), _dots(points)],
        whole_x=False,
        x_range=(ideal[0][0], ideal[1][0]),
        y_range=y,
        height=300,
    )


def _dots(points: Sequence[tuple[float, float]]) -> Line:
    """A line that is broken after every point: its round ends are the dots."""
    return Line(points=[each for x, y in points for each in ((x, y), (x, None))], css="scatter c0")


def _outputs(values: Floats, mask: Array | None) -> Floats:
    """Return (P, D) predictions: each valid step is one, where a target has a number for each step."""
    values = values if mask is None else values[mask]
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)
