"""A forest plot: one row per difference, its interval over members and the one over samples, and a line at zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paceline.report.scale import Scale, padded, tick_text
from paceline.report.svg import Element, element, picture, text_of
from paceline.report.words import shorten

_ROW, _TOP, _FOOT, _SIDE = 46, 10, 40, 4
_WIDE, _FIGURE = 9.0, 8.0  # units of a letter of a name and of a digit, as large as a phone shows them


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """A difference with its interval over members and over samples, either of which may be missing.

    `numbers` stand at the right end of the row. `found` says that the difference is taken for real.
    """

    name: str
    numbers: str
    value: float
    interval: tuple[float, float] | None
    samples: tuple[float, float] | None = None
    found: bool = False


@dataclass(frozen=True, kw_only=True)
class Forest:
    """`left` and `right` say what a difference on that side of zero means."""

    id: str
    title: str
    desc: str
    rows: Sequence[ForestRow]
    left: str
    right: str
    width: int = 440


def forest(plot: Forest) -> str:
    """Draw the plot as one `<svg>`; names stand above their intervals, so that it can be read on a phone."""
    height = _TOP + _ROW * len(plot.rows) + _FOOT
    root = picture(plot.id, plot.title, plot.desc, plot.width, height, css="chart forest")
    edges = [0.0, *(edge for row in plot.rows for edge in (row.value, *(row.interval or ()), *(row.samples or ())))]
    low, high = padded(edges, share=0.08)
    x = Scale(low=low, high=high, start=_SIDE, end=plot.width - _SIDE)
    floor = height - _FOOT
    _axis(root, plot, x, floor)
    element("line", root, css="zero", x1=x(0), x2=x(0), y1=_TOP - 6, y2=floor)
    for index, row in enumerate(plot.rows):
        _row(root, row, x, _TOP + _ROW * index, plot.width)
    return text_of(root)


def _axis(root: Element, plot: Forest, x: Scale, floor: float) -> None:
    group = element("g", root, css="axes")
    values = x.ticks(4)
    write = tick_text(values)
    element("line", group, css="axis", x1=x.start, x2=x.end, y1=floor, y2=floor)
    for value in values:
        element("line", group, css="axis", x1=x(value), x2=x(value), y1=floor, y2=floor + 4)
        sign = "+" if value > 0 else ""
        element("text", group, f"{sign}{write(value)}", css="tick x", x=x(value), y=floor + 16)
    element("text", group, f"← {plot.left}" if plot.left else "", css="side start", x=x.start, y=floor + 33)
    element("text", group, f"{plot.right} →" if plot.right else "", css="side end", x=x.end, y=floor + 33)


def _row(root: Element, row: ForestRow, x: Scale, top: float, width: float) -> None:
    group = element("g", root, css="row found" if row.found else "row")
    element("title", group, f"{row.name}: {row.numbers}")
    room = int((width - 3 * _SIDE - _FIGURE * len(row.numbers)) / _WIDE)
    element("text", group, shorten(row.name, max(8, room)), css="who", x=_SIDE, y=top + 10)
    element("text", group, row.numbers, css="figures", x=width - _SIDE, y=top + 10)
    if row.samples:
        low, high = (x(edge) for edge in row.samples)
        element("line", group, css="over-samples", x1=low, x2=max(high, low + 1), y1=top + 33, y2=top + 33)
    if row.interval:
        low, high = (x(edge) for edge in row.interval)
        element("rect", group, css="over-members", x=low, y=top + 19, width=max(1.5, high - low), height=8, rx=2)
    element("circle", group, css="point", cx=x(row.value), cy=top + 23, r=4)
