"""A heat map (confusion matrix) and a strip of dots with an interval, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import east_asian_width

from paceline.report.scale import Scale, padded
from paceline.report.svg import Element, element, picture, text_of
from paceline.report.words import clean, finite, percent, shorten

_SHRINK = 0.8  # the share of its width below which a matrix scrolls
_NAME = 18  # letters of a class name that are shown
_TEXT_LIMIT = 24  # above so many classes the cells carry no numbers
# The opacity from which the text of a cell changes between black and white, on dark paper and on light: a contrast of
# 4.5 at least everywhere. Orange is lighter than blue.
_MIDDLE = 0.58
_HIGH = {"right": 0.84, "wrong": 0.97}


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Counts with one row per true class and one column per predicted class, both in the order of `classes`."""

    id: str
    title: str
    desc: str
    classes: Sequence[str]
    counts: Sequence[Sequence[float]]


def heat_map(table: HeatMap) -> str:
    """Draw the matrix: the diagonal in one hue, errors in another, shaded by the share of the row.

    Errors are shaded by the square root of their share, so that a confusion of 2 % is seen beside a recall of 98 %.
    """
    n = len(table.classes)
    names = [shorten(clean(name), _NAME) for name in table.classes]
    longest = max((text_width(name) for name in names), default=1.0)
    cell = 44 if n <= 6 else 38 if n <= 12 else 28 if n <= _TEXT_LIMIT else max(6, 560 // n)
    if n <= _TEXT_LIMIT:
        most = max((count for row in table.counts for count in row), default=0)
        cell = max(cell, round(7.2 * len(f"{most:,.0f}")) + 8)
    left = 34 + longest if n <= 2 * _TEXT_LIMIT else 34
    upright = longest > cell - 4
    top = 36 + (longest if upright else 12) if n <= 2 * _TEXT_LIMIT else 30
    width, height = left + n * cell + 8, top + n * cell + 8
    root = picture(table.id, table.title, table.desc, width, height, css="heat")
    # It shrinks a little with its box, then scrolls in it: the numbers stay legible.
    root.attrib |= {"width": f"{width:.0f}", "height": f"{height:.0f}", "style": f"min-width:{_SHRINK * width:.0f}px"}
    element("text", root, "predicted", css="name x", x=left + n * cell, y=12)
    middle = top + n * cell / 2
    element("text", root, "true", css="name turned", x=12, y=middle, transform=f"rotate(-90 12 {middle:.1f})")
    for row, counts in enumerate(table.counts):
        if n <= 2 * _TEXT_LIMIT:
            _names(root, names, row, cell, left, top, upright)
        _row(root, table, row, counts, cell, left, top)
    return text_of(root)


def text_width(text: str) -> float:
    """About how wide a label is, in pixels at the size of a chart's text."""
    return sum(map(_letter_width, text))


def _letter_width(letter: str) -> float:
    if east_asian_width(letter) in "WF":
        return 12.0
    if letter in "iljtf.,:;'|!I1 ":
        return 4.2
    return 9.8 if letter in "mwMW@" else 7.8 if letter.isupper() else 6.9


def _names(root: Element, names: Sequence[str], row: int, cell: float, left: float, top: float, upright: bool) -> None:
    middle = (row + 0.5) * cell
    element("text", root, names[row], css="tick y", x=left - 7, y=top + middle + 4)
    x, y = left + middle, top - 8
    if upright:
        turn = f"rotate(-90 {x:.1f} {y:.1f}) translate(0 4)"
        element("text", root, names[row], css="tick start", x=x, y=y, transform=turn)
    else:
        element("text", root, names[row], css="tick x", x=x, y=y)


def _row(
    root: Element, table: HeatMap, row: int, counts: Sequence[float], cell: float, left: float, top: float
) -> None:
    total = sum(counts)
    for column, count in enumerate(counts):
        share = count / total if total > 0 else 0.0
        right = row == column
        opacity = share if right else 0.12 + 0.88 * share**0.5
        x, y = left + column * cell, top + row * cell
        kind = "right" if right else "wrong"
        level = " high" if opacity > _HIGH[kind] else " middle" if opacity > _MIDDLE else ""
        group = element("g", root, css=f"cell {kind}{level}")
        names = f"true {clean(table.classes[row])}, predicted {clean(table.classes[column])}"
        element("title", group, f"{names}: {count:,.0f} of {total:,.0f} ({percent(share)})")
        element("rect", group, css="base", x=x + 0.5, y=y + 0.5, width=cell - 1, height=cell - 1)
        if count:
            shade = element("rect", group, css="shade", x=x + 0.5, y=y + 0.5, width=cell - 1, height=cell - 1)
            shade.set("fill-opacity", f"{opacity:.3f}")
        if count and len(table.classes) <= _TEXT_LIMIT:
            element("text", group, f"{count:,.0f}", css="count", x=x + cell / 2, y=y + cell / 2 + 4)


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One dot per member, the mean as a tick, the 95 % interval as a bar; on `limits`, or on its own range."""

    id: str
    title: str
    values: Sequence[float | None]
    mean: float | None
    interval: tuple[float, float] | None = None
    limits: tuple[float, float] | None = None
    width: int = 150
    height: int = 22


def strip(plot: Strip) -> str:
    """Draw the strip as one `<svg>` without an axis: it stands beside the numbers it shows."""
    values = finite(plot.values)
    root = picture(
        plot.id, plot.title, "Dots: members. Bar: 95 % interval of the mean.", plot.width, plot.height, css="strip"
    )
    edges = [*values, *([plot.mean] if plot.mean is not None else []), *(plot.interval or ())]
    low, high = plot.limits or padded(edges, share=0.08)
    x = Scale(low=low, high=high, start=5, end=plot.width - 5)
    middle = plot.height / 2
    element("line", root, css="track", x1=0, x2=plot.width, y1=middle, y2=middle)
    if plot.interval:
        start, end = (x(edge) for edge in plot.interval)
        element("rect", root, css="interval", x=start, y=middle - 5, width=max(1.5, end - start), height=10, rx=2)
    for value in values:
        element("circle", root, css="dot", cx=x(value), cy=middle, r=2.6)
    if plot.mean is not None:
        element("line", root, css="centre", x1=x(plot.mean), x2=x(plot.mean), y1=middle - 8, y2=middle + 8)
    return text_of(root)
