"""Scores from elsewhere: a CSV file with columns `seed`, `fold` (optional), and one column per metric."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from paceline.config.suggest import hint
from paceline.errors import RunError
from paceline.evaluate.statistics import Score
from paceline.report.words import clean

# Columns of a run's own members.csv that are no metrics.
_OTHER = ("id", "variant", "status", "epochs", "selected_epoch")
Scores = Mapping[str, Sequence[Score]]


def read_csv(path: Path) -> dict[str, Scores]:
    """Return the scores by name of the arm: the file's name, with `:variant` where a `variant` column has several.

    Commas, semicolons or tabs; an empty cell is a missing value; columns without any number are left out. Raises
    RunError naming the line and column.
    """
    rows, columns = _table(path)
    if "seed" not in columns:
        raise RunError(
            "the file has no column 'seed'", where=str(path), got=", ".join(columns), hint=hint("seed", columns)
        )
    candidates = [name for name in columns if name not in ("seed", "fold", *_OTHER)]
    metrics = [name for name in candidates if any(_is_number(row[name]) for _, row in rows)]
    if not metrics:
        raise RunError("the file has no column with numbers", where=str(path), got=", ".join(columns),
                       hint="seed,fold,value")  # fmt: skip
    by_variant: dict[str, list[tuple[int, Mapping[str, str]]]] = {}
    for line, row in rows:
        by_variant.setdefault(clean(row.get("variant", "")), []).append((line, row))
    several = len(by_variant) > 1
    return {
        f"{clean(path.stem)}:{variant}" if several else clean(path.stem): _scores(path, own, metrics)
        for variant, own in by_variant.items()
    }


def _table(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Return the filled rows with their line numbers, and the columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError("the file cannot be read", where=str(path), got=str(error)) from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="", skipinitialspace=True)
    columns = [clean(name).strip() for name in reader.fieldnames or []]
    if len(set(columns)) < len(columns):
        raise RunError("two columns have the same name", where=str(path), got=", ".join(columns))
    rows = []
    for row in reader:
        if None in row:
            raise RunError("a line has more cells than the header", where=f"{path}:{reader.line_num}")
        cells = [str(cell).strip() for cell in row.values()]
        if any(cells):
            rows.append((reader.line_num, dict(zip(columns, cells, strict=True))))
    if not rows:
        raise RunError("the file has no rows", where=str(path), got=", ".join(columns))
    return rows, columns


def _scores(path: Path, rows: Sequence[tuple[int, Mapping[str, str]]], metrics: Sequence[str]) -> Scores:
    keys = [_key(path, line, row) for line, row in rows]
    twice = next((key for key, number in Counter(keys).items() if number > 1), None)
    if twice is not None:
        fold = "" if twice[1] is None else f", fold {twice[1]}"
        raise RunError("a member has two rows", where=str(path), got=f"seed {twice[0]}{fold}")
    if len({fold is None for _, fold in keys}) > 1:
        raise RunError("some rows have a fold and some have none", where=str(path))
    return {
        name: [
            (seed, fold, _number(path, line, name, row[name]))
            for (seed, fold), (line, row) in zip(keys, rows, strict=True)
        ]
        for name in metrics
    }


def _key(path: Path, line: int, row: Mapping[str, str]) -> tuple[int, int | None]:
    return _whole(path, line, "seed", row["seed"]), _whole(path, line, "fold", row["fold"]) if row.get("fold") else None


def _whole(path: Path, line: int, name: str, text: str) -> int:
    value = _number(path, line, name, text)
    if value != value or not value.is_integer():
        raise RunError("this must be a whole number", where=f"{path}:{line}, column {name}", got=text)
    return int(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(path: Path, line: int, name: str, text: str) -> float:
    if not text:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise RunError("this is not a number", where=f"{path}:{line}, column {name}", got=text) from None
