"""Ensembles beside the members: their metrics, and those of the members they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paceline.report.files import Json, items, section
from paceline.report.results import Metric, headline_of, metrics_of
from paceline.report.tables import Cell, Table
from paceline.report.words import THIN, before, capital, clean, count, finite, label, number, places_for, show

_NAMED = 6  # more candidates than this are only counted


@dataclass(frozen=True, kw_only=True)
class EnsembleRow:
    """One metric of one ensemble as text."""

    name: str
    made_of: str
    metric: str
    value: str
    samples: str
    members: str


def ensemble_rows(summary: Json) -> list[EnsembleRow]:
    """The main metrics of each ensemble in the summary."""
    rows: list[EnsembleRow] = []
    for kind in ("mean", "greedy"):
        tree = section(summary, "ensemble", kind)
        table = section(tree, "metrics")
        known = {row.name: row for row in metrics_of(summary) if row.name in table}
        for main in [row.name for row in headline_of(summary) if row.name in known][:2]:
            alike = [name for name in known if before(name) == main]  # the same after what was fitted on validation
            rows += [_row(kind, tree, section(table, name), known[name]) for name in alike]
    return rows


def ensemble_table(summary: Json) -> Table | None:
    """A row per ensemble and main metric; None where there is no ensemble."""
    rows = ensemble_rows(summary)
    if not rows:
        return None
    columns = [("ensemble", "name"), ("made of", "why"), ("metric", "text"), ("value", "number")]
    columns += [("over samples", "number"), ("its members, mean", "number")]
    cells: list[Sequence[Cell]] = [
        (row.name, row.made_of, capital(label(row.metric)), row.value, row.samples, row.members) for row in rows
    ]
    calibrated = any(section(summary, "ensemble", kind).get("probabilities") for kind in ("mean", "greedy"))
    averaged = "Calibrated probabilities" if calibrated else "Probabilities or numbers"
    caption = f"{averaged} are averaged. Over samples: 95{THIN}% interval over draws of the samples."
    if any(row.name != "mean of members" for row in rows):
        caption += " The greedy choice was made on validation, so its validation figures are optimistic."
    return Table(columns=columns, rows=cells, caption=caption, title="ensembles")


def _row(kind: str, tree: Json, row: Json, metric: Metric) -> EnsembleRow:
    counts = {clean(name): number(n) or 0.0 for name, n in section(tree, "members").items()}
    total = sum(counts.values())
    made_of = ", ".join(name if n == total else f"{name} × {n:.0f}" for name, n in counts.items())
    if kind == "mean" or len(counts) > _NAMED:
        made_of = count(len(counts), "candidate")
    edges = finite(number(edge) for edge in items(row, "ci95_samples"))
    places = (
        metric.places if metric.places is not None else places_for(edges[1] - edges[0]) if len(edges) == 2 else None
    )
    by = clean(tree.get("metric"))
    return EnsembleRow(
        name="mean of members" if kind == "mean" else "greedy on validation",
        made_of=made_of + (f"; chosen by {label(by)}" if by else ""),
        metric=metric.name,
        value=show(number(row.get("value")), places),
        samples=" to ".join(show(edge, places) for edge in edges) if len(edges) == 2 else show(None),
        members=show(number(row.get("members_mean")), places),
    )
