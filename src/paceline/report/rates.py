"""The picture of a learning-rate range test."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

_MOST = 8  # members whose curves are drawn


def picture(
    rates: Sequence[float],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    suggestion: float | None,
) -> bytes:
    """Return a PNG: losses (points) and smoothed losses (lines) of each member over the rate, and the suggestion."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for member, (losses, smooth) in list(curves.items())[:_MOST]:
        (line,) = axes.plot(rates[: len(smooth)], smooth, linewidth=2, label=member)
        axes.plot(rates[: len(losses)], losses, ".", markersize=2.5, alpha=0.35, color=line.get_color())
    if suggestion is not None:
        axes.axvline(suggestion, color="black", linestyle="--", linewidth=1, label=f"steepest: {suggestion:.2g}")
    axes.set_xscale("log")
    axes.set_ylim(*_limits([smooth for _, smooth in curves.values()]))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss before the step")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    target, canvas = io.BytesIO(), FigureCanvasAgg(figure)
    canvas.print_png(target)  # type: ignore[no-untyped-call]
    return target.getvalue()


def _limits(smooth: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return limits that show the fall and the beginning of the rise, not how high a broken training ends."""
    low, first = min(map(min, smooth)), max(values[0] for values in smooth)
    room = first - low if first > low else abs(low) + math.ulp(1.0)
    return low - 0.15 * room, first + 0.6 * room
