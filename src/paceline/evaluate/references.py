"""What to set a model beside: a random forest on summaries of each channel, and what the data's own process knows.

Shapes: N samples, T steps, F channels, C classes, P samples of a part. Needs no torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.data.dataset import Dataset
from paceline.evaluate.predictions import Predictions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TREES = 300
STATISTICS = ("mean", "std", "min", "max", "last-first")
WHAT = {
    "ceiling": "the class that the process which made the data finds most probable: on average no model does better",
    "noise": "the process that made the data, without its noise: on average no model has a smaller error",
    "forest": f"random forest of {TREES} trees on {'/'.join(STATISTICS)} of each channel",
}


def summaries(x: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> Floats:
    """Return mean, standard deviation (divisor n), minimum, maximum and last minus first value of each channel.

    x (N, T, F) gives (N, 5F), statistic by statistic, over the valid steps (`mask` (N, T)) whose value is not NaN; a
    channel of a sample without any gives NaN. x (N, F) is returned as it is.
    """
    if x.ndim == 2:
        return x.astype(np.float64)
    x = x.astype(np.float64)
    valid = ~np.isnan(x) if mask is None else ~np.isnan(x) & mask[:, :, None]
    count = valid.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(valid, x, 0).sum(axis=1) / count
        std = np.sqrt(np.where(valid, (x - mean[:, None]) ** 2, 0).sum(axis=1) / count)
    low, high = np.where(valid, x, np.inf).min(axis=1), np.where(valid, x, -np.inf).max(axis=1)
    first, last = valid.argmax(axis=1), x.shape[1] - 1 - valid[:, ::-1].argmax(axis=1)
    ends = [np.take_along_axis(x, index[:, None], axis=1)[:, 0] for index in (first, last)]
    found = [np.where(count > 0, each, np.nan) for each in (mean, std, low, high, ends[1] - ends[0])]
    return np.concatenate(found, axis=1)


def forest_chances(
    features: Floats, y: Ints, train: Ints, n_classes: int, *, seed: int, trees: int = TREES
) -> Floats:  # fmt: skip
    """Fit a random forest on the rows `train` of features (N, D) and y (N,); return P(class) (N, C) of every row.

    scikit-learn's `RandomForestClassifier` with its defaults but for the number of trees. A class without training
    rows has probability 0.
    """
    from sklearn.ensemble import RandomForestClassifier  # half a second

    forest = RandomForestClassifier(trees, random_state=seed, n_jobs=-1).fit(features[train], y[train])
    chances = np.zeros((len(features), n_classes))
    chances[:, forest.classes_] = forest.predict_proba(features)
    return chances


def chances_of(name: str, dataset: Dataset, train: Ints, *, seed: int) -> Floats:
    """Return P(class) (N, C) of every sample by the reference `name`, which has seen no label but those of `train`."""
    if name == "ceiling":
        assert dataset.posterior is not None
        return dataset.posterior
    features = summaries(dataset.columns["x"], dataset.columns.get("mask"))
    return forest_chances(features, dataset.columns["y"], train, len(dataset.classes), seed=seed)


def clean_predictions(dataset: Dataset, part: Ints) -> Predictions:
    """Return the targets of the samples `part` without their noise, as if a model had predicted them."""
    assert dataset.clean is not None
    mask = dataset.columns.get("mask") if dataset.clean.ndim > 1 else None
    own = None if mask is None else mask[part]
    return Predictions(index=part, y=dataset.columns["y"][part], prediction=dataset.clean[part], mask=own)


def predictions(chances: Floats, y: Ints, part: Ints) -> Predictions:
    """Return the most probable classes of the samples `part`."""
    own = chances[part]
    return Predictions(index=part, y=y[part], prediction=own.argmax(axis=1), probability=own)
