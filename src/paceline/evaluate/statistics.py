"""Intervals for what several members gave: a mean, its 95 % interval, and in words what varied. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

Score = tuple[int, int | None, float]  # (seed, fold, value)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its confidence interval.

    `std` is the sample standard deviation (divided by n - 1) of the `n` values that the interval stands on: members,
    or folds. What n does not allow is None: `std`, `low` and `high` of one value, and all four of none. `method` says
    in words how the interval was made and which variation it covers. `error` is the standard error that the interval
    stands on, None where there is none. Bounds are not cut to a metric's range.

    Three things make a result vary: the seed of training, the training data (splits), and the samples it is measured
    on. The intervals of this module cover the first, or the first two; `paceline.evaluate.bootstrap` the third.
    """

    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    error: float | None = None


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return mean ± t(n - 1) · s / √n over members that differ in their seed alone.

    The values must be independent, as trainings from different seeds on one split are. Values that are not finite are
    left out, and `method` says how many.
    """
    kept, note = _finite(values)
    method = f"t over {len(kept)} seeds, one split: variation of training alone, not of the data"
    return _interval(kept, 0, confidence, method, note)


def corrected_interval(
    values_by_fold: Sequence[float | Sequence[float]], n_train: float, n_test: float, confidence: float = 0.95
) -> Interval:
    """Return mean ± t(n - 1) · s · √(1/n + n_test/n_train), n the number of folds.

    Training parts overlap, so the folds are not independent and the plain t interval is too narrow; the second term
    corrects for it (Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 239-281, 2003).
    A fold with several seeds counts once, with the mean over its seeds. `n_train` and `n_test` are the samples of one
    fold's training part and of the part that the values were measured on. Values that are not finite are left out, a
    fold without any other too, and `method` says how many values.
    """
    folds = [_finite(np.atleast_1d(values)) for values in values_by_fold]
    means = [float(np.mean(kept)) for kept, _ in folds if kept]
    seeds = max((len(np.atleast_1d(values)) for values in values_by_fold), default=0)
    _, note = _finite([value for values in values_by_fold for value in np.atleast_1d(values)])
    each = f", each the mean over {seeds} seeds" if seeds > 1 else ""
    method = (
        f"corrected t (Nadeau and Bengio, 2003) over {len(means)} folds{each}: variation of the data and of training"
    )
    return _interval(means, n_test / n_train, confidence, method, note, one="one fold")


def summarise(
    scores: Iterable[Score],
    n_train: float | None = None,
    n_test: float | None = None,
    *,
    redrawn: bool = False,
    fixed_part: bool = False,
    confidence: float = 0.95,
) -> Interval:
    """Choose the interval that fits how the members differ, from (seed, fold, value) of each.

    On one split (fold None, or one fold for all): t over the seeds. With folds, the same for every seed: the corrected
    interval over the folds' means. `redrawn` says that every seed drew its own split or folds: then each member is one
    of many random splits, and the corrected interval is over all of them. `fixed_part` says that all folds, or all
    redrawn splits, were measured on one part outside them, such as an official test set. `n_train` and `n_test`, the
    samples of one training part and of the part measured on, are needed for a corrected interval.
    """
    scores = list(scores)
    by_fold: dict[int | None, list[float]] = {}
    for _, fold, value in sorted(scores, key=lambda score: (score[1] is not None, score[1] or 0, score[0])):
        by_fold.setdefault(fold, []).append(float(value))
    assert len({(seed, fold) for seed, fold, _ in scores}) == len(scores), "a member appears twice"
    assert not (None in by_fold and len(by_fold) > 1), "some members have a fold and some have none"
    everything = [value for values in by_fold.values() for value in values]
    if len(by_fold) <= 1 and not redrawn:
        return t_interval(everything, confidence)
    if fixed_part:
        return _over_training_parts([[v] for v in everything] if redrawn else list(by_fold.values()), confidence)
    assert n_train and n_test, "the corrected interval needs the sizes of the training part and of the part measured on"
    if not redrawn:
        return corrected_interval(list(by_fold.values()), n_train, n_test, confidence)
    kept, note = _finite(everything)
    method = (
        f"corrected t (Nadeau and Bengio, 2003) over {len(kept)} trainings, splits redrawn for every seed: "
        "variation of the data and of training"
    )
    return _interval(kept, n_test / n_train, confidence, method, note)


def _over_training_parts(by_part: Sequence[Sequence[float]], confidence: float) -> Interval:
    """Return the t interval over training parts of one data set, all measured on the same fixed part."""
    folds = [_finite(values) for values in by_part]
    means = [float(np.mean(kept)) for kept, _ in folds if kept]
    _, note = _finite([value for values in by_part for value in values])
    method = (
        f"t over the trainings on {len(means)} overlapping parts, one test set: "
        "variation of training and of its samples, not of the test set"
    )
    return _interval(means, 0, confidence, method, note, one="one fold")


def _interval(
    values: Sequence[float], extra: float, confidence: float, method: str, note: str, one: str = "one member"
) -> Interval:
    """Return mean ± t(n - 1) · s · √(1/n + extra), as far as n allows."""
    assert 0 < confidence < 1, confidence
    n = len(values)
    if n == 0:
        return Interval(mean=None, std=None, low=None, high=None, n=0, method="no value" + note)
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean=mean, std=None, low=None, high=None, n=1, method=f"{one}: no interval{note}")
    std = float(np.std(values, ddof=1))
    error = std * math.sqrt(1 / n + extra)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * error
    return Interval(mean=mean, std=std, low=mean - half, high=mean + half, n=n, method=method + note, error=error)


def _finite(values: Iterable[float]) -> tuple[list[float], str]:
    """Return the finite values, and a note for the method about the others."""
    everything = [float(value) for value in values]
    kept = [value for value in everything if math.isfinite(value)]
    lost = len(everything) - len(kept)
    return kept, f"; {lost} of {len(everything)} values not finite, left out" if lost else ""
