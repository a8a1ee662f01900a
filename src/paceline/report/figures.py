"""Figures of many members: what panels share, and the learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from paceline.report.scale import padded, wants_log
from paceline.report.series import Curve, History, Series, mean_curves, ranges
from paceline.report.svg import Band, Chart, Line, Marker, line_chart
from paceline.report.words import THIN, capital, count, label, show

PANELS = 12  # more members than this share one chart
LINES = 200  # more members than this are not all drawn
MIDDLE = f"middle 80{THIN}% of the members"
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
    """Training and validation loss with a common y axis, so that the gap between them can be read; then the metric.

    The metric is the one that chose the weights, where it is not the loss; the learning rate comes last.
    """
    losses = [name for name in ("train_loss", "val_loss") if history.has(name)]
    if not losses:
        return None
    values = [y for name in losses for one in history.series for _, y in known(one.curve(name))]
    log = wants_log(values)
    limits = padded((min(values), max(values)), log=log)
    metrics = {one.member.chosen.metric for one in history.series} - {"", *losses}
    others = [*sorted(metrics)[:1], "lr"] if len(metrics) <= 1 else ["lr"]
    others = [name for name in others if history.has(name)]
    three = len(losses) + len(others) == 3
    panels = [_panel(history, name, log, limits, small=three) for name in losses]
    panels += [_panel(history, name, small=three) for name in others]
    note = " ".join(text for text in (_band_note(history, losses), drawn_note(history.series)) if text)
    return Figure(panels=panels, legend=_legend(history, losses), note=note, small=three)


def _legend(history: History, names: Sequence[str]) -> Legend:
    legend = line_legend(history, "mean") if len(history.series) > 1 else []
    if any(mean_curves(group, name)[1] for name in names for group in history.groups()):
        legend.append((f"key mean part {tone(history)}", "mean of those still training"))
    if any(_bands(history, name) for name in names):
        legend.append((f"key band {tone(history)}", "range of the members" if _whole_range(history) else MIDDLE))
    if any(history.chosen(one) is not None for one in history.series):
        legend.append((f"key chosen {tone(history)}", "chosen epoch"))
    return legend


def _whole_range(history: History) -> bool:
    """Few members: from the lowest to the highest. Of many, single ones at the edges would make the band."""
    return max((len(group) for group in history.groups()), default=0) <= PANELS


def _bands(history: History, name: str) -> list[Band]:
    low, high, title = (0.0, 1.0, "range of the members") if _whole_range(history) else (0.1, 0.9, MIDDLE)
    groups = [group for group in history.groups() if len(group) > 1]
    bands = [Band(points=ranges(group, name, low, high), css=group[0].css, title=title) for group in groups]
    return [band for band in bands if len(band.points) > 1]


def _band_note(history: History, names: Sequence[str]) -> str:
    """A band ends with those who train on, as it would narrow for want of members."""
    ended = {max((x for x, _ in known(one.curve(names[0]))), default=0.0) for one in history.series}
    drawn_bands = any(_bands(history, name) for name in names)
    return "Bands end where fewer than half of the members train on." if drawn_bands and len(ended) > 1 else ""


def _panel(
    history: History, name: str, log: bool = False, limits: tuple[float, float] | None = None, *, small: bool = False
) -> Panel:
    heading = capital(label(name))
    base = "loss" if limits is not None else label(name, with_split=False)
    chart = Chart(
        id=f"curves-{name}",
        title=f"{heading} of {count(len(history.series), 'member')}",
        desc=ends(history.series, name, history.axis),
        bands=[] if name == "lr" else _bands(history, name),
        lines=_rates(history) if name == "lr" else [*member_lines(history, name), *_mean_lines(history, name)],
        markers=[] if name == "lr" else chosen_marks(history, name),
        x_label=history.axis,
        y_label=f"{base} (log scale)" if log else base,
        log_y=log,
        x_range=span_of(history),
        y_range=limits,
        width=340 if small else 420,
        height=220 if small else 250,
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


def _rates(history: History) -> list[Line]:
    """The schedules that differ, each once: members that stop earlier follow the others until then."""
    lines: list[Line] = []
    for one in sorted(history.series, key=lambda one: -len(one.x)):
        points = one.curve("lr")
        css = f"mean {one.css}"
        if points and not any(line.css == css and line.points[: len(points)] == points for line in lines):
            lines.append(Line(points=points, css=css, title=one.member.variant or one.member.id))
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


def chosen_marks(history: History, name: str) -> list[Marker]:
    """The dots of all members that are drawn."""
    return [mark for one in drawn(history.series) if (mark := chosen_mark(history, one, name))]


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
