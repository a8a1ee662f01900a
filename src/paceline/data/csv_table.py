"""A CSV file as columns of numbers or of text, read strictly: whatever cannot be meant is an error with its line.

R rows. Lines count from 1, which is the header.
"""

from __future__ import annotations

import csv
import gzip
import warnings
import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.config.suggest import hint as name_hint
from paceline.data.growth import refuse_growth
from paceline.errors import DataError

Array = NDArray[Any]
SUFFIXES = (".csv", ".csv.gz")
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "?")  # cells that hold no value; `none` is a word
LARGEST = float(np.finfo(np.float32).max)
MAX_COLUMNS = 20_000
MOST_TEXT, TEXT_RATIO = 64 * 2**20, 30  # see `refuse_growth`; numbers in text do not pack better


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """columns: float64 (R,), NaN where missing, or text as objects (R,), None where missing. lines: (R,)."""

    path: str
    columns: dict[str, Array]
    lines: Array

    def __len__(self) -> int:
        return len(self.lines)

    def rows(self, keep: Array) -> Table:
        """Return some of the rows, by bool (R,)."""
        kept = {name: column[keep] for name, column in self.columns.items()}
        return Table(path=self.path, columns=kept, lines=self.lines[keep])

    def place(self, row: int, name: str = "") -> str:
        """Where a cell is, for a message."""
        return f"{self.path}, line {self.lines[row]}" + (f", column {name!r}" if name else "")


def read_table(path: Path, text: Collection[str] | None = ()) -> Table:
    """Read a CSV file (UTF-8, commas, a header). The columns named in `text` (None: all) are not turned into numbers.

    Other columns are numbers if every cell is one, else text; cells are stripped of spaces, and empty lines skipped.
    Raises `DataError` for a file that is missing, no CSV, not UTF-8, without rows, with rows of another width, or with
    a name twice.
    """
    where = str(path)
    try:
        if not path.is_file():
            what = "the path is not a file" if path.exists() else "there is no such file"
            raise DataError(what, where=where, hint="the path of a .csv file")
        if not path.name.lower().endswith(SUFFIXES):
            got = path.suffix or "no extension"
            raise DataError("this is not a CSV file", where=where, got=got, hint=".csv or .csv.gz")
        _refuse_bomb(path, where)
        names = _header(path, where)
        kept = names if text is None else [name for name in names if name in text]
        found = _parse(path, where, names, kept)
    except UnicodeDecodeError as error:
        raise DataError("the file is not UTF-8", where=where, got=str(error)) from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError("the file cannot be read", where=where, got=str(error)) from error
    except MemoryError as error:
        raise DataError("there is not enough memory for the file", where=where) from error
    columns = {name: _column(found[name], keep=name in kept) for name in names}
    empty = np.logical_and.reduce([_is_missing(column) for column in columns.values()])
    table = Table(path=where, columns=columns, lines=np.arange(len(empty)) + 2).rows(~empty)
    if not len(table):
        raise DataError("the file has a header and no rows", where=where)
    return table


def _refuse_bomb(path: Path, where: str) -> None:
    """Unpack a packed file once without keeping it, until it is too much."""
    if not path.name.lower().endswith(".gz"):
        return
    packed, size = path.stat().st_size, 0
    with gzip.open(path) as file:
        while piece := file.read(1 << 20):
            size += len(piece)
            refuse_growth(size, packed, "the file unpacks to far more than it holds", where=where,
                          hint="the file unpacked, as .csv", unasked=MOST_TEXT, ratio=TEXT_RATIO)  # fmt: skip


def _header(path: Path, where: str) -> list[str]:
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        names = [name.strip() for name in next(csv.reader(file), [])]
    if not names:
        raise DataError("the file is empty", where=where)
    twice = [name for name, count in Counter(names).items() if count > 1 or not name]
    if twice:
        what = "two columns have the same name" if twice[0] else "a column has no name"
        raise DataError(what, where=f"{where}, line 1", got=twice[0] or f"column {names.index('') + 1}")
    if len(names) > MAX_COLUMNS:
        raise DataError(f"the file has more than {MAX_COLUMNS:,} columns", where=where, got=f"{len(names):,}",
                        hint="an .npz file")  # fmt: skip
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise DataError("the columns are not separated by commas", where=f"{where}, line 1", got=names[0])
    return names


def _parse(path: Path, where: str, names: Sequence[str], text: Sequence[str]) -> Any:
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows that are longer than the header
            found = pd.read_csv(
                path, header=0, names=list(names), dtype=dict.fromkeys(text, str), keep_default_na=False,
                na_values=list(MISSING), encoding="utf-8-sig", low_memory=False, index_col=False,
                skip_blank_lines=False, skipinitialspace=True,
            )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise DataError("the rows do not fit the header", where=where, got=reason) from error
    return found


def _column(found: Any, *, keep: bool) -> Array:
    """Return a column of pandas as float64, or as objects that are text or None.

    keep: text stays text even where every cell is a number. Integers of any size are numbers.
    """
    if found.dtype.kind in "iuf":
        numbers: Array = found.to_numpy(dtype=np.float64)
        return numbers
    missing = found.isna().to_numpy()
    stripped: Array = found.astype(object).where(~missing, "").astype(str).str.strip().to_numpy(dtype=object)
    absent = missing | (stripped == "")
    stripped[absent] = None
    if absent.all():
        return np.full(len(stripped), np.nan)
    if not keep and all(cell is None or is_number(cell) for cell in stripped):
        return np.array([np.nan if cell is None else float(cell) for cell in stripped])
    return stripped


def _is_missing(column: Array) -> Array:
    missing: Array = np.isnan(column) if column.dtype.kind == "f" else np.array([cell is None for cell in column], bool)
    return missing


def wanted(table: Table, name: str, key: str) -> Array:
    """Return a column that must be there and complete; `key` is what names it in the config."""
    if name not in table.columns:
        raise DataError(f"the file has no column {name!r}", where=table.path, got=f"{key}={name}",
                        hint=name_hint(name, list(table.columns)[:1000]))  # fmt: skip
    column = table.columns[name]
    missing = _is_missing(column)
    if missing.any():
        raise DataError("a cell is empty", where=table.place(int(missing.argmax()), name),
                        got=f"{int(missing.sum())} empty cells in the column")  # fmt: skip
    return column


def as_numbers(table: Table, name: str) -> Array:
    """Return a column as float64, NaN where missing. Raises `DataError` naming the first cell that is no number."""
    column = table.columns[name]
    if column.dtype.kind != "f":
        row = next(i for i, cell in enumerate(column) if cell is not None and not is_number(cell))
        raise DataError("a cell is no number", where=table.place(row, name), got=column[row])
    wrong = np.abs(column) > LARGEST  # infinite ones too
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError("a number is too large", where=table.place(row, name), got=f"{column[row]:g}")
    return column


def is_number(cell: str) -> bool:
    """Whether a text is a decimal number."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
