"""Prediction intervals of a promised coverage for numbers, from errors on validation samples: split conformal.

Vovk, Gammerman and Shafer, Algorithmic learning in a random world, 2005; Lei et al., Distribution-free predictive
inference for regression, JASA 113, 1094-1111, 2018. No torch. Shapes: N samples, V valid values among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paceline.evaluate.predictions import Predictions

Floats = NDArray[np.float64]
LEVEL = 0.9


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """An interval prediction +- `half_width`, and the share of the targets of another part that it held.

    n_calibration: values that gave the half width. n: values that were measured on. by_group: the share within each
    group, {} without groups.
    """

    level: float
    half_width: float
    n_calibration: int
    coverage: float
    n: int
    by_group: Mapping[str, float]


def half_width(errors: ArrayLike, level: float = LEVEL) -> float:
    """Return the k-th smallest absolute error of n, k = ceil((n + 1) level): infinite where that is beyond n.

    Where calibration values and a new one are exchangeable, prediction +- half_width holds the new target with a
    probability of at least `level`, and of at most level + 1 / (n + 1) if errors do not tie.
    """
    sizes = np.sort(np.abs(np.asarray(errors, dtype=np.float64)).ravel())
    assert 0 < level < 1, level
    k = math.ceil(round((len(sizes) + 1) * level, 9))  # .9 x 10 is 9, whatever its last bit
    return float(sizes[k - 1]) if k <= len(sizes) else math.inf


def measured(calibration: Predictions, part: Predictions, level: float = LEVEL) -> Coverage:
    """Return the interval that the errors on one part give, and its coverage on another, over all and by group.

    Samples of one group are not exchangeable with those of another, so the coverage of a group can be far from `level`:
    that is what `by_group` shows.
    """
    given, _ = _errors(calibration)
    errors, groups = _errors(part)
    half = half_width(given, level)
    held = np.abs(errors) <= half
    by_group = {} if groups is None else {name: float(held[groups == name].mean()) for name in np.unique(groups)}
    return Coverage(
        level=level, half_width=half, n_calibration=len(given), coverage=float(held.mean()), n=len(errors),
        by_group={str(name): value for name, value in by_group.items()},
    )  # fmt: skip


def _errors(found: Predictions) -> tuple[Floats, NDArray[np.str_] | None]:
    """Return the errors of all valid values (V,), and their groups (V,)."""
    error = found.prediction.astype(np.float64) - found.y
    groups = None
    if found.group is not None:
        texts = np.asarray(found.group).astype(str)
        groups = np.broadcast_to(texts.reshape(-1, *[1] * (error.ndim - 1)), error.shape)
    keep = np.isfinite(error) if found.mask is None else np.isfinite(error) & found.mask
    return error[keep], None if groups is None else groups[keep]
