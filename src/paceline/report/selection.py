"""The selection of each member: the metric at each evaluation, smoothed, and the epoch that was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paceline.report.figures import (
    MIDDLE,
    PANELS,
    Figure,
    Panel,
    chosen_marks,
    draw,
    drawn_note,
    ends,
    known,
    line_legend,
    member_lines,
    span_of,
    tone,
)
from paceline.report.results import selection_rule
from paceline.report.scale import padded
from paceline.report.series import History, Series, mean_curves, ranges, readable_range
from paceline.report.svg import Band, Chart, Line, Marker, Rule
from paceline.report.words import capital, count, label, show

_DOTS = 150  # a longer series is drawn without a dot per evaluation


def selection(history: History) -> Figure | None:
    """A panel for each member, or one chart of all where there are more than `PANELS`."""
    chosen = [one for one in history.series if history.has(one.member.chosen.metric)]
    if not chosen:
        return None
    if len(chosen) > PANELS:
        first = chosen[0].member.chosen.metric
        same = [one for one in chosen if one.member.chosen.metric == first]
        return _overview(replace(history, series=same), left_out=len(chosen) - len(same))
    limits, note = _limits(chosen, [name for one in chosen for name in (one.member.chosen.metric, _judged(one))])
    smooth = any(_judged(one) != one.member.chosen.metric for one in chosen)
    key = tone(history)
    legend = [("key raw", "each evaluation"), *([(f"key mean {key}", "smoothed")] if smooth else [])]
    legend += [(f"key chosen {key}", "chosen"), (f"key ring {key}", "best raw value")]
    return Figure(
        panels=[_panel(history, one, index, limits) for index, one in enumerate(chosen)],
        legend=legend,
        intro=selection_rule([one.member.chosen for one in chosen]),
        note=note,
        small=True,
    )


def _panel(history: History, one: Series, index: int, limits: tuple[float, float] | None) -> Panel:
    chosen = one.member.chosen
    raw, at = chosen.metric, history.chosen(one)
    lines = [Line(points=one.curve(raw), css="raw")]
    if _judged(one) != raw:
        lines.append(Line(points=one.curve(_judged(one)), css=f"mean {one.css}", title="smoothed"))
    chart = Chart(
        id=f"selection-{index}",
        title=f"{label(raw)} of {one.member.id}",
        desc=chosen.reason or ends([one], raw, history.axis),
        lines=lines,
        markers=[*_dots(history, one), *_marks(history, one)],
        rules=[Rule(x=at, label=f"{history.axis} {at:g}", on_top=chosen.mode == "min")] if at is not None else [],
        x_label=history.axis,
        y_label=label(raw, with_split=False),
        x_range=span_of(history),
        y_range=limits,
        width=340,
        height=200,
    )
    return Panel(heading=one.member.id, svg=draw(chart), text=capital(chosen.reason))


def _dots(history: History, one: Series) -> list[Marker]:
    points = known(one.curve(one.member.chosen.metric))
    if len(points) > _DOTS:
        return []
    return [Marker(x=x, y=y, css="raw", title=f"{history.axis} {x:g}: {show(y)}", radius=1.7) for x, y in points]


def _marks(history: History, one: Series) -> list[Marker]:
    """A ring at the best raw value, a dot at the chosen one."""
    at, best = history.chosen(one), history.raw_best(one)
    raw, height = one.at(one.member.chosen.metric, best), one.at(_judged(one), at)
    marks: list[Marker] = []
    if best is not None and raw is not None:
        marks.append(Marker(x=best, y=raw, css=f"ring {one.css}", title=f"best raw value: {show(raw)}", radius=4.6))
    if at is not None and height is not None:
        marks.append(Marker(x=at, y=height, css=f"chosen {one.css}", title=f"chosen: {show(height)}", radius=4.2))
    return marks


def _overview(history: History, left_out: int) -> Figure:
    """All members in one chart: the series that was judged, the middle 80 % of the members, every chosen epoch."""
    name, metric = _judged(history.series[0]), history.series[0].member.chosen.metric
    groups = [group for group in history.groups() if len(group) > 1]
    means = [Line(points=mean_curves(group, name)[0], css=f"mean {group[0].css}", title="mean") for group in groups]
    limits, note = _limits(history.series, [name])
    chart = Chart(
        id="selection-all",
        title=f"{label(metric)} of {count(len(history.series), 'member')}",
        desc=ends(history.series, name, history.axis),
        lines=[*member_lines(history, name), *(line for line in means if line.points)],
        bands=[Band(points=ranges(group, name, 0.1, 0.9), css=group[0].css, title=MIDDLE) for group in groups],
        markers=chosen_marks(history, name),
        x_label=history.axis,
        y_label=label(metric, with_split=False) + (", smoothed" if name != metric else ""),
        x_range=span_of(history),
        y_range=limits,
        width=500,
        height=300,
    )
    legend = line_legend(history, "mean, while all train")
    legend += [(f"key band {tone(history)}", MIDDLE), (f"key chosen {tone(history)}", "chosen epoch")]
    other = f"{count(left_out, 'member')} chosen by another metric are not shown." if left_out else ""
    reasons = "The reason of each member stands in the table of members."
    return Figure(
        panels=[Panel(heading="", svg=draw(chart))],
        legend=legend,
        intro=selection_rule([one.member.chosen for one in history.series]),
        note=" ".join(text for text in (note, drawn_note(history.series), other, reasons) if text),
    )


def _limits(series: Sequence[Series], names: Sequence[str]) -> tuple[tuple[float, float] | None, str]:
    """A common y axis for members that share a rule, and a note where it leaves values out."""
    rules = {(one.member.chosen.metric, one.member.chosen.mode) for one in series}
    if len(rules) != 1:
        return None, ""
    _, mode = rules.pop()
    columns = [[y for one in series for _, y in known(one.curve(name))] for name in dict.fromkeys(names)]
    values = [y for column in columns for y in column]
    cut = readable_range(values, upwards=mode != "min")
    if cut is None:
        return padded(values), ""
    outside = sum(not cut[0] <= value <= cut[1] for value in columns[0])
    side = f"below {show(cut[0], 2)}" if mode != "min" else f"above {show(cut[1], 2)}"
    return cut, f"The vertical axis is cut: {count(outside, 'value')} of {len(columns[0]):,} lie {side}."


def _judged(one: Series) -> str:
    """The column that improvement was judged on: the smoothed one where there is one."""
    metric = one.member.chosen.metric
    return f"{metric}_smoothed" if known(one.curve(f"{metric}_smoothed")) else metric
