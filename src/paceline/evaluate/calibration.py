"""Calibration of class probabilities: the reliability table, the expected calibration error, one temperature. No torch.

Shapes: N samples, C classes, M bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax

Array = NDArray[Any]
Floats = NDArray[np.float64]

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0  # temperatures beyond these say that the probabilities mean nothing
_TINY = 1e-38  # the smallest probability: what float32 cannot hold is not -inf


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """How often the predicted class is right, by confidence: one entry (M,) per bin.

    `low` and `high` are the edges of a bin, which holds low < confidence <= high (the first one its lower edge too).
    `count` is its number of samples, `confidence` their mean confidence, `accuracy` the share of right predictions;
    the last two are NaN where a bin is empty.
    """

    low: Floats
    high: Floats
    count: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats


def reliability(
    probability: Array, y: Array, n_bins: int = BINS, bins: Literal["width", "mass"] = "width"
) -> Reliability:
    """Return the reliability table of the predicted class: probability (N, C), y (N,) the true classes.

    The confidence of a sample is its largest probability, and its class is right where that is y (Guo, Pleiss, Sun and
    Weinberger, On calibration of modern neural networks, ICML 2017). `width` divides 0 to 1 evenly, as they do; `mass`
    puts the edges at quantiles of the confidence, so that the bins hold about equally many samples.
    """
    confidence = np.asarray(probability, dtype=np.float64).max(axis=1)
    right = np.asarray(probability).argmax(axis=1) == y
    shares = np.linspace(0, 1, n_bins + 1)
    edges = shares if bins == "width" else np.quantile(confidence, shares)
    index = np.searchsorted(edges[1:-1], confidence)
    count = np.bincount(index, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            low=edges[:-1],
            high=edges[1:],
            count=count,
            confidence=np.bincount(index, weights=confidence, minlength=n_bins) / count,
            accuracy=np.bincount(index, weights=right, minlength=n_bins) / count,
        )


def expected_calibration_error(
    probability: Array, y: Array, n_bins: int = BINS, bins: Literal["width", "mass"] = "width"
) -> float:
    """Return the mean distance of accuracy and confidence over the bins of `reliability`, weighted by their samples.

    0 is perfect. With few samples it is above 0 by chance alone, more so with more bins.
    """
    table = reliability(probability, y, n_bins, bins)
    held = table.count > 0
    return float(np.average(np.abs(table.accuracy - table.confidence)[held], weights=table.count[held]))


def tempered(probability: Array, temperature: float) -> Floats:
    """Return softmax(log p / T), (N, C): T > 1 makes probabilities more even, T < 1 sharper; their order stays.

    For a softmax classifier this is softmax(logits / T), as logits and log p differ by a constant per sample.
    """
    wide = np.asarray(probability, dtype=np.float64)
    return wide if temperature == 1 else np.asarray(softmax(_logs(wide) / temperature, axis=1))


def fit_temperature(probability: Array, y: Array) -> float:
    """Return the temperature T that minimises the log-loss of `tempered(probability, T)` (Guo et al., ICML 2017).

    probability: (N, C), y: (N,) classes. One sample of an unknown class is added to the N, that is the labels are
    smoothed by 1 / (N + 1): else T would be 0 where no sample is wrong (the idea is Platt's, Probabilistic outputs for
    support vector machines, 1999). T stays within 0.05 and 20. The log-loss is convex in 1 / T, so this is its one
    minimum.
    """
    logs = _logs(np.asarray(probability, dtype=np.float64))
    n, smoothing = len(logs), 1 / (len(logs) + 1)
    wanted = (1 - smoothing) * logs[np.arange(n), y].mean() + smoothing * logs.mean()

    def slope(inverse: float) -> float:
        """Derivative of the log-loss by 1 / T: the expected log p under the tempered probabilities, less the wanted."""
        return float((softmax(inverse * logs, axis=1) * logs).sum(axis=1).mean() - wanted)

    if slope(1 / HOTTEST) >= 0:
        return HOTTEST
    return COLDEST if slope(1 / COLDEST) <= 0 else 1 / float(brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-12))


def _logs(probability: Floats) -> Floats:
    """Return log p, normalised again: rows of float32 add up to 1 only nearly."""
    return np.asarray(log_softmax(np.log(np.maximum(probability, _TINY)), axis=1))
