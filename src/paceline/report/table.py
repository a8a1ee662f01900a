"""The result of a run on a terminal: verdict, metrics, members. Fits 80 columns; plain text in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from paceline.report.decided import decision_notes
from paceline.report.ensembles import EnsembleRow, ensemble_rows
from paceline.report.files import Json
from paceline.report.references import ReferenceRow, reference_notes, reference_rows
from paceline.report.results import (
    MemberResult,
    Metric,
    headline_of,
    members_of,
    metrics_of,
    selection_rule,
    variants_of,
    verdict,
)
from paceline.report.words import BEYOND, beyond, count, show, split_of

_WIDTH, _GAP = 80, 2  # columns of a terminal, and between two columns of a table
_ROWS = 20  # a longer list of members is cut; the report has all of them


def terminal_tables(summary: Json, known: Sequence[str] = ()) -> list[RenderableType]:
    """What the command line prints at the end of a run, in order; pass each to `rich.console.Console.print`.

    The verdict, the metrics table (test where it was opened, and validation), the members table, and `known`: sentences
    on what to know before using the figures. Names are printed as text, never as rich markup.
    """
    parts: list[RenderableType] = [Text(verdict(summary), style="bold")]
    rows = [row for row in metrics_of(summary) if split_of(row.name)[0] in ("test", "val", "")]
    if rows:
        parts += [Text(""), *metrics_table(rows), *map(_line, decision_notes(summary))]
    if variants_of(summary):
        parts += [Text(""), _variants(summary)]
    members = members_of(summary)
    if members:
        parts += [Text(""), _members(members[:_ROWS])]
        more = len(members) - _ROWS
        parts += [_line(f"and {count(more, 'member')} more: see report.html")] if more > 0 else []
        rule = selection_rule([member.chosen for member in members])
        parts += [_line(f"why these epochs: {rule[:1].lower()}{rule[1:]}")] if rule else []
    ensembles = ensemble_rows(summary)
    if ensembles:
        parts += [Text(""), _ensembles(ensembles)]
    references = reference_rows(summary)
    if references:
        parts += [Text(""), _references(references), *map(_line, reference_notes(summary))]
    if known:
        parts += [Text(""), *(_line(f"! {text}", style="yellow") for text in known)]
    return parts


def metrics_table(rows: Sequence[Metric]) -> list[RenderableType]:
    """The metrics with mean, interval, std and n, and below what the intervals cover."""
    cells = _metric_cells(rows)
    table = _table()
    table.add_column(cells[0][0], overflow="fold")
    for heading in cells[0][1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for line in cells[1:]:
        table.add_row(*(Text(cell) for cell in line))
    shown = [row for row in rows if row.name in {line[0] for line in cells[1:]}]
    methods = list(dict.fromkeys((split_of(row.name)[0], row.method) for row in shown if row.interval))
    one = len({method for _, method in methods}) == 1
    notes = [f"interval of the mean: {methods[0][1]}"] if one else []
    notes += [] if one else [f"interval of the mean, {part}: {method}" for part, method in methods]
    notes += [BEYOND] if any(beyond(row.name, row.interval) for row in shown) else []
    if any(row.samples for row in shown):
        notes.append("over samples: 95 % over draws of the samples measured on, training held fixed")
    notes += ["precision and recall: see report.html"] if len(shown) < len(rows) else []
    return [table, *(_line(note) for note in notes)]


def _metric_cells(rows: Sequence[Metric]) -> list[list[str]]:
    """Headings and cells, as much as fits: else without precision and recall, with fewer decimals, without the std."""
    fewer = [row for row in rows if not {"precision", "recall"} & set(row.name.split("_"))] or rows
    for kept, decimals, std in ((rows, 9, True), (fewer, 9, True), (fewer, 4, True), (fewer, 4, False)):
        samples = any(row.samples for row in kept)
        headings = ["metric", "mean", "95 % interval", *["std"] * std, "n", *["over samples"] * samples]
        cells = [headings, *(_metric_line(row, decimals, std=std, samples=samples) for row in kept)]
        if sum(max(map(len, column)) for column in zip(*cells, strict=True)) + _GAP * (len(headings) - 1) <= _WIDTH:
            break
    return cells


def _metric_line(row: Metric, decimals: int, *, std: bool, samples: bool) -> list[str]:
    places = None if row.places is None else min(row.places, decimals)
    spread = row.std_text if decimals > 4 else show(row.std, places)
    cells = [row.name, show(row.mean, places), row.range_with(places), *[spread] * std, str(row.n)]
    return [*cells, row.samples_with(places)] if samples else cells


def _ensembles(rows: Sequence[EnsembleRow]) -> Table:
    table = _table()
    table.add_column("ensemble", overflow="fold")
    table.add_column("metric", overflow="fold")
    for heading in ("value", "over samples", "its members"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in (row.name, row.metric, row.value, row.samples, row.members)))
    return table


def _references(rows: Sequence[ReferenceRow]) -> Table:
    table = _table()
    table.add_column("beside", overflow="fold")
    table.add_column("metric", overflow="fold")
    for heading in ("value", "models", "models minus it"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in (row.name, row.metric, row.value, row.models, row.difference)))
    return table


def _variants(summary: Json) -> Table:
    table = _table()
    table.add_column("variant", overflow="fold")
    main = headline_of(summary, limit=1)
    name = main[0].name if main else ""
    for heading in (name, "95 % interval", "members"):
        table.add_column(heading, justify="right", no_wrap=True)
    for variant in variants_of(summary):
        row = next((row for row in variant.metrics if row.name == name), None)
        cells = (show(row.mean, row.places), row.range_text) if row else (show(None), show(None))
        table.add_row(*(Text(cell) for cell in (variant.name, *cells, f"{len(variant.members):,}")))
    return table


def _members(members: Sequence[MemberResult]) -> Table:
    table = _table()
    table.add_column("member", overflow="fold", min_width=8)
    smoothed = any(member.chosen.smoothing not in ("", "none") for member in members)
    for heading in ("epoch", *["smoothed"] * smoothed, "raw", "raw best"):
        table.add_column(heading, justify="right", no_wrap=True)
    rule = selection_rule([member.chosen for member in members])
    table.add_column("end" if rule else "why", overflow="fold", min_width=20)
    for member in members:
        chosen = member.chosen
        epoch = show(None) if chosen.epoch is None else f"{chosen.epoch:g}"
        best = show(chosen.raw_best_value)
        best += f" at {chosen.raw_best_epoch:g}" if chosen.raw_best_epoch is not None else ""
        # With one rule for all, the line below the table says why; a choice that the rule did not make says it here.
        by_rule = bool(rule) and chosen.smoothed is not None
        end = f"failed: {member.stopped}" if member.failed else member.stopped or member.status
        why = end if by_rule or member.failed else chosen.reason or end
        value = [show(chosen.smoothed)] * smoothed
        cells = (member.id, epoch, *value, show(chosen.value), best, why)
        style = "red" if member.failed else ""
        table.add_row(*(Text(cell, style=style) for cell in cells))
    return table


def _line(text: str, style: str = "dim") -> RenderableType:
    return Padding(Text(text, style=style), (0, 0, 0, 2), expand=False)


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
