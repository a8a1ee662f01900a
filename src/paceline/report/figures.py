"""Figures of many members: what panels share, and the learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from paceline.report.scale import padded, wants_log
from paceline.report.series import Curve, History, Series, mean_curves
from paceline.report.svg import Chart, Line, Marker, line_chart
from paceline.report.words import capital, count, label, show

PANELS = 12  # more members than this share one chart
LINES = 200  # more members than this are not all drawn
Legend = list[tuple[str, str]]  # (css, name)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One drawing with a heading above and words below."""

    heading: str
    svg: Markup
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels with a common legend, an introduction and a note. `small` panels stand three in a row."""

    panels: Sequence[Panel]
    legend: Sequence[tuple[str, str]] = ()
    intro: str = ""
    note: str = ""
    small: bool = False


def learning_curves(history: History) -> Figure | None:
    """Training and validation loss with a common y axis, so that the gap between them can be read."""
    names = [name for name in ("train_loss", "val_loss") if history.has(name)]
    if not names:
        return None
    values = [y for name in names for one in history.series for _, y in known(one.curve(name))]
    log = wants_log(values)
    limits = padded((min(values), max(values)), log=log)
    legend = line_legend(history, "mean") if len(history.series) > 1 else []
    if any(mean_curves(group, name)[1] for name in names for group in history.groups()):
        legend.append((f"key mean part {tone(history)}", "mean of those still training"))
    if any(history.chosen(one) is not None for one in history.series):
        legend.append((f"key chosen {tone(history)}", "chosen epoch"))
    panels = [_panel(history, name, log, limits) for name in names]
    return Figure(panels=panels, legend=legend, note=drawn_note(history.series))


def _panel(history: History, name: str, log: bool, limits: tuple[float, float]) -> Panel:
    heading = capital(label(name))
    chart = Chart(
        id=f"curves-{name}",
        title=f"{heading} of {count(len(history.series), 'member')}",
        desc=ends(history.series, name, history.axis),
        lines=[*member_lines(history, name), *_mean_lines(history, name)],
        markers=[mark for one in drawn(history.series) if (mark := chosen_mark(history, one, name))],
        x_label=history.axis,
        y_label="loss (log scale)" if log else "loss",
        log_y=log,
        x_range=span_of(history),
        y_range=limits,
    )
    return Panel(heading=heading, svg=draw(chart))


def member_lines(history: History, name: str) -> list[Line]:
    """A thin line per member; a full one where there is no mean to stand out from."""
    sizes = {group[0].member.variant: len(group) for group in history.groups()}
    few = len(history.series) <= PANELS
    lines: list[Line] = []
    for one in drawn(history.series):
        alone = few and sizes[one.member.variant] == 1
        look = "mean" if alone else "member" if len(history.series) <= 2 * PANELS else "member many"
        lines.append(Line(points=one.curve(name), css=f"{look} {one.css}", title=one.member.id))
    return lines


def _mean_lines(history: History, name: str) -> list[Line]:
    lines: list[Line] = []
    for group in history.groups():
        variant = group[0].member.variant
        everyone, most = mean_curves(group, name) if len(group) > 1 else ([], [])
        title = f"mean of {variant}" if variant else "mean"
        lines.append(Line(points=most, css=f"mean part {group[0].css}", title=f"{title}, those still training"))
        lines.append(Line(points=everyone, css=f"mean {group[0].css}", title=title))
    return [line for line in lines if line.points]


def chosen_mark(history: History, one: Series, name: str) -> Marker | None:
    """A dot where the member's chosen weights lie on a curve; None where the curve has no value there."""
    at = history.chosen(one)
    y = one.at(name, at)
    if at is None or y is None:
        return None
    radius = 3.6 if len(history.series) <= 2 * PANELS else 2.6
    title = f"{one.member.id}: {history.axis} {at:g}, {show(y)}"
    return Marker(x=at, y=y, css=f"chosen {one.css}", title=title, radius=radius)


def line_legend(history: History, mean: str) -> Legend:
    """The keys of variants (up to twelve), of one member, and of the mean, which is called `mean`."""
    colour = tone(history)
    named = [(f"key mean {group[0].css}", group[0].member.variant) for group in history.groups()]
    shown = named if 1 < len(named) <= PANELS else []
    return [*shown, (f"key member {colour}", "one member"), (f"key mean {colour}", mean)]


def tone(history: History) -> str:
    """The colour of what stands for every variant."""
    return "tone" if len(history.variants) > 1 else "c0"


def drawn(series: Sequence[Series]) -> Sequence[Series]:
    """At most `LINES` members, evenly over their order."""
    return series[:: math.ceil(len(series) / LINES)] if len(series) > LINES else series


def drawn_note(series: Sequence[Series]) -> str:
    """Says how many members are drawn, where it is not all of them."""
    shown = len(drawn(series))
    return "" if shown == len(series) else f"Lines: {shown} of {len(series):,} members. Means: all of them."


def ends(series: Sequence[Series], name: str, axis: str) -> str:
    """Words for a reader who cannot see the chart."""
    last = [values[-1][1] for one in series if (values := known(one.curve(name)))]
    if not last:
        return "No values."
    between = f"{show(min(last))} and {show(max(last))}"
    return f"{capital(label(name))} against {axis}; the last values lie between {between}."


def known(curve: Curve) -> list[tuple[float, float]]:
    """The points of a curve that have a value."""
    return [(x, y) for x, y in curve if y is not None]


def span_of(history: History) -> tuple[float, float] | None:
    """The x range of all members."""
    places = [x for one in history.series for x in one.x]
    return (min(places), max(places)) if places else None


def draw(chart: Chart) -> Markup:
    """The chart as markup that the template does not escape."""
    return Markup(line_chart(chart))  # noqa: S704 - well-formed by construction, every text escaped
