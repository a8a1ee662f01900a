"""What the members' stored predictions tell of single groups and conditions, and how well their intervals cover."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paceline.evaluate.by_group import GroupMetrics, metrics_by
from paceline.evaluate.conformal import LEVEL, Coverage, measured
from paceline.evaluate.predictions import Predictions, pooled
from paceline.evaluate.statistics import t_interval
from paceline.run.pooled import Row, Stored, interval_values

if TYPE_CHECKING:
    from paceline.run.build import Prepared

Array = NDArray[Any]
PARTS = ("val", "test")
PROMISE = (
    f"split conformal: as wide as {LEVEL:.0%} of a member's validation errors ask for; promised for samples like those "
    "of validation, measured on the test part"
)


def grouped(prepared: Prepared, members: Sequence[Row], stored: Stored) -> dict[str, Any]:
    """Return `by_group`, `by_condition` and `conformal` of the summary, from the members of one variant.

    Each is {} where the data or the run has nothing for it. The folds of one seed are pooled, as for intervals.
    """
    dataset = prepared.dataset
    keys: dict[str, Array | None] = {"by_group": None, "by_condition": None}
    if dataset is not None:
        condition = dataset.columns.get("condition")
        by_condition = condition if condition is not None and condition.ndim == 1 else None
        keys = {"by_group": dataset.group, "by_condition": by_condition}
    sets = {part: _sets(members, stored, part) for part in PARTS}
    found: dict[str, Any] = {
        name: {
            part: {each.value: _entry(each) for each in rows}
            for part, own in sets.items()
            if values is not None and (rows := metrics_by(values, own))
        }
        for name, values in keys.items()
    }
    return found | {"conformal": _conformal(members, stored)}


def _sets(members: Sequence[Row], stored: Stored, part: str) -> list[Predictions]:
    return pooled((row["seed"], stored[row["id"]][part]) for row in members if part in stored.get(row["id"], {}))


def _entry(found: GroupMetrics) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for name, over in found.over_members.items():
        if over.mean is None:
            continue
        bounds = None if over.low is None else [over.low, over.high]
        metrics[name] = {"mean": over.mean, "std": over.std, "ci95": bounds, "n": over.n, "method": over.method}
        if name in found.over_groups:
            metrics[name] |= interval_values(found.over_groups[name], over.n)
    return {"n": found.n, "groups": found.n_groups, "metrics": metrics}


def _conformal(members: Sequence[Row], stored: Stored) -> dict[str, Any]:
    """Return the intervals' width and measured coverage on the test part, means over members; {} without one."""
    parts = [stored[row["id"]] for row in members if {"val", "test"} <= set(stored.get(row["id"], {}))]
    numbers = [part for part in parts if part["val"].probability is None and part["test"].probability is None]
    each = [measured(part["val"], part["test"]) for part in numbers if len(part["test"].index)]
    known = [one for one in each if math.isfinite(one.half_width)]
    if not known:
        return {}
    return {
        "level": LEVEL,
        "half_width": _over_members([one.half_width for one in known]),
        "coverage": _over_members([one.coverage for one in known]),
        "by_group": _group_means(known),
        "n_calibration": known[0].n_calibration,
        "n": known[0].n,
        "method": PROMISE,
    }


def _over_members(values: Sequence[float]) -> dict[str, Any]:
    over = t_interval(values)
    return {"mean": over.mean, "std": over.std, "n": over.n}


def _group_means(found: Sequence[Coverage]) -> Mapping[str, float]:
    names = sorted({name for one in found for name in one.by_group})
    return {name: float(np.mean([one.by_group[name] for one in found if name in one.by_group])) for name in names}
