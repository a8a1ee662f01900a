"""Rows of rare classes more than once in an epoch of training. Shapes: N samples, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def repeats(counts: Sequence[int], factor: int | Literal["balanced"], classes: Sequence[int] = ()) -> tuple[int, ...]:
    """Return how often a sample of each class (C,) comes in an epoch, at least once.

    counts: of the training part (C,). classes: those to repeat; empty: all that are rarer than the most frequent one.
    factor: how often, or `balanced`: as often as brings the class nearest to the most frequent one.
    """
    most = max(counts, default=0)
    chosen = classes or [c for c, count in enumerate(counts) if count < most]
    nearest = [round(most / count) if count else 1 for count in counts]
    return tuple((nearest[c] if factor == "balanced" else factor) if c in chosen else 1 for c in range(len(counts)))


def oversampled(rows: Ints, y: Ints, times: Sequence[int]) -> Ints:
    """Return the rows, each as often as the class of its label y (len(rows),) says; equal ones are neighbours."""
    return np.repeat(rows, np.asarray(times, dtype=np.int64)[y])
