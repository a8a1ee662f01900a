"""Predictions of made-up members."""

from __future__ import annotations

import numpy as np

from paceline.evaluate.predictions import Predictions


def labels(n: int = 120, classes: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, n)


def classifier(y: np.ndarray, accuracy: float, seed: int, *, index=None, group=None, classes: int = 4) -> Predictions:
    """A member that is right about as often as asked, with probabilities that fit its predictions."""
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.full(classes, 0.5), len(y))
    good = rng.random(len(y)) < accuracy
    probability[good, y[good]] += 1.5
    probability /= probability.sum(axis=1, keepdims=True)
    index = np.arange(len(y)) if index is None else index
    return Predictions(index=index, y=y, prediction=probability.argmax(1), probability=probability, group=group)


def regressor(y: np.ndarray, noise: float, seed: int) -> Predictions:
    """A member whose errors are normal."""
    prediction = y + np.random.default_rng(seed).normal(0, noise, y.shape)
    return Predictions(index=np.arange(len(y)), y=y, prediction=prediction)
