"""Lists of samples from a list of samples: by temperature, by cell, by time, at random.

Every function keeps the order of the samples and puts none into two lists. What is looked at stands in their `meta`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paceline.config.suggest import hint
from paceline.errors import DataError
from paceline.recipes.battery import tables
from paceline.recipes.battery.compat.samples import Sample, described

Samples = list[Sample]
Three = tuple[Samples, Samples, Samples]


def temperature_split(
    all_samples: Sequence[Sample],
    train_temps: Sequence[float],
    val_temps: Sequence[float],
    test_temps: Sequence[float] | None = None,
) -> tuple[Samples, ...]:
    """Return the samples at each list of temperatures, in degrees C: two lists, or three with `test_temps`.

    25 and 25.0 are equal; samples at other temperatures are left out. The temperature is `meta["temperature_C"]`.

    The set that stops a training is no test: with two lists, the second gives a validation figure. Raises DataError
    where two lists share a temperature, a list is empty, or no sample has one of its temperatures.
    """
    parts = {"train_temps": train_temps, "val_temps": val_temps}
    parts |= {} if test_temps is None else {"test_temps": test_temps}
    try:
        found = tables.by_condition(_of(all_samples, "temperature_C"), *parts.values())
    except DataError as error:
        where = error.where
        for k, name in enumerate(parts):  # the core counts the lists
            where = where.replace(f"part {k}", name).replace(f"parts {k}", name).replace(f"and {k}", f"and {name}")
        raise DataError(error.what, where=where, got=error.got or None, hint=error.hint) from None
    return tuple(_chosen(all_samples, rows) for rows in found)


def leave_one_cell_out(all_samples: Sequence[Sample], cell_id: object) -> tuple[Samples, Samples]:
    """Return the samples of all other cells, and those of the cell `cell_id` (`meta["cell_id"]`).

    Raises DataError where no sample is of that cell, or no other cell is left.
    """
    others, own = tables.leave_one_group_out(_of(all_samples, "cell_id"), cell_id)
    return _chosen(all_samples, others), _chosen(all_samples, own)


def loco_cv_splits(all_samples: Sequence[Sample]) -> list[tuple[str, Samples, Samples]]:
    """Return `(cell, samples of the others, samples of the cell)` for every cell, sorted by name."""
    found = tables.each_group_out(_of(all_samples, "cell_id"))
    return [(cell, _chosen(all_samples, others), _chosen(all_samples, own)) for cell, others, own in found]


def temporal_split(
    all_samples: Sequence[Sample], train: float = 0.7, val: float = 0.15, *, time: str = "t", by: str | None = "cell_id"
) -> Three:
    """Return the first share in time of each cell's samples, the next, and the rest.

    time: `t`, the sample's own time (the first of a sequence), or a key of `meta`. by: the key of `meta` within whose
    values time runs; None: over all samples.
    """
    times = [_first_time(s, i) for i, s in enumerate(all_samples)] if time == "t" else _of(all_samples, time)
    groups = None if by is None else _of(all_samples, by)
    return _three(all_samples, tables.temporal(times, groups, train=train, val=val))


def random_split(all_samples: Sequence[Sample], train: float = 0.7, val: float = 0.15, seed: int = 42) -> Three:
    """Return three lists of these shares and the rest, drawn by `seed`.

    Samples of one cell are much alike: a random split makes any model look better than it is on a new cell.
    """
    _refuse_none(all_samples)
    return _three(all_samples, tables.random(len(all_samples), train=train, val=val, seed=seed))


def stratified_temperature_split(
    all_samples: Sequence[Sample], train: float = 0.7, val: float = 0.15, seed: int = 42
) -> Three:
    """Return three lists in which each temperature has its share, drawn by `seed`."""
    temperatures = _of(all_samples, "temperature_C")
    return _three(all_samples, tables.stratified_by_condition(temperatures, train=train, val=val, seed=seed))


def _three(samples: Sequence[Sample], rows: Sequence[Any]) -> Three:
    first, second, third = (_chosen(samples, part) for part in rows)
    return first, second, third


def _chosen(samples: Sequence[Sample], rows: Any) -> Samples:
    return [samples[int(row)] for row in rows]


def _of(samples: Sequence[Sample], key: str) -> list[Any]:
    """Return what every sample's `meta` has under a key. Raises DataError naming the first that lacks it."""
    _refuse_none(samples)
    for i, sample in enumerate(samples):
        if key not in sample.meta:
            fix = hint(key, sample.meta) if sample.meta else f"Sample(..., meta={{{key!r}: ...}})"
            raise DataError(f"a sample's meta has no {key}", where=described(sample, f"sample {i}"), hint=fix)
    return [sample.meta[key] for sample in samples]


def _first_time(sample: Sample, i: int) -> float:
    if sample.t is None:
        raise DataError("a sample has no time", where=described(sample, f"sample {i}"),
                        hint='Sample(..., t=...), or time="<a key of meta>"')  # fmt: skip
    return float(np.ravel(np.asarray(sample.t))[0])


def _refuse_none(samples: Sequence[Sample]) -> None:
    if not len(samples):
        raise DataError("there are no samples to split", got="an empty list")
