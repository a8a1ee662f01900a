"""The third source of variance: how a difference moves with the samples, from the predictions of both arms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from paceline.evaluate.bootstrap import SampleInterval, sample_differences
from paceline.evaluate.paired import McNemar, mcnemar
from paceline.evaluate.predictions import Array, Predictions, metrics_of, pooled
from paceline.report.compare_arms import Arm


def on_samples(a: Arm, b: Arm, metric: str) -> tuple[SampleInterval | None, McNemar | None]:
    """Return the paired bootstrap of the metric, and McNemar's test where each side predicted every sample once.

    Nothing where predictions are missing, are of other samples, or do not give the metric as it was recorded.
    """
    part, _, base = metric.partition("_")
    of_a, of_b = (_predictions(arm, metric, part, base) for arm in (a, b))
    if not of_a or not of_b or not _same_targets(of_a, of_b):
        return None, None
    return sample_differences(of_a, of_b).get(base), _mcnemar(of_a, of_b)


def _mcnemar(a: Sequence[Predictions], b: Sequence[Predictions]) -> McNemar | None:
    """Return the test for two classifiers on independent samples; groups make samples dependent."""
    both = [*a, *b]
    if len(both) != 2 or any(one.probability is None or one.group is not None for one in both):
        return None
    right_a, right_b = ((one.prediction == one.y)[np.argsort(one.index)] for one in both)
    return mcnemar(right_a, right_b)


def _predictions(arm: Arm, metric: str, part: str, base: str) -> list[Predictions]:
    recorded = {(seed, fold): value for seed, fold, value in arm.scores[metric]}
    found = arm.predictions(part)
    for seed, fold, one in found:
        value = metrics_of(one).get(base)
        if value is None or not math.isclose(value, recorded[seed, fold], rel_tol=1e-3, abs_tol=1e-5):
            return []
    return pooled((seed, one) for seed, _, one in found)


def _same_targets(a: Sequence[Predictions], b: Sequence[Predictions]) -> bool:
    (index_a, y_a), (index_b, y_b) = (_targets(side) for side in (a, b))
    return np.array_equal(index_a, index_b) and np.array_equal(y_a, y_b)


def _targets(side: Sequence[Predictions]) -> tuple[Array, Array]:
    index, first = np.unique(np.concatenate([one.index for one in side]), return_index=True)
    return index, np.concatenate([one.y for one in side])[first]
