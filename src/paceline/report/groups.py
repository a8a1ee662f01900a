"""Tables of single conditions and groups (temperatures, cells), and how well prediction intervals covered them."""

from __future__ import annotations

from collections.abc import Sequence

from paceline.report.files import Json, items, section
from paceline.report.results import leading_words
from paceline.report.tables import Cell, Table
from paceline.report.words import (
    THIN,
    better,
    capital,
    clean,
    count,
    finite,
    label,
    number,
    percent,
    places_for,
    show,
)

_METRICS = ("rmse", "mae", "mape", "r2", "accuracy", "f1_macro", "log_loss")
_COLUMNS = 3  # metrics side by side


def group_tables(summary: Json) -> list[tuple[str, Table]]:
    """Return (heading, table) for conditions, groups and intervals, as far as the summary has them."""
    made = [
        ("By condition", _table(summary, "by_condition", "condition")),
        ("By group", _table(summary, "by_group", "group")),
        ("Prediction intervals", _coverage(summary)),
    ]
    return [(heading, table) for heading, table in made if table is not None]


def _table(summary: Json, key: str, word: str) -> Table | None:
    """A row per value with its main metrics on test where that was opened, else on validation."""
    part = next((part for part in ("test", "val") if section(summary, key, part)), None)
    if part is None:
        return None
    tree = section(summary, key, part)
    names = [name for name in _METRICS if any(section(tree, value, "metrics", name) for value in tree)][:_COLUMNS]
    several = any((number(section(tree, value).get("groups")) or 0) > 1 for value in tree) and key == "by_condition"
    columns = [(word, "name"), ("samples", "number"), *([("groups", "number")] if several else [])]
    for name in names:
        columns.append((f"{capital(label(name))}{_arrow(name)}", "number"))
    columns += [(f"{label(names[0])}, 95{THIN}%", "number")] if names else []
    rows: list[Sequence[Cell]] = []
    for value in tree:
        row = section(tree, value)
        cells: list[Cell] = [clean(value), f"{number(row.get('n')) or 0:,.0f}"]
        cells += [f"{number(row.get('groups')) or 0:,.0f}"] if several else []
        cells += [show(number(section(row, "metrics", name).get("mean")), _places(tree, name)) for name in names]
        rows.append([*cells, _bounds(section(row, "metrics", names[0]), _places(tree, names[0]))] if names else cells)
    start = leading_words(summary)
    caption = f"{start}{label(f'{part}_part')}. " if start else f"{capital(label(f'{part}_part'))}. "
    caption += "Means over members. " + _methods(tree, names)
    return Table(columns=columns, rows=rows, caption=caption.strip(), title=f"metrics by {word}")


def _arrow(name: str) -> str:
    return {"higher": "\u00a0↑", "lower": "\u00a0↓"}.get(better(name), "")


def _places(tree: Json, name: str) -> int | None:
    """Decimals that leave two significant digits of the smallest value."""
    known = finite(number(section(tree, value, "metrics", name).get("mean")) for value in tree)
    sizes = [abs(value) for value in known if value]
    return places_for(min(sizes)) if sizes else None


def _bounds(metric: Json, places: int | None) -> str:
    edges = finite(number(edge) for edge in items(metric, "ci95_samples") or items(metric, "ci95"))
    return " to ".join(show(edge, places) for edge in edges) if len(edges) == 2 else show(None)


def _methods(tree: Json, names: Sequence[str]) -> str:
    """What the intervals of the first metric stand on."""
    if not names:
        return ""
    found: dict[str, None] = {}
    for value in tree:
        metric = section(tree, value, "metrics", names[0])
        key = "method_samples" if items(metric, "ci95_samples") else "method" if items(metric, "ci95") else ""
        if key:
            found[clean(metric.get(key)).partition(":")[0]] = None
    return f"Interval: {'; '.join(list(found)[:2])}." if found else "One member and one group have no interval."


def _coverage(summary: Json) -> Table | None:
    """How wide the intervals are, and what share of the test targets they held, over all and by group."""
    tree = section(summary, "conformal")
    level, share = number(tree.get("level")), number(section(tree, "coverage").get("mean"))
    if level is None or share is None:
        return None
    width = number(section(tree, "half_width").get("mean"))
    columns = [("test samples", "name"), ("asked for", "number"), ("held", "number")]
    rows: list[Sequence[Cell]] = [("all", percent(level, 0), percent(share))]
    for name in section(tree, "by_group"):
        held = number(section(tree, "by_group").get(name))
        rows.append((clean(name), percent(level, 0), show(None) if held is None else percent(held)))
    n = number(tree.get("n_calibration")) or 0
    how = capital(clean(tree.get("method")))
    caption = f"Prediction ± {show(width)}, from {count(int(n), 'validation value')}. {how}."
    return Table(columns=columns, rows=rows, caption=caption, title="coverage of prediction intervals")
