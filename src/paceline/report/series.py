"""Histories of members as series: one x for all, groups by variant, means and ranges over members. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from paceline.report.files import Json, RunFiles
from paceline.report.results import MemberResult
from paceline.report.svg import colour
from paceline.report.words import finite, numbers

Curve = list[tuple[float, float | None]]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One member's history on the common x axis. `css` holds the colour of its variant."""

    member: MemberResult
    x: Sequence[float]
    columns: Mapping[str, Sequence[float | None]]
    css: str

    def curve(self, name: str) -> Curve:
        """The points of one column; empty where the history does not have it."""
        return list(zip(self.x, self.columns.get(name, ()), strict=False))

    def at(self, name: str, x: float | None) -> float | None:
        """The value of a column at x, None where there is none."""
        return dict(self.curve(name)).get(x) if x is not None else None


@dataclass(frozen=True, kw_only=True)
class History:
    """All members that have a history. `axis` is `epoch`, or `step` where epochs repeat."""

    axis: str
    series: Sequence[Series]
    variants: Sequence[str]

    def groups(self) -> list[list[Series]]:
        """The series of each variant that has any, in order."""
        groups = [[one for one in self.series if one.member.variant == variant] for variant in self.variants]
        return [group for group in groups if group]

    def chosen(self, one: Series) -> float | None:
        """Where on the axis the member's chosen weights lie."""
        return one.member.chosen.epoch if self.axis == "epoch" else one.member.chosen.step

    def raw_best(self, one: Series) -> float | None:
        """Where on the axis the unsmoothed best lies."""
        if self.axis == "epoch":
            return one.member.chosen.raw_best_epoch
        chosen = one.member.chosen
        rows = zip(one.x, one.columns.get("epoch", ()), one.columns.get(chosen.metric, ()), strict=False)
        best = (chosen.raw_best_epoch, chosen.raw_best_value)
        return next((x for x, epoch, value in rows if (epoch, value) == best), None)

    def has(self, name: str) -> bool:
        return any(value is not None for one in self.series for _, value in one.curve(name))


def history_of(files: RunFiles, members: Sequence[MemberResult]) -> History:
    """Join members and histories; folders that the summary does not name come last (a run that is not finished)."""
    known = {member.id: member for member in members}
    known.update({name: MemberResult(id=name) for name in files.histories if name not in known})
    rows = [(member, files.histories[name]) for name, member in known.items() if files.histories.get(name)]
    axis = next((name for name in ("epoch", "step") if all(_rises(history, name) for _, history in rows)), "")
    variants = list(dict.fromkeys(member.variant for member, _ in rows))
    made = [_series(member, history, axis, colour(variants.index(member.variant))) for member, history in rows]
    return History(axis=axis or "evaluation", series=made, variants=variants)


def mean_curves(group: Sequence[Series], name: str) -> tuple[Curve, Curve]:
    """Mean over the members: where all still train, and (from the last such point on) where at least half do.

    After the first member stops the mean is over the remaining ones, which are not a fair sample: hence two curves.
    """
    curves = [known for one in group if (known := _finite_curve(one, name))]
    everyone: Curve = []
    most: Curve = []
    for x, values in _columns(curves).items():
        point = (x, sum(values) / len(values))
        if len(values) == len(curves):
            everyone.append(point)
            most = [point]
        elif 2 * len(values) >= len(curves) and len(values) > 1:
            most.append(point)
    return everyone, most if len(most) > 1 else []


def ranges(group: Sequence[Series], name: str, low: float, high: float) -> list[tuple[float, float, float]]:
    """Two quantiles over the members at each x where at least half of them still train."""
    curves = [known for one in group if (known := _finite_curve(one, name))]
    rows = [(x, sorted(values)) for x, values in _columns(curves).items() if 2 * len(values) >= len(curves)]
    return [(x, quantile(values, low), quantile(values, high)) for x, values in rows]


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between the order statistics (Hyndman and Fan 1996, type 7)."""
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def readable_range(values: Sequence[float], *, upwards: bool) -> tuple[float, float] | None:
    """Leave the first, far away values of a rising (or falling) series out of the axis; None where nothing is cut.

    Cut only where the bottom 15 % of the values span more than the rest does one and a half times.
    """
    ordered = sorted(values if upwards else [-value for value in values])
    if len(ordered) < 8:
        return None
    low, edge, high = ordered[0], quantile(ordered, 0.15), ordered[-1]
    if edge - low <= 1.5 * (high - edge) or high <= edge:
        return None
    found = (edge - 0.08 * (high - edge), high + 0.08 * (high - edge))
    return found if upwards else (-found[1], -found[0])


def _columns(curves: Sequence[Mapping[float, float]]) -> dict[float, list[float]]:
    places = sorted({x for curve in curves for x in curve})
    return {x: [curve[x] for curve in curves if x in curve] for x in places}


def _finite_curve(one: Series, name: str) -> dict[float, float]:
    return {x: value for x, value in one.curve(name) if value is not None}


def _rises(history: Json, name: str) -> bool:
    values = numbers(history.get(name))
    known = finite(values)
    return bool(known) and len(known) == len(values) and all(a < b for a, b in pairwise(known))


def _series(member: MemberResult, history: Json, axis: str, css: str) -> Series:
    columns = {str(name): numbers(values) for name, values in history.items()}
    length = max(map(len, columns.values()), default=0)
    x = finite(columns[axis]) if axis else [float(index + 1) for index in range(length)]
    return Series(member=member, x=x, columns=columns, css=css)
