"""Where each row of a long table stands in its sample: by time, evenly spaced unless only the order counts.

Shapes: R rows, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.data.csv_table import Table, is_number, wanted
from paceline.errors import DataError

Array = NDArray[Any]
TOLERANCE = 0.1  # of a step: times in text are rounded
MOST_ABSENT = 10  # steps that are absent per row that is there; more is a wrong time, not a gap


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """step: (R,) from 0. lengths: (N,). spacing: the time between two steps, None where only the order counts."""

    step: Array
    lengths: Array
    spacing: float | None


def times_of(table: Table, name: str) -> Array:
    """Return the times (R,) as numbers; dates (ISO 8601) as seconds. Raises `DataError` for anything else."""
    import pandas as pd

    column = wanted(table, name, "data.time")
    if column.dtype.kind != "f":
        dates = pd.to_datetime(pd.Series(column), format="ISO8601", errors="coerce", utc=True)
        numbers = np.array([is_number(cell) for cell in column])
        wrong = ~numbers if numbers.any() else dates.isna().to_numpy()
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError("a time is neither a number nor a date (ISO 8601)", where=table.place(row, name),
                            got=column[row])  # fmt: skip
        seconds: Array = ((dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)).to_numpy(dtype=np.float64)
        return seconds
    if not np.isfinite(column).all():
        raise DataError("a time is not finite", where=table.place(int((~np.isfinite(column)).argmax()), name))
    return column


def place_rows(
    table: Table, ids: Array, code: Array, times: Array, *, even: bool, spacing: float | None, fill: bool
) -> Placed:
    """Return the step of every row. The first row of a sample is its step 0.

    even: all steps of all samples are `spacing` apart (None: the smallest difference); one that is absent is an error,
    or with `fill` a step without values. Otherwise steps are the order of times. Raises `DataError` for two rows of one
    sample and time.
    """
    order = np.lexsort((times, code))
    sorted_code, sorted_times = code[order], times[order]
    first = np.r_[True, sorted_code[1:] != sorted_code[:-1]]
    gap = np.diff(sorted_times, prepend=sorted_times[0])  # to the row before; meaningless where `first`
    twice = ~first & (gap == 0)
    if twice.any():
        at = int(twice.argmax())
        a, b = sorted(table.lines[order[at - 1 : at + 1]].tolist())
        raise DataError("a sample has two rows for one time", where=f"{table.path}, lines {a} and {b}",
                        got=f"sample {ids[sorted_code[at]]}, time {_shown(sorted_times[at])}; "
                        f"{int(twice.sum())} such rows in all",
                        hint="data.where.<column>=<value>, if the file holds several sets")  # fmt: skip
    jumps = np.where(first, 0, 1)
    if even and not first.all():
        spacing = float(gap[~first].min()) if spacing is None else spacing
        jumps = _jumps(table, ids, order, sorted_code, sorted_times, gap, first, spacing, fill=fill)
    total = np.cumsum(jumps)
    start = total[first]  # of each sample, as all samples have rows
    step = np.empty(len(code), dtype=np.int64)
    step[order] = total - start[sorted_code]
    last = np.r_[first[1:], True]
    return Placed(step=step, lengths=(total[last] - start + 1).astype(np.int64), spacing=spacing if even else None)


def _jumps(
    table: Table, ids: Array, order: Array, code: Array, times: Array, gap: Array, first: Array, spacing: float,
    *, fill: bool,
) -> Array:  # fmt: skip
    """Return how many steps each row is after the one before it; 0 for the first of a sample."""
    steps = np.where(first, 0.0, gap / spacing)
    jumps = np.rint(steps)
    uneven = np.abs(steps - jumps) > TOLERANCE
    uneven |= ~first & (jumps == 0)
    absent = jumps.sum() - (~first).sum()
    if uneven.any() or absent > MOST_ABSENT * len(code):
        at = int(uneven.argmax()) if uneven.any() else int(jumps.argmax())
        raise DataError(f"the times are not evenly spaced: steps are {_shown(spacing)} apart",
                        where=table.place(int(order[at])), hint="data.steps=ordered, if only the order of steps counts",
                        got=f"sample {ids[code[at]]}: {_shown(times[at - 1])}, then {_shown(times[at])}")  # fmt: skip
    if absent and not fill:
        at = int((jumps > 1).argmax())
        raise DataError("a sample has no row for a step", where=table.path,
                        got=f"sample {ids[code[at]]}, time {_shown(times[at - 1] + spacing)}; {int(absent)} such steps",
                        hint="data.missing=mask, or data.steps=ordered if only their order counts")  # fmt: skip
    return jumps.astype(np.int64)


def _shown(time: float) -> str:
    return f"{time:.10g}"
