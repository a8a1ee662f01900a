"""Sequences from a long CSV: one row per sample and step, the channels as columns in the order of the file.

Shapes: R rows, N samples, T steps, F channels. Rows may stand in any order; samples are sorted by their ids, as numbers
where all are whole numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.config.suggest import hint as name_hint
from paceline.data.channels import channel_order
from paceline.data.config import Missing
from paceline.data.csv_table import Table, as_numbers, read_table, wanted
from paceline.data.growth import UNEVEN, refuse_growth
from paceline.data.steps import place_rows, times_of
from paceline.data.words import encode, fit_words
from paceline.errors import DataError

Array = NDArray[Any]
MAX_DIGITS = 100  # of an id that counts as a number
USUAL = {"id": ("sample_index", "sample", "id", "sample_id"), "time": ("time", "t", "step", "timestamp")}


@dataclass(frozen=True, kw_only=True)
class LongColumns:
    """Which columns are not channels. Empty `id` or `time`: the first of the usual names.

    aside: columns with one text per sample, such as a label and a group; read where the file has them. ignore: left
    out. where: column -> texts, the rows to keep, for columns that the file has. even: steps must be evenly spaced,
    and one that is absent counts as missing values; otherwise only their order counts.
    """

    id: str = ""
    time: str = ""
    aside: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    even: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """x: (N, T, F) float64, NaN where missing. lengths: (N,) valid steps, None where all have T.

    ids: (N,) text. aside: per column of one text per sample (N,). reading: the words of each column and the spacing of
    steps, which reading new files needs.
    """

    x: Array
    lengths: Array | None
    channels: tuple[str, ...]
    ids: Array
    id_name: str
    aside: dict[str, Array]
    reading: dict[str, Any]


def read_samples(
    path: Path,
    columns: LongColumns,
    missing: Missing,
    *,
    channels: Sequence[str] = (),
    reading: Mapping[str, Any] | None = None,
) -> Samples:
    """Read the samples of a file.

    channels: those wanted, in this order; () takes all. reading: what reading the training file gave: only its words
    may occur, and only in its columns; None gathers it.

    Raises `DataError` naming line and column for whatever cannot be used: two rows of one sample and time, text in a
    column of numbers, a word that is new, missing values unless `missing` is `mask`.
    """
    table, id_name, time_name = _open(path, columns, reading)
    others = {id_name, time_name, *columns.aside, *columns.ignore, *columns.where}
    names = [name for name in table.columns if name not in others]
    if not names:
        raise DataError("the file has no channels", where=table.path, got=", ".join(table.columns))
    if channels:
        names = [names[i] for i in channel_order(names, channels, table.path)]
    words = fit_words(table, names) if reading is None else dict(reading.get("words", {}))
    values_RF = np.stack([encode(table, n, words[n]) if n in words else as_numbers(table, n) for n in names], axis=1)
    if missing == "refuse":
        _refuse_missing(table, values_RF, names, id_name, time_name)

    ids, code = _samples(wanted(table, id_name, "data.id"))
    times = times_of(table, time_name)
    even = None if reading is None else reading.get("spacing")
    placed = place_rows(table, ids, code, times, even=columns.even, spacing=even, fill=missing == "mask")
    padded = len(ids) * int(placed.lengths.max()) * len(names) * values_RF.itemsize
    refuse_growth(padded, values_RF.nbytes, UNEVEN, where=table.path, hint="cut the longest ones, or leave them out")
    x = np.full((len(ids), int(placed.lengths.max()), len(names)), np.nan)
    x[code, placed.step] = values_RF
    return Samples(
        x=x,
        lengths=None if (placed.lengths == x.shape[1]).all() else placed.lengths,
        channels=tuple(names),
        ids=ids,
        id_name=id_name,
        aside={name: _one_each(table, name, ids, code) for name in columns.aside if name in table.columns},
        reading={"words": {n: list(w) for n, w in words.items()}, "spacing": placed.spacing},
    )


def _open(path: Path, columns: LongColumns, reading: Mapping[str, Any] | None) -> tuple[Table, str, str]:
    """Return the rows to keep, and the names of the columns of ids and times."""
    ids = (columns.id,) if columns.id else USUAL["id"]
    words = () if reading is None else reading.get("words", {})
    table = read_table(path, {*ids, *columns.aside, *columns.where, *words})
    kept = keep_rows(table, columns.where)
    return kept, _present(table, "id", columns.id), _present(table, "time", columns.time)


def _present(table: Table, key: str, own: str) -> str:
    names = (own,) if own else USUAL[key]
    found = next((name for name in names if name in table.columns), None)
    if found is None:
        fix = name_hint(names[0], list(table.columns)[:1000])
        what = f"the file has no column {' or '.join(map(repr, names))}"
        raise DataError(what, where=table.path, got=f"data.{key}={names[0]}" if len(names) == 1 else None, hint=fix)
    return found


def keep_rows(table: Table, where: Mapping[str, Sequence[str]]) -> Table:
    """Return the rows whose columns have one of these texts; columns that the file lacks are passed over."""
    for name, texts in where.items():
        if name not in table.columns:
            continue
        present = set(table.columns[name].tolist())
        keep = np.isin(table.columns[name], [text for text in texts if text in present])
        if not keep.any():
            known = sorted(str(text) for text in present if text is not None)[:1000]
            raise DataError("no row has this value", where=f"data.where.{name}", got=", ".join(texts),
                            hint=name_hint(texts[0], known))  # fmt: skip
        table = table.rows(keep)
    return table


def _samples(column: Array) -> tuple[Array, Array]:
    """Return the sorted ids (N,) as text, and which of them each row has (R,)."""
    import pandas as pd

    code, found = pd.factorize(column)
    ids = np.asarray(found, dtype=str)
    numeric = all(text.isascii() and text.isdecimal() and len(text) < MAX_DIGITS for text in ids.tolist())
    order = np.array(sorted(range(len(ids)), key=lambda i: (int(ids[i]), ids[i]) if numeric else ids[i]))
    rank = np.empty(len(ids), dtype=np.int64)
    rank[order] = np.arange(len(ids))
    return ids[order], rank[code]


def _one_each(table: Table, name: str, ids: Array, code: Array) -> Array:
    """Return the one text per sample (N,) of a column that repeats it in every row."""
    column = wanted(table, name, "column").astype(str)
    first = np.empty(len(ids), dtype=np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    texts: Array = column[first]
    other = column != texts[code]
    if other.any():
        row = int(other.argmax())
        raise DataError("a sample has two values in a column that has one per sample", where=table.place(row, name),
                        got=f"sample {ids[code[row]]}: {texts[code[row]]}, {column[row]}")  # fmt: skip
    return texts


def _refuse_missing(table: Table, values_RF: Array, names: Sequence[str], id_name: str, time_name: str) -> None:
    gaps = np.isnan(values_RF)
    if not gaps.any():
        return
    row, channel = np.unravel_index(int(gaps.argmax()), gaps.shape)
    sample, time = table.columns[id_name][row], table.columns[time_name][row]
    time = f"{time:g}" if isinstance(time, float) else time
    n = int(gaps.sum())
    more = f"; {n} cells are empty in all" if n > 1 else ""
    raise DataError("a value is missing", where=table.place(int(row), names[int(channel)]),
                    got=f"sample {sample}, time {time}{more}", hint="data.missing=mask, or fill it")  # fmt: skip
