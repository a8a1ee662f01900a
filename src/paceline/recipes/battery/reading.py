"""A table of cycles from a CSV or Parquet file, read strictly. Shapes: R rows, F features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.config.suggest import hint as name_hint
from paceline.data.csv_table import SUFFIXES, Table, as_numbers, read_table, wanted
from paceline.data.growth import refuse_growth
from paceline.data.steps import times_of
from paceline.errors import DataError
from paceline.recipes.battery.cells import CellTable

Array = NDArray[Any]
PARQUET = (".parquet", ".pq")
DAY = 86_400.0


def read_file(path: Path, columns: Sequence[str], text: Sequence[str]) -> Table:
    """Read the file; of a Parquet file only `columns`, as far as they are there. `text` columns stay text.

    Raises DataError for a file of another kind, or one that cannot be read.
    """
    name = path.name.lower()
    if name.endswith(SUFFIXES):
        return read_table(path, text)
    if name.endswith(PARQUET):
        return _read_parquet(path, columns, text)
    if not path.is_file():
        what = "the path is not a file" if path.exists() else "there is no such file"
        raise DataError(what, where=str(path), hint="the path of a .csv, .csv.gz or .parquet file")
    raise DataError("there is no reader for a file of this kind", where=str(path), got=path.suffix or "no extension",
                    hint=".csv, .csv.gz or .parquet")  # fmt: skip


def _read_parquet(path: Path, columns: Sequence[str], text: Sequence[str]) -> Table:
    where = str(path)
    if not path.is_file():
        raise DataError("there is no such file", where=where, hint="the path of a .csv, .csv.gz or .parquet file")
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError("reading Parquet needs pyarrow, which is not installed", where=where,
                        hint="pip install pyarrow, or a .csv file") from None  # fmt: skip
    try:
        with parquet.ParquetFile(path) as file:
            present = list(file.schema_arrow.names)
            kept = [name for name in present if name in columns]
            needed = file.metadata.num_rows * max(len(kept), 1) * 8
            refuse_growth(needed, path.stat().st_size, "the file unpacks to far more than it holds", where=where,
                          hint="the file as .csv")  # fmt: skip
            frame = file.read(columns=kept).to_pandas()
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise DataError("the file cannot be read", where=where, got=str(error)) from error
    found = {name: np.full(len(frame), np.nan) for name in present}  # those that are not wanted only have a name
    found |= {name: _column(frame[name], keep=name in text) for name in kept}
    if not len(frame):
        raise DataError("the file has no rows", where=where)
    return Table(path=where, columns=found, lines=np.arange(len(frame)) + 1)


def _column(found: Any, *, keep: bool) -> Array:
    """Return a column of pandas as float64, or as objects that are text or None, as `read_table` does."""
    missing = found.isna().to_numpy()
    if found.dtype.kind in "iuf" and not keep:
        numbers: Array = found.to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers
    whole = found.dtype.kind == "f" and all(float(v).is_integer() for v in found[~missing])
    texts = [None if gone else str(int(value) if whole else value) for value, gone in zip(found, missing, strict=True)]
    return np.array(texts, dtype=object)


def cell_table(
    table: Table,
    *,
    features: Sequence[str],
    group: str,
    target: str | None,
    time: str | None,
    condition: str | None,
    fill: bool,
    source: str,
) -> CellTable:
    """Return the named columns, rows gathered by cell. Without `time`, rows count from 0 in each cell.

    Raises DataError naming file, line and column: a column that is absent (with those present), a cell that is empty or
    no number, a time that does not increase within a cell. `fill`: features may be missing.
    """
    numbers = [*features, *[name for name in (target, condition) if name is not None]]
    keys = [*["data.features"] * len(features), *["data.target"] * (target is not None), "data.condition"]
    for name, key in zip(numbers, keys, strict=False):
        _present(table, name, key)
    _refuse_gaps(table, numbers if not fill else numbers[len(features) :])
    cells = wanted(table, group, "data.group").astype(str)
    times = _times(table, time, cells)
    order = np.argsort(np.unique(cells, return_inverse=True)[1], kind="stable")
    _refuse_disorder(table, times, cells, order, time)
    columns = {name: as_numbers(table, name)[order] for name in numbers}
    return CellTable(
        features=np.stack([columns[name] for name in features], axis=1),
        names=tuple(features),
        cell=cells[order],
        time=times[order],
        target=None if target is None else columns[target],
        condition=None if condition is None else columns[condition],
        source=source,
    )


def _present(table: Table, name: str, key: str) -> None:
    if name not in table.columns:
        raise DataError(f"the file has no column {name!r}", where=table.path, got=f"{key}={name}",
                        hint=name_hint(name, list(table.columns)[:1000]))  # fmt: skip


def _refuse_gaps(table: Table, names: Sequence[str]) -> None:
    """Raise DataError naming the first rows in which one of the columns of numbers is empty."""
    gone = {name: np.isnan(as_numbers(table, name)) for name in names}
    rows = np.flatnonzero(np.logical_or.reduce(list(gone.values()))) if gone else np.empty(0, dtype=np.int64)
    if not rows.size:
        return
    name = next(name for name in names if gone[name][rows[0]])
    lines = ", ".join(str(line) for line in table.lines[rows[:5]]) + ", ..." * (rows.size > 5)
    fix = "drop these rows, or fill them; data.missing=mask fills features"
    raise DataError(f"{rows.size} rows have a missing value", where=table.place(int(rows[0]), name),
                    got=f"lines {lines}", hint=fix)  # fmt: skip


def _times(table: Table, name: str | None, cells: Array) -> Array:
    """Return the times (R,): numbers as they are, dates as days since the first."""
    if name is None:
        order = np.argsort(np.unique(cells, return_inverse=True)[1], kind="stable")
        sorted_cells = cells[order]
        first = np.flatnonzero(np.r_[True, sorted_cells[1:] != sorted_cells[:-1]])
        count = np.arange(len(cells)) - np.repeat(first, np.diff(np.r_[first, len(cells)]))
        times = np.empty(len(cells))
        times[order] = count
        return times
    _present(table, name, "data.time")
    found = times_of(table, name)
    if table.columns[name].dtype.kind != "f":
        days: Array = (found - found.min()) / DAY
        return days
    return found


def _refuse_disorder(table: Table, times: Array, cells: Array, order: Array, name: str | None) -> None:
    """Raise DataError for a row whose time is not after that of the cell's row before."""
    same = cells[order][1:] == cells[order][:-1]
    wrong = np.flatnonzero(same & (np.diff(times[order]) <= 0))
    if wrong.size:
        before, row = order[wrong[0]], order[wrong[0] + 1]
        got = f"{times[row]:g} after {times[before]:g} (line {table.lines[before]}), cell {cells[row]}"
        raise DataError("the time of a cell does not increase", where=table.place(int(row), name or ""), got=got,
                        hint="sort the rows of each cell by time; drop repeated ones")  # fmt: skip
