"""What stands beside the models: the metrics of the references, and by how much the models exceed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paceline.report.files import Json, items, section
from paceline.report.results import Metric, headline_of, leading_words
from paceline.report.tables import Cell, Table
from paceline.report.words import THIN, capital, clean, finite, label, number, places_for, show, split_of


@dataclass(frozen=True, kw_only=True)
class ReferenceRow:
    """One metric of one reference as text; `difference` is models minus reference, with its interval where known."""

    name: str
    what: str
    metric: str
    value: str
    models: str
    difference: str


def reference_rows(summary: Json) -> list[ReferenceRow]:
    """The main metrics of each reference in the summary, the best reference first as the config has it."""
    rows: list[ReferenceRow] = []
    for name in section(summary, "references"):
        tree = section(summary, "references", name)
        table = section(tree, "metrics")
        for metric in [row for row in headline_of(summary) if row.name in table][:2]:
            rows.append(_row(clean(name), tree, metric))
    return rows


def reference_notes(summary: Json) -> list[str]:
    """What each reference is, and what favours the models."""
    rows = reference_rows(summary)
    notes = [f"{name}: {what}" for name, what in dict.fromkeys((row.name, row.what) for row in rows)]
    if any(split_of(row.metric)[0] == "val" for row in rows):
        notes.append("the models chose their epoch on these samples, which favours them; the references chose nothing")
    return notes


def reference_table(summary: Json) -> Table | None:
    """A row per reference and main metric; None where there is no reference."""
    rows = reference_rows(summary)
    if not rows:
        return None
    columns = [("beside", "name"), ("metric", "text"), ("value", "number"), ("models", "number")]
    columns += [(f"models minus it (95{THIN}% interval)", "number")]
    cells: list[Sequence[Cell]] = [
        (row.name, capital(label(row.metric)), row.value, row.models, row.difference) for row in rows
    ]
    start = leading_words(summary)
    notes = [*([f"models: {start.strip(' :,')}"] if start else []), *reference_notes(summary)]
    caption = " ".join(f"{capital(note)}." for note in notes)
    return Table(columns=columns, rows=cells, caption=caption, title="beside the models")


def _row(name: str, tree: Json, metric: Metric) -> ReferenceRow:
    value = number(section(tree, "metrics", metric.name).get("mean"))
    pair = section(tree, "difference", metric.name)
    mean = number(pair.get("mean"))
    edges = finite(number(edge) for edge in items(pair, "ci95"))
    if mean is None and value is not None and metric.mean is not None:
        mean = metric.mean - value
    places = places_for((edges[1] - edges[0]) / 2) if len(edges) == 2 else metric.places
    places = 4 if places is None else max(3, places)
    bounds = f" ({_signed(edges[0], places)} to {_signed(edges[1], places)})" if len(edges) == 2 else ""
    return ReferenceRow(
        name=name,
        what=clean(tree.get("what")),
        metric=metric.name,
        value=show(value, places),
        models=show(metric.mean, places),
        difference=_signed(mean, places) + bounds,
    )


def _signed(value: float | None, places: int) -> str:
    return show(value, places) if value is None or value < 0 else f"+{show(value, places)}"
