"""The comparison as a page of its own, and as JSON: one file each, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from paceline.checkpoint.files import write_text_atomic
from paceline.report.compare import Comparison, Pair, Side
from paceline.report.compare_forest import Forest, ForestRow, forest
from paceline.report.compare_words import SOURCES, details, signed_range, to_tree, verdict
from paceline.report.results import Metric
from paceline.report.tables import Cell, Table, limits_for, metric_strip
from paceline.report.template import render_page
from paceline.report.words import better, capital, clean, count, finite, label, show


@dataclass(frozen=True, kw_only=True)
class PairView:
    """One difference: its name and what its verdict stands on."""

    name: str
    details: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One metric."""

    id: str
    heading: str
    difference: str
    forest: Markup | None
    has_samples: bool
    sides: Table
    pairs: list[PairView]


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that the template shows."""

    title: str
    heading: str
    facts: list[tuple[str, str]]
    verdicts: list[tuple[str, str, bool]]  # the metric where there are several, the sentence, whether it is a finding
    sections: list[Section]
    notes: list[str]


def write_comparison_page(found: Comparison, target: Path) -> None:
    """Write the comparison as one HTML file: no scripts, nothing loaded, light and dark, screen, phone and paper."""
    write_text_atomic(target, render_page("compare.html", page_of(found)), durable=False)


def write_comparison_json(found: Comparison, target: Path) -> None:
    """Write the comparison as JSON."""
    write_text_atomic(target, json.dumps(to_tree(found), indent=1, allow_nan=False) + "\n", durable=False)


def page_of(found: Comparison) -> Page:
    """Gather the sections."""
    first = found.sides[0].name
    others = list(dict.fromkeys(pair.b for pair in found.pairs))
    heading = f"{others[0] if len(others) == 1 else count(len(others), 'other')} against {first}"
    facts = [("data", found.data)] if found.data else []
    facts += [("fingerprint", found.fingerprint[:19])] if found.fingerprint else []
    facts += [("tests", f"{found.tests:,}" + (", adjusted by Holm" if found.tests > 1 else ""))]
    return Page(
        title=f"{heading} · paceline comparison",
        heading=heading,
        facts=facts,
        verdicts=[_verdict(found, pair) for pair in found.pairs],
        sections=[_section(found, metric, index) for index, metric in enumerate(found.metrics)],
        notes=[*found.notes, SOURCES],
    )


def _verdict(found: Comparison, pair: Pair) -> tuple[str, str, bool]:
    several = len(found.metrics) > 1
    text = verdict(found, pair)
    starts_with_a_name = pair.found or several
    return capital(label(pair.metric)) if several else "", text if starts_with_a_name else capital(text), pair.found


def _section(found: Comparison, metric: str, index: int) -> Section:
    pairs = [pair for pair in found.pairs if pair.metric == metric]
    way = better(metric)
    drawn = _forest(metric, pairs, index)
    return Section(
        id=f"metric-{index}",
        heading=capital(label(metric)) + (f" ({way} is better)" if way else ""),
        difference=f"Difference to {pairs[0].a}",
        forest=drawn,
        has_samples=any(pair.samples is not None and pair.samples.low is not None for pair in pairs),
        sides=_sides([side for side in found.sides if side.metric == metric], index),
        pairs=[PairView(name=f"{pair.b} against {pair.a}", details=details(found, pair)) for pair in pairs],
    )


def _forest(metric: str, pairs: list[Pair], index: int) -> Markup | None:
    rows = [row for row in map(_row, pairs) if row is not None]
    if not rows:
        return None
    first = pairs[0].a
    way = better(metric)
    name = f"{first[:22]}…" if len(first) > 24 else first
    sides = {"higher": (f"{name} better", f"{name} worse"), "lower": (f"{name} worse", f"{name} better")}
    left, right = sides.get(way, ("lower", "higher"))
    shown = "; ".join(f"{row.name}: {row.numbers}" for row in rows[:12])
    plot = Forest(
        id=f"forest-{index}", title=f"{capital(label(metric))}: differences to {first}", desc=f"{shown}.", rows=rows,
        left=left, right=right,
    )  # fmt: skip
    return Markup(forest(plot))  # noqa: S704 - well-formed by construction, every text escaped


def _row(pair: Pair) -> ForestRow | None:
    made, samples = pair.difference, pair.samples
    if made.mean is None:
        return None
    return ForestRow(
        name=pair.b,
        numbers=signed_range(pair),
        value=made.mean,
        interval=None if made.low is None or made.high is None else (made.low, made.high),
        samples=None if samples is None or samples.low is None or samples.high is None else (samples.low, samples.high),
        found=pair.found,
    )


def _sides(sides: list[Side], index: int) -> Table:
    """Every arm with its mean, interval and members; one scale for all."""
    rows = [_metric(side) for side in sides]
    columns = [("", "name"), ("members", "number"), ("mean", "number"), ("95\u202f% interval", "number")]
    columns += [("std", "number"), ("each", "plot")]
    cells: list[list[Cell]] = []
    for number, (side, row) in enumerate(zip(sides, rows, strict=True)):
        n = f"{len(finite(side.values)):,}" + (f" and {side.failed} failed" if side.failed else "")
        strip = metric_strip(row, f"side-{index}-{number}", limits_for(row.name, rows))
        cells.append([side.name, n, show(row.mean, row.places), row.range_text, row.std_text, strip])
    methods = list(dict.fromkeys(side.interval.method for side in sides))
    caption = f"Interval of the mean: {clean('; '.join(methods))}."
    return Table(columns=columns, rows=cells, caption=caption, title=f"{label(sides[0].metric)} of each")


def _metric(side: Side) -> Metric:
    one = side.interval
    bounds = None if one.low is None or one.high is None else (one.low, one.high)
    return Metric(
        name=side.metric, mean=one.mean, std=one.std, interval=bounds, n=one.n, method=one.method, values=side.values
    )
