"""How nearly a feature is the target itself: the rank correlation of the two within groups.

Shapes: N samples, T steps, F features, S rows (samples, or valid steps of them).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.data.dataset import Dataset

Array = NDArray[Any]
Floats = NDArray[np.float64]

NEAR = 0.98  # above, the order of a feature is that of the target but for a few places
FEWEST = 8  # rows of a group; in fewer, chance orders them alike
MOST_ROWS = 20_000  # looked at: whole groups, the first ones


def rank_correlations(dataset: Dataset, idx: Array) -> Floats | None:
    """Return the absolute Spearman correlation of each feature (F,) with a numeric target, over the samples `idx`.

    It is taken within each group (the whole, where there are none; each sequence, where every step has a target) and
    averaged, groups weighted by their rows. A feature that is constant in a group counts as 0 there. Sequences with one
    target are looked at in their last valid step. None for classes, several targets, or groups that are too small.
    """
    rows = _rows(dataset, np.asarray(idx))
    if rows is None:
        return None
    x, y, group = rows
    total, weight = np.zeros(x.shape[1]), 0
    for code in range(int(group.max()) + 1 if len(group) else 0):
        own = group == code
        if weight >= MOST_ROWS or own.sum() < FEWEST or np.ptp(y[own]) == 0:
            continue
        total += own.sum() * np.abs(_spearman(x[own], y[own]))
        weight += int(own.sum())
    return total / weight if weight else None


def _rows(dataset: Dataset, idx: Array) -> tuple[Floats, Floats, Array] | None:
    """Return features (S, F), targets (S,) and group codes (S,); rows with a missing value are left out."""
    x, y, mask = (dataset.columns.get(name) for name in ("x", "y", "mask"))
    if x is None or y is None or x.dtype.kind != "f" or y.dtype.kind != "f" or x.ndim < 2:
        return None
    group = np.zeros(len(idx), dtype=np.int64)
    if dataset.group is not None:
        group = np.unique(dataset.group[idx], return_inverse=True)[1]
    x, y = x[idx], y[idx]
    if y.ndim == 2 and x.ndim == 3 and x.shape[:2] == y.shape:
        valid = np.ones(y.shape, dtype=bool) if mask is None else mask[idx]
        x, y, group = x[valid], y[valid], np.repeat(group, valid.sum(axis=1))
    elif y.ndim == 1 and x.ndim == 3:
        last = np.full(len(x), x.shape[1] - 1) if mask is None else x.shape[1] - 1 - mask[idx][:, ::-1].argmax(axis=1)
        x = x[np.arange(len(x)), last]
    elif y.ndim != 1:
        return None
    known = np.isfinite(x).all(axis=1)
    return x[known].astype(np.float64), y[known].astype(np.float64), group[known]


def _spearman(x: Floats, y: Floats) -> Floats:
    """Return the correlation of the ranks, ties at their mean rank; 0 for a constant feature."""
    from scipy.stats import rankdata

    ranks, rank = rankdata(x, axis=0), rankdata(y)
    ranks, rank = ranks - ranks.mean(axis=0), rank - rank.mean()
    norm = np.sqrt((ranks**2).sum(axis=0) * (rank**2).sum())
    found: Floats = np.divide(rank @ ranks, norm, out=np.zeros(x.shape[1]), where=norm > 0)
    return found
