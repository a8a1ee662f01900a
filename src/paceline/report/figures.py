"""The figures of the report: learning curves of all members, and the selection of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from paceline.report.results import selection_rule
from paceline.report.scale import padded, wants_log
from paceline.report.series import Curve, History, Series, mean_curves, ranges, readable_range
from paceline.report.svg import Band, Chart, Line, Marker, Rule, line_chart
from paceline.report.words import capital, clean, count, finite, label, show

PANELS = 12  # more members than this share one chart


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One drawing with a heading above and words below."""

    heading: str
    svg: Markup
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels with a common legend (css, name), an introduction and notes."""

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
    values = [value for name in names for one in history.series for value in finite(y for _, y in one.curve(name))]
    log, shared = wants_log(values), _limits(values)
    panels = [_curve_panel(history, name, log, shared) for name in names]
    several = len(history.series) > 1
    tone = _tone(history)
    legend = [
        *_variants(history),
        *([(f"key member {tone}", "one member"), (f"key mean {tone}", "mean")] if several else []),
    ]
    if any(mean_curves(group, name)[1] for name in names for group in history.groups()):
        legend.append((f"key mean part {tone}", "mean of those still training"))
    if any(history.chosen(one) is not None for one in history.series):
        legend.append((f"key chosen {tone}", "chosen epoch"))
    return Figure(panels=panels, legend=legend)


def _curve_panel(history: History, name: str, log: bool, limits: tuple[float, float]) -> Panel:
    lines: list[Line] = []
    several = len(history.series) > 1
    for one in history.series:
        look = _thin(history.series) if several else "mean"
        lines.append(Line(points=one.curve(name), css=f"{look} {one.css}", title=one.member.id))
    for group, variant in zip(history.groups(), history.variants, strict=True):
        everyone, most = mean_curves(group, name) if len(group) > 1 else ([], [])
        title = f"mean of {variant}" if variant else "mean"
        lines += [Line(points=most, css=f"mean part {group[0].css}", title=f"{title}, those still training")]
        lines += [Line(points=everyone, css=f"mean {group[0].css}", title=title)]
    markers = [mark for one in history.series if (mark := _chosen_mark(history, one, name))]
    heading = capital(label(name))
    return Panel(
        heading=heading,
        svg=_draw(
            Chart(
                id=f"curves-{name}",
                title=f"{heading} of {count(len(history.series), 'member')}",
                desc=_ends(history, name),
                lines=[line for line in lines if line.points],
                markers=markers,
                x_label=history.axis,
                y_label="loss (log scale)" if log else "loss",
                log_y=log,
                x_range=_span(history),
                y_range=_with_margin(limits, log),
            )
        ),
    )


def selection(history: History) -> Figure | None:
    """The selection metric of each member: raw, smoothed, the chosen epoch, and the reason in words."""
    chosen = [one for one in history.series if one.member.chosen.metric and history.has(one.member.chosen.metric)]
    if not chosen:
        return None
    intro = selection_rule([one.member.chosen for one in chosen])
    if len(chosen) > PANELS:
        return _overview(history, chosen, intro)
    limits, note = _selection_limits(chosen)
    panels = [_member_panel(history, one, index, limits) for index, one in enumerate(chosen)]
    smooth = any(_is_smoothed(one) for one in chosen)
    tone = _tone(history)
    legend = [("key raw", "each evaluation"), *([(f"key mean {tone}", "smoothed")] if smooth else [])]
    legend += [(f"key chosen {tone}", "chosen"), (f"key ring {tone}", "best raw value")]
    return Figure(panels=panels, legend=legend, intro=intro, note=note, small=True)


def _member_panel(history: History, one: Series, index: int, limits: tuple[float, float] | None) -> Panel:
    chosen = one.member.chosen
    raw, at, best = chosen.metric, history.chosen(one), history.raw_best(one)
    lines = [Line(points=one.curve(raw), css="raw")]
    if _is_smoothed(one):
        lines.append(Line(points=one.curve(_smooth(raw)), css=f"mean {one.css}", title="smoothed"))
    dots = [
        Marker(x=x, y=y, css="raw", title=f"{history.axis} {x:g}: {show(y)}", radius=1.7)
        for x, y in _known(one.curve(raw))
    ]
    best_y = chosen.raw_best_value if chosen.raw_best_value is not None else one.at(raw, best)
    if best is not None and best_y is not None:
        dots.append(
            Marker(x=best, y=best_y, css=f"ring {one.css}", title=f"best raw value: {show(best_y)}", radius=4.6)
        )
    height = one.at(_smooth(raw), at) if _is_smoothed(one) else one.at(raw, at)
    if at is not None and height is not None:
        dots.append(Marker(x=at, y=height, css=f"chosen {one.css}", title=f"chosen: {show(height)}", radius=4.2))
    chart = Chart(
        id=f"selection-{index}",
        title=f"{label(raw)} of {one.member.id}",
        desc=chosen.reason,
        lines=lines,
        markers=dots if len(one.x) <= 150 else dots[len(_known(one.curve(raw))) :],
        rules=[Rule(x=at, label=f"{history.axis} {at:g}", on_top=chosen.mode == "min")] if at is not None else [],
        x_label=history.axis,
        y_label=label(raw, with_split=False),
        x_range=_span(history),
        y_range=limits,
        width=340,
        height=200,
    )
    return Panel(heading=one.member.id, svg=_draw(chart), text=capital(chosen.reason))


def _overview(history: History, chosen: Sequence[Series], intro: str) -> Figure:
    """One chart for many members: all smoothed series, the middle 80 %, every chosen epoch."""
    lines: list[Line] = []
    bands: list[Band] = []
    marks: list[Marker] = []
    for one in chosen:
        name = _smooth(one.member.chosen.metric) if _is_smoothed(one) else one.member.chosen.metric
        lines.append(Line(points=one.curve(name), css=f"{_thin(chosen)} {one.css}", title=one.member.id))
        if mark := _chosen_mark(history, one, name):
            marks.append(mark)
    for group in history.groups():
        same = [one for one in group if one in chosen]
        if len(same) > 1:
            name = _smooth(same[0].member.chosen.metric) if _is_smoothed(same[0]) else same[0].member.chosen.metric
            bands.append(Band(points=ranges(same, name, 0.1, 0.9), css=same[0].css, title="middle 80 % of the members"))
            lines.append(Line(points=mean_curves(same, name)[0], css=f"mean {same[0].css}", title="mean"))
    limits, note = _selection_limits(chosen)
    metric = chosen[0].member.chosen.metric
    chart = Chart(
        id="selection-all",
        title=f"{label(metric)} of {count(len(chosen), 'member')}",
        desc=intro,
        lines=lines,
        bands=bands,
        markers=marks,
        x_label=history.axis,
        y_label=label(metric, with_split=False) + (", smoothed" if _is_smoothed(chosen[0]) else ""),
        x_range=_span(history),
        y_range=limits,
        width=500,
        height=300,
    )
    tone = _tone(history)
    legend = [*_variants(history), (f"key member {tone}", "one member"), (f"key mean {tone}", "mean, while all train")]
    legend += [(f"key band {tone}", "middle 80\u202f% of the members"), (f"key chosen {tone}", "chosen epoch")]
    note = f"{note} The reason of each member stands in the table of members.".strip()
    return Figure(panels=[Panel(heading="", svg=_draw(chart))], legend=legend, intro=intro, note=note)


def _selection_limits(chosen: Sequence[Series]) -> tuple[tuple[float, float] | None, str]:
    """A common y axis for all members of one metric, and a note where it leaves values out."""
    metrics = {(one.member.chosen.metric, one.member.chosen.mode) for one in chosen}
    if len(metrics) != 1:
        return None, ""
    metric, mode = metrics.pop()
    values = [y for one in chosen for name in (metric, _smooth(metric)) for _, y in _known(one.curve(name))]
    cut = readable_range(values, upwards=mode != "min")
    if not values:
        return None, ""
    if cut is None:
        return _with_margin(_limits(values), False), ""
    raw = [y for one in chosen for _, y in _known(one.curve(metric))]
    outside = sum(not cut[0] <= value <= cut[1] for value in raw)
    side = f"below {show(cut[0], 2)}" if mode != "min" else f"above {show(cut[1], 2)}"
    return cut, f"The vertical axis is cut: {count(outside, 'evaluation')} of {len(raw):,} lie {side}."


def _thin(series: Sequence[Series]) -> str:
    return "member many" if len(series) > 2 * PANELS else "member"


def _chosen_mark(history: History, one: Series, name: str) -> Marker | None:
    at = history.chosen(one)
    y = one.at(name, at)
    if at is None or y is None:
        return None
    title = f"{one.member.id}: {history.axis} {at:g}, {show(y)}"
    return Marker(
        x=at, y=y, css=f"chosen {one.css}", title=title, radius=2.6 if len(history.series) > 2 * PANELS else 3.6
    )


def _ends(history: History, name: str) -> str:
    """Words for a reader who cannot see the chart."""
    last = [values[-1][1] for one in history.series if (values := _known(one.curve(name)))]
    if not last:
        return "No values."
    between = f"{show(min(last))} and {show(max(last))}"
    return f"{capital(label(name))} against {history.axis}; the last values lie between {between}."


def _variants(history: History) -> list[tuple[str, str]]:
    named = [
        (f"key mean {group[0].css}", clean(name))
        for group, name in zip(history.groups(), history.variants, strict=True)
    ]
    return named if len(named) > 1 else []


def _tone(history: History) -> str:
    """The colour of what stands for every variant."""
    return "c5" if len(history.variants) > 1 else "c0"


def _known(curve: Curve) -> list[tuple[float, float]]:
    return [(x, y) for x, y in curve if y is not None]


def _smooth(name: str) -> str:
    return f"{name}_smoothed"


def _is_smoothed(one: Series) -> bool:
    return bool(_known(one.curve(_smooth(one.member.chosen.metric))))


def _limits(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _with_margin(limits: tuple[float, float], log: bool) -> tuple[float, float]:
    return padded(limits, log=log)


def _span(history: History) -> tuple[float, float] | None:
    places = [x for one in history.series for x in one.x]
    return (min(places), max(places)) if places else None


def _draw(chart: Chart) -> Markup:
    return Markup(line_chart(chart))  # noqa: S704 - well-formed by construction, every text escaped
