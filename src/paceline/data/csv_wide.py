"""Samples without steps from a CSV: one row per sample, one column per channel. Shapes: N samples, F channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.data.channels import channel_order
from paceline.data.config import Missing
from paceline.data.csv_long import USUAL
from paceline.data.csv_table import as_numbers, read_table, wanted
from paceline.errors import DataError

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """x: (N, F) float64, NaN where missing. ids: (N,) text, None where the file has no column of ids."""

    x: Array
    channels: tuple[str, ...]
    ids: Array | None
    id_name: str


def read_rows(path: Path, missing: Missing, *, channels: Sequence[str] = ()) -> Rows:
    """Read the samples of a file. A column with a usual name of ids that is no channel names the samples.

    channels: those wanted, in this order; () takes all. Raises `DataError` for text, a missing value unless `missing`
    is `mask`, and for other channels.
    """
    table = read_table(path, [name for name in USUAL["id"] if name not in channels])
    id_name = next((name for name in USUAL["id"] if name in table.columns and name not in channels), "")
    names = [name for name in table.columns if name != id_name]
    if channels:
        names = [names[i] for i in channel_order(names, channels, table.path)]
    if not names:
        raise DataError("the file has no channels", where=table.path, got=", ".join(table.columns))
    x = np.stack([as_numbers(table, name) for name in names], axis=1)
    if missing == "refuse" and np.isnan(x).any():
        row, channel = np.argwhere(np.isnan(x))[0]
        raise DataError("a value is missing", where=table.place(int(row), names[channel]),
                        hint="data.missing=mask at training, or fill it")  # fmt: skip
    ids = wanted(table, id_name, "ids").astype(str) if id_name else None
    return Rows(x=x, channels=tuple(names), ids=ids, id_name=id_name or "sample")
