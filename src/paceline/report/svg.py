"""Inline SVG: elements that are well-formed by construction, and a line chart with many members.

Colours come from the page: every shape carries classes (`line mean c0`), the style sheet gives them CSS variables, so
one drawing serves light, dark and print. No script, no style inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

from paceline.report.scale import Point, Scale, padded, thin, tick_text
from paceline.report.words import clean

Element = ElementTree.Element
COLOURS = 6  # classes c0 .. c5 of the style sheet


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series. A y of None breaks it; a point between two breaks is drawn as a dot. `css` chooses the look."""

    points: Sequence[tuple[float, float | None]]
    css: str = "mean c0"
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Band:
    """A filled range between `low` and `high` at each x."""

    points: Sequence[tuple[float, float, float]]
    css: str = "c0"
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Marker:
    """A dot (`css="chosen c0"`) or a ring (`css="ring c0"`)."""

    x: float
    y: float
    css: str = "chosen c0"
    title: str = ""
    radius: float = 3.6


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A vertical line at x with a short label at its foot, or at its top."""

    x: float
    label: str = ""
    on_top: bool = False


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An upright bar from `left` to `right` on the x axis, from the foot of the chart to y."""

    left: float
    right: float
    y: float
    css: str = "c0"
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What a line chart shows. Sizes are in SVG units, about one CSS pixel each."""

    id: str
    title: str
    desc: str
    lines: Sequence[Line] = ()
    bands: Sequence[Band] = ()
    bars: Sequence[Bar] = ()
    markers: Sequence[Marker] = ()
    rules: Sequence[Rule] = ()
    x_label: str = "epoch"
    y_label: str = ""
    log_y: bool = False
    whole_x: bool = True
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    width: int = 420
    height: int = 250
    margin: tuple[int, int, int, int] = field(default=(24, 14, 34, 48))  # top, right, bottom, left


def line_chart(chart: Chart) -> str:
    """Draw the chart as one `<svg>` element. Without any finite point it holds axes and the words "no values"."""
    root = picture(chart.id, chart.title, chart.desc, chart.width, chart.height, css="chart")
    x, y = _scales(chart)
    _grid(root, chart, x, y)
    clip = f"{chart.id}-clip"
    frame = element("clipPath", element("defs", root), id=clip)
    # A little wider than the axes: lines and dots that touch the frame keep their full stroke.
    element("rect", frame, x=x.start - 5, y=y.end - 3, width=x.end - x.start + 10, height=y.start - y.end + 6)
    plot = element("g", root, clip_path=f"url(#{clip})")
    for band in chart.bands:
        _titled(element("path", plot, css=f"band {band.css}", d=_band_path(band, x, y)), band.title)
    for bar in chart.bars:
        _bar(plot, bar, x, y)
    for rule in chart.rules:
        element("line", plot, css="rule", x1=x(rule.x), x2=x(rule.x), y1=y.start, y2=y.end)
    for line in chart.lines:
        path = _line_path(line, x, y)
        if path:
            _titled(element("path", plot, css=f"line {line.css}", d=path), line.title)
    for marker in chart.markers:
        dot = element("circle", plot, css=f"marker {marker.css}", cx=x(marker.x), cy=y(marker.y), r=marker.radius)
        _titled(dot, marker.title)
    for rule in chart.rules:
        _rule_label(root, rule, x, y)
    if not chart.bars and not any(value is not None for line in chart.lines for _, value in line.points):
        element("text", root, "no values", css="empty", x=(x.start + x.end) / 2, y=(y.start + y.end) / 2)
    return text_of(root)


def picture(id: str, title: str, desc: str, width: float, height: float, *, css: str) -> Element:
    """An `<svg>` with a title and a description for screen readers; it scales with its box."""
    root = element("svg", None, css=css, viewBox=f"0 0 {_px(width)} {_px(height)}", role="img")
    root.set("aria-labelledby", f"{id}-title {id}-desc")
    element("title", root, title, id=f"{id}-title")
    element("desc", root, desc, id=f"{id}-desc")
    return root


def element(tag: str, parent: Element | None, text: str = "", *, css: str = "", **attributes: object) -> Element:
    """Make an element. `css` becomes `class`; an underscore in a name becomes a hyphen; text is cleaned and escaped."""
    values = {"class": css} if css else {}
    for name, value in attributes.items():
        values[name.replace("_", "-")] = _px(value) if isinstance(value, (int, float)) else clean(value)
    made = ElementTree.Element(tag, values) if parent is None else ElementTree.SubElement(parent, tag, values)
    made.text = clean(text) or None
    return made


def text_of(root: Element) -> str:
    """The element as text, well-formed and escaped."""
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _scales(chart: Chart) -> tuple[Scale, Scale]:
    top, right, bottom, left = chart.margin
    known = [(at, value) for line in chart.lines for at, value in line.points if value is not None]
    heights = [value for _, value in known] + [marker.y for marker in chart.markers]
    heights += [bar.y for bar in chart.bars]
    heights += [edge for band in chart.bands for _, low, high in band.points for edge in (low, high)]
    low, high = chart.y_range or padded(heights, log=chart.log_y)
    columns = [at for at, _ in known]
    first, last = chart.x_range or ((min(columns), max(columns)) if columns else (0.0, 1.0))
    across = Scale(low=first, high=last, start=left, end=chart.width - right)
    return across, Scale(low=low, high=high, start=chart.height - bottom, end=top, log=chart.log_y)


def _grid(root: Element, chart: Chart, x: Scale, y: Scale) -> None:
    """Horizontal grid lines with their values, the x axis, and the names of both axes."""
    group = element("g", root, css="axes")
    rows = y.ticks(max(2, round((y.start - y.end) / 46)))
    write = tick_text(rows)
    for value in rows:
        element("line", group, css="grid", x1=x.start, x2=x.end, y1=y(value), y2=y(value))
        element("text", group, write(value), css="tick y", x=x.start - 7, y=y(value) + 3.8)
    element("line", group, css="axis", x1=x.start, x2=x.end, y1=y.start, y2=y.start)
    columns = x.ticks(max(2, round((x.end - x.start) / 62)), whole=chart.whole_x)
    if chart.whole_x and columns[0] > x.low:
        columns = [x.low, *columns[1:]] if x(columns[0]) - x(x.low) < 26 else [x.low, *columns]  # name the first epoch
    write = tick_text([]) if chart.whole_x else tick_text(columns)
    for value in columns:
        element("line", group, css="axis", x1=x(value), x2=x(value), y1=y.start, y2=y.start + 4)
        text = f"{value:,.0f}" if chart.whole_x else write(value)
        element("text", group, text, css="tick x", x=x(value), y=y.start + 16)
    element("text", group, chart.x_label, css="name x", x=x.end, y=y.start + 30)
    element("text", group, chart.y_label, css="name y", x=2, y=y.end - 11)


def _bar(plot: Element, bar: Bar, x: Scale, y: Scale) -> None:
    left, right, top = x(bar.left), x(bar.right), min(y(bar.y), y.start)
    shape = element(
        "rect", plot, css=f"column {bar.css}", x=left, y=top, width=max(0.8, right - left), height=y.start - top
    )
    _titled(shape, bar.title)


def _rule_label(root: Element, rule: Rule, x: Scale, y: Scale) -> None:
    near_the_right = x(rule.x) > x.end - 60
    css = "rule-label before" if near_the_right else "rule-label after"
    element(
        "text",
        root,
        rule.label,
        css=css,
        x=x(rule.x) + (-5 if near_the_right else 5),
        y=y.end + 10 if rule.on_top else y.start - 6,
    )


def _line_path(line: Line, x: Scale, y: Scale) -> str:
    runs: list[list[Point]] = [[]]
    for at, value in line.points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((at, value))
    parts: list[str] = []
    for run in runs:
        if len(run) == 1:
            parts.append(f"M{_at(run[0], x, y)}h0")  # a zero-length stroke with round caps is a dot
        elif run:
            parts.append("M" + "L".join(_at(point, x, y) for point in thin(run)))
    return "".join(parts)


def _band_path(band: Band, x: Scale, y: Scale) -> str:
    upper = [(at, high) for at, _, high in band.points]
    lower = [(at, low) for at, low, _ in band.points]
    around = [*thin(upper), *reversed(thin(lower))]
    return "M" + "L".join(_at(point, x, y) for point in around) + "Z" if around else "M0 0"


def _at(point: Point, x: Scale, y: Scale) -> str:
    return f"{_px(x(point[0]))} {_px(y(point[1]))}"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _titled(shape: Element, title: str) -> None:
    if title:
        element("title", shape, title)


def colour(index: int) -> str:
    """The classes of the index-th group; colours repeat after the sixth, then dashed."""
    return f"c{index % COLOURS}" + (" dashed" if index // COLOURS % 2 else "")
