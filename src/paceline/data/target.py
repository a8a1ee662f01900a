"""The scale of numeric targets and of time in the training part. Shapes: N samples, T steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.types import DataSpec

Array = NDArray[Any]


def valid_targets(columns: Mapping[str, Array], rows: Array) -> Array:
    """Return the targets of some samples in one row: all of them, or those on valid steps where `y` has steps."""
    y: Array = columns["y"][rows]
    mask = columns.get("mask")
    if mask is not None and y.shape[:2] == mask[rows].shape:
        y = y[mask[rows]]
    return y.ravel()


def with_scales(spec: DataSpec, columns: Mapping[str, Array], rows: Array) -> DataSpec:
    """Return the spec with mean and standard deviation of the targets, and the mean spacing of times, of some samples.

    Constant targets have a standard deviation of 1.
    """
    if "y" in columns and columns["y"].dtype.kind == "f" and len(rows):
        y = valid_targets(columns, rows).astype(np.float64)
        std = float(y.std()) if y.size else 0.0
        spread = std > 1e-12 * float(np.abs(y).max(initial=0.0))  # else rounding is all there is
        spec = replace(spec, target_mean=float(y.mean()) if y.size else 0.0, target_std=std if spread else 1.0)
    return replace(spec, time_step=_time_step(columns, rows))


def _time_step(columns: Mapping[str, Array], rows: Array) -> float:
    t = columns.get("t")
    if t is None or t.ndim != 2:
        return 1.0
    steps = np.diff(t[rows].astype(np.float64), axis=1)
    mask = columns.get("mask")
    valid = np.isfinite(steps) if mask is None else mask[rows][:, 1:] & np.isfinite(steps)
    mean = float(steps[valid].mean()) if valid.any() else 0.0
    return mean if mean > 0 else 1.0
