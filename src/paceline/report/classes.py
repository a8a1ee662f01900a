"""The sections on classes: the confusion matrix, and precision, recall and F1 of each class."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from paceline.report.files import Json, items, section
from paceline.report.heat import HeatMap, heat_map
from paceline.report.tables import Cell, Table
from paceline.report.words import capital, clean, label, number, percent, show


def confusion(summary: Json) -> tuple[Markup, str, str] | None:
    """The heat map, the split it is of, and a sentence on the most frequent confusions; test before validation."""
    for split in ("test", "val"):
        table = section(summary, "confusion", split)
        classes = [clean(name) for name in items(table, "classes")]
        counts = [[number(cell) or 0.0 for cell in row] for row in items(table, "counts") if isinstance(row, list)]
        if classes and len(counts) == len(classes) and all(len(row) == len(classes) for row in counts):
            words = _confusion_words(classes, counts)
            title = f"{capital(label(split + '_confusion'))}"
            drawn = heat_map(HeatMap(id="confusion-map", title=title, desc=words, classes=classes, counts=counts))
            return Markup(drawn), split, words  # noqa: S704 - well-formed by construction
    return None


def _confusion_words(classes: Sequence[str], counts: Sequence[Sequence[float]]) -> str:
    total = sum(map(sum, counts))
    wrong = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if i != j and n > 0]
    if not total:
        return "The matrix is empty."
    if not wrong:
        return f"All {total:,.0f} predictions are right."
    share = sum(n for n, _, _ in wrong) / total
    top = sorted(wrong, key=lambda cell: (-cell[0], cell[1], cell[2]))[:3]
    listed = ", ".join(f"“{classes[i]}” taken for “{classes[j]}” ({n:,.0f})" for n, i, j in top)
    missed = f"{sum(n for n, _, _ in wrong):,.0f} of {total:,.0f} predictions are wrong ({percent(share)})"
    return f"{missed}. Most frequent: {listed}."


def class_table(summary: Json) -> tuple[Table, str] | None:
    """Precision, recall and F1 of each class with a bar, and the support; test before validation."""
    for split in ("test", "val"):
        table = section(summary, "per_class", split)
        classes = items(table, "classes")
        if not classes:
            continue
        columns = {
            name: [number(value) for value in items(table, name)] for name in ("precision", "recall", "f1", "support")
        }
        rows: list[list[Cell]] = []
        for index, name in enumerate(classes):
            cells = {key: values[index] if index < len(values) else None for key, values in columns.items()}
            support = cells["support"]
            bars: list[Cell] = [_bar(cells[key]) for key in ("precision", "recall", "f1")]
            rows.append([clean(name), *bars, show(None) if support is None else f"{support:,.0f}"])
        heads = [("class", "name"), ("precision", "share"), ("recall", "share"), ("F1", "share"), ("support", "number")]
        return Table(columns=heads, rows=rows), split
    return None


def _bar(value: float | None) -> Markup:
    share = min(1.0, max(0.0, value or 0.0))
    return Markup('<span class="bar miss" style="--share:{}"><b>{}</b></span>').format(f"{share:.4f}", show(value, 3))
