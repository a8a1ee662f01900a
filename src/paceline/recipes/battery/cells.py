"""From rows of cells to samples: rows with what came before, windows, or whole cells. Nothing later enters a sample.

Shapes: R rows (one check-up or cycle of a cell each), F features, G features and what is derived from them, C cells,
T steps (rows of the longest cell, or of a window).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from paceline.config.section import Section
from paceline.data.config import Missing
from paceline.data.dataset import Dataset, dataset
from paceline.data.growth import UNEVEN, refuse_growth
from paceline.errors import DataError

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Derived = Literal["change", "mean", "count"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CellTable:
    """Rows sorted by cell and, within a cell, by strictly increasing time.

    features: (R, F), NaN where missing. names: (F,). cell: (R,) text. time: (R,), in the unit that `source` says.
    target: (R,), None for input to predict. clean: (R,) the target without its noise, where the process that made it
    is known. condition: (R,) degrees C, None where nothing is known.
    """

    features: Floats
    names: tuple[str, ...]
    cell: Array
    time: Floats
    target: Floats | None = None
    clean: Floats | None = None
    condition: Floats | None = None
    source: str = ""

    def starts(self) -> Ints:
        """The first row of the cell of each row (R,)."""
        first = np.flatnonzero(np.r_[True, self.cell[1:] != self.cell[:-1]])
        return np.repeat(first, np.diff(np.r_[first, len(self.cell)]))


class CellForm(Section):
    """What a sample is. See `shaped`."""

    form: Literal["rows", "sequences"] = "rows"
    length: int | None = Field(default=None, ge=1)
    history: int = Field(default=0, ge=0, le=100)
    derived: tuple[Derived, ...] = ()
    smooth: int = Field(default=1, ge=1, le=10_000)

    @model_validator(mode="after")
    def _fits_the_form(self) -> CellForm:
        if self.form == "rows" and self.length is not None:
            raise ValueError("length is for form=sequences (windows); rows take history")
        if self.form == "sequences" and self.history:
            raise ValueError("history is for form=rows; sequences take length")
        if len(set(self.derived)) < len(self.derived):
            raise ValueError("derived names one kind twice")
        return self


def shaped(table: CellTable, form: CellForm, missing: Missing = "refuse") -> Dataset:
    """Return the samples of a table.

    `rows`: x (R, G x (1 + history)), y (R,). `history` earlier rows of the same cell stand behind the row's own
    features; before a cell's first row there is none, so the first row stands for it.
    `sequences`: without `length` one per cell, x (C, T, G), y (C, T); with `length` one per row, x (R, length, G) that
    ends with the row and has up to length - 1 earlier ones, and y (R,) the row's target.
    `smooth`: each feature is its mean over so many rows of the cell, the row and those before it. `derived`, per such
    feature over the cell's rows so far: `change` since its first row, `mean`; and once `count`, their number.

    All have `t`, shaped as x without its last axis; and where the table has it `condition` (N,). `group` is the cell,
    `time` that of the sample's last row, `ids` `cell-time`, or `cell` for whole cells. Padding is 0.
    """
    table = with_derived(smoothed(table, form.smooth), form.derived)
    if form.form == "rows":
        return _rows(table, form.history, missing)
    return _windows(table, form.length, missing) if form.length is not None else _whole_cells(table, missing)


def smoothed(table: CellTable, rows: int) -> CellTable:
    """Return the table with the mean of each feature over the last `rows` rows; what is missing stays missing."""
    if rows == 1:
        return table
    first = np.maximum(table.starts(), np.arange(len(table.cell)) - rows + 1)
    mean = np.where(np.isnan(table.features), np.nan, _mean_so_far(table.features, first))
    return replace(table, features=mean)


def with_derived(table: CellTable, derived: tuple[Derived, ...]) -> CellTable:
    """Return the table with what its rows so far tell, as further features."""
    start = table.starts()
    count = np.arange(len(start)) - start + 1
    features, names = [table.features], [*table.names]
    for kind in derived:
        if kind == "count":
            features.append(count[:, None].astype(np.float64))
            names.append("count")
        else:
            found = table.features - table.features[start] if kind == "change" else _mean_so_far(table.features, start)
            features.append(found)
            names += [f"{name} {kind}" for name in table.names]
    return replace(table, features=np.hstack(features), names=tuple(names))


def _mean_so_far(values: Floats, start: Ints) -> Floats:
    """Return the mean of the rows from `start` (R,) to each row; NaN where none has a value."""
    there = ~np.isnan(values)
    sums = np.cumsum(np.where(there, values, 0.0), axis=0)
    counts = np.cumsum(there, axis=0)
    before = start - 1
    earlier = [np.where((start > 0)[:, None], total[before], 0) for total in (sums, counts)]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = (sums - earlier[0]) / (counts - earlier[1])
    return mean


def _rows(table: CellTable, history: int, missing: Missing) -> Dataset:
    start, row = table.starts(), np.arange(len(table.cell))
    _refuse_size(len(row) * (1 + history), table)
    x = np.hstack([table.features[np.maximum(row - k, start)] for k in range(history + 1)])
    names = [*table.names, *(f"{name}, {k} before" for k in range(1, history + 1) for name in table.names)]
    ids = _ids(table)
    _refuse_missing(x, names, ids, table.source, missing)
    made = dataset(
        x=x, y=table.target, group=table.cell, time=table.time, channels=names, ids=ids, source=table.source,
        missing=missing,
    )  # fmt: skip
    return _with(made, t=table.time, condition=table.condition, clean=table.clean)


def _windows(table: CellTable, length: int, missing: Missing) -> Dataset:
    start, row = table.starts(), np.arange(len(table.cell))
    _refuse_size(len(row) * length, table)
    lengths = np.minimum(row - start + 1, length)
    step = np.arange(length)
    index = np.minimum((row - lengths + 1)[:, None] + step, row[:, None])
    mask = step < lengths[:, None]
    made = _sequences(table, index, lengths, table.target, _ids(table), missing)
    at = np.where(mask, table.time[index], 0.0)
    return _with(made, t=at, condition=table.condition, clean=table.clean)


def _whole_cells(table: CellTable, missing: Missing) -> Dataset:
    first, lengths = np.unique(table.starts(), return_counts=True)
    cells = table.cell[first]
    short = np.flatnonzero(lengths < 2)
    if short.size:
        raise DataError("a cell has one row, which is no sequence", where=table.source, got=cells[short[0]],
                        hint="leave it out, or data.form=rows")  # fmt: skip
    _refuse_size(len(first) * int(lengths.max()), table)
    step = np.arange(lengths.max())
    mask = step < lengths[:, None]
    index = np.minimum(first[:, None] + step, (first + lengths - 1)[:, None])
    padded = [None if v is None else np.where(mask, v[index], 0.0) for v in (table.target, table.time, table.clean)]
    made = _sequences(table, index, lengths, padded[0], cells, missing)
    return _with(made, t=padded[1], condition=_of_cells(table, first), clean=padded[2])


def _sequences(table: CellTable, index: Ints, lengths: Ints, y: Floats | None, ids: Array, missing: Missing) -> Dataset:
    """Return sequences of the rows `index` (N, T), of which the first `lengths` count."""
    x, last = table.features[index], index[np.arange(len(index)), lengths - 1]
    _refuse_missing(table.features, table.names, _ids(table), table.source, missing)
    return dataset(
        x=x, y=y, lengths=lengths, group=table.cell[last], time=table.time[last], channels=table.names, ids=ids,
        source=table.source, missing=missing,
    )  # fmt: skip


def _of_cells(table: CellTable, first: Ints) -> Floats | None:
    """Return the one condition of each cell."""
    if table.condition is None:
        return None
    other = np.flatnonzero(table.condition != table.condition[table.starts()])
    if other.size:
        row = other[0]
        values = f"{table.condition[table.starts()[row]]:g} and {table.condition[row]:g}"
        raise DataError("a cell has more than one condition", where=f"{table.source}, cell {table.cell[row]}",
                        got=values, hint="data.form=rows, or a column that is constant in a cell")  # fmt: skip
    found: Floats = table.condition[first]
    return found


def _with(made: Dataset, *, t: Floats | None, condition: Floats | None, clean: Floats | None) -> Dataset:
    """Add columns as float32 (N,) or (N, T), and the targets without noise."""
    extra: Mapping[str, Floats | None] = {"t": t, "condition": condition}
    columns = {name: np.asarray(value, dtype=np.float32) for name, value in extra.items() if value is not None}
    return replace(made, columns={**made.columns, **columns}, clean=clean)


def _ids(table: CellTable) -> Array:
    return np.array([f"{cell}-{time:g}" for cell, time in zip(table.cell, table.time, strict=True)])


def _refuse_missing(x: Floats, names: Any, ids: Array, source: str, missing: Missing) -> None:
    """Raise DataError naming the first row with a missing value, unless these are to be filled."""
    bad = np.isnan(x)
    if missing == "mask" or not bad.any():
        return
    row, column = np.argwhere(bad)[0]
    raise DataError(f"{int(bad.any(axis=1).sum())} rows have a missing value", where=source,
                    got=f"{names[column]!r} of {ids[row]}", hint="data.missing=mask, or drop these rows")  # fmt: skip


def _refuse_size(rows: int, table: CellTable) -> None:
    size = table.features.shape[1] * 8
    refuse_growth(rows * size, len(table.cell) * size, UNEVEN, where=table.source, hint="data.form=rows, or a smaller "
                  "data.length or data.history")  # fmt: skip
