"""Decision thresholds: weights per class on the probabilities, tuned for a metric of the decided classes. No torch.

Shapes: N samples, C classes, P positions of one weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]

TUNABLE = ("accuracy", "f1_macro", "recall_macro")  # not precision: a class decided once, and rightly, would have 1
FARTHEST = 100.0  # no weight is looked for beyond 1 / 100 and 100
_ROUNDS = 20
_POSITIONS = 5_000  # looked at per class: for up to so many samples, all that make a difference
_GAIN = 1e-12  # a smaller difference is rounding
_TINY = 1e-38


def weighted(probability: Array, weights: Array) -> Floats:
    """Return probabilities (N, C) times the weights of the classes (C,), divided by their sum.

    They are what other prior odds of the classes would make of the probabilities. The largest decides.
    """
    scores = np.maximum(np.asarray(probability, dtype=np.float64), _TINY) * weights
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def threshold_of(weights: Array) -> float:
    """Return the threshold that two weights stand for: the second class is decided where its probability is above."""
    first, second = weights
    return float(first / (first + second))


def tune_weights(probability: Array, y: Array, metric: str) -> Floats:
    """Return the weights (C,), of geometric mean 1, whose decisions have the highest `metric` on these samples.

    probability: (N, C), y: (N,) classes. metric: one of TUNABLE. Two classes: the best of all thresholds. More: along
    one class after another the best value of its weight, the others' held fixed, until no class gains (a local
    optimum). A weight moves for a gain alone; it then stands in the middle of the values that decide alike, and of
    equally good places takes the nearest. A class without samples keeps its weight.
    """
    assert metric in TUNABLE, metric
    logs_NC = np.log(np.maximum(np.asarray(probability, dtype=np.float64), _TINY))
    n_classes = logs_NC.shape[1]
    moved = [1] if n_classes == 2 else np.unique(y).tolist()  # of two weights only the ratio counts
    weights = np.zeros(n_classes)
    value = _value_now(logs_NC, y, metric)
    for _ in range(_ROUNDS):
        before = value
        for c in moved:
            weights[c], value = _search(logs_NC + weights, y, c, float(weights[c]), value, metric)
        if value <= before + _GAIN or len(moved) == 1:
            break
    return np.asarray(np.exp(weights - weights.mean()))


def _search(scores_NC: Floats, y: Array, c: int, now: float, value: float, metric: str) -> tuple[float, float]:
    """Return the best log weight of class c and the metric there: `now` and `value` unless there is a gain.

    scores: log probabilities plus log weights. A sample is decided as c where c's weight exceeds the level at which c
    draws with the best other class, so passing the samples in the order of their levels visits all decisions.
    """
    rest = scores_NC.copy()
    rest[:, c] = -np.inf
    other = rest.argmax(axis=1)
    level = now + rest[np.arange(len(y)), other] - scores_NC[:, c]
    order = np.argsort(level, kind="stable")
    level = np.concatenate([[-np.inf], level[order], [np.inf]])
    limit = np.log(FARTHEST)
    low, high = np.clip(level[:-1], -limit, limit), np.clip(level[1:], -limit, limit)
    cuts = np.flatnonzero(low < high)  # k: the weight is above the first k levels
    if len(cuts) > _POSITIONS:
        cuts = cuts[np.linspace(0, len(cuts) - 1, _POSITIONS).astype(int)]
    values = _values_at(cuts, y[order], other[order], c, scores_NC.shape[1], metric)
    if values.max() <= value + _GAIN:
        return now, value
    middle = (low[cuts] + high[cuts]) / 2
    best = np.flatnonzero(values >= values.max() - _GAIN)
    chosen = best[np.abs(middle[best] - now).argmin()]
    return float(middle[chosen]), float(values[chosen])


def _values_at(cuts: Array, y: Array, other: Array, c: int, n_classes: int, metric: str) -> Floats:
    """Return the metric (P,) where the first k samples are decided as c, the rest as their other class; k in cuts."""
    block = np.searchsorted(cuts, np.arange(len(y)), side="right")

    def passed(chosen: Array) -> Floats:
        """Count, per cut and other class (P, C), the chosen samples that are decided as c by then."""
        size = (len(cuts) + 1) * n_classes
        counts = np.bincount(block[chosen] * n_classes + other[chosen], minlength=size)
        return np.asarray(counts.reshape(-1, n_classes)[:-1].cumsum(axis=0), dtype=np.float64)

    everyone, right = np.ones(len(y), dtype=bool), other == y
    predicted = np.bincount(other, minlength=n_classes) - passed(everyone)
    hits = np.bincount(other[right], minlength=n_classes) - passed(right)
    predicted[:, c], hits[:, c] = cuts, passed(y == c).sum(axis=1)
    return _values(hits, np.bincount(y, minlength=n_classes), predicted, metric)


def _value_now(scores_NC: Floats, y: Array, metric: str) -> float:
    decided, n_classes = scores_NC.argmax(axis=1), scores_NC.shape[1]
    hits, true, predicted = (np.bincount(each, minlength=n_classes) for each in (y[decided == y], y, decided))
    return float(_values(hits, true, predicted, metric))


def _values(hits: Array, true: Array, predicted: Array, metric: str) -> Floats:
    """Return the metric (...,) of counts per class (..., C), as scikit-learn defines it, with 0 for 0 / 0."""
    if metric == "accuracy":
        return np.asarray(hits.sum(axis=-1) / true.sum())
    whole = np.broadcast_to((true + predicted) / 2 if metric == "f1_macro" else true, hits.shape)
    return np.asarray(np.divide(hits, whole, out=np.zeros(hits.shape), where=whole > 0).mean(axis=-1))
