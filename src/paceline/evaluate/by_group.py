"""Metrics of single groups (cells, patients) and of single conditions (temperatures), from stored predictions.

Shapes: N samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paceline.evaluate.bootstrap import SampleInterval, sample_intervals
from paceline.evaluate.predictions import Predictions, metrics_of
from paceline.evaluate.statistics import Interval, t_interval

MOST = 100  # groups; beyond, nobody reads them one by one


@dataclass(frozen=True, kw_only=True)
class GroupMetrics:
    """The metrics of the samples that share one value.

    n: samples. n_groups: groups among them, 0 where the data has none. over_members: mean, deviation and t interval of
    each metric over members. over_groups: with its interval over draws of the groups, of those metrics that
    `sample_intervals` has.
    """

    value: str
    n: int
    n_groups: int
    over_members: Mapping[str, Interval]
    over_groups: Mapping[str, SampleInterval]


def metrics_by(values: NDArray[np.generic], members: Sequence[Predictions], *, most: int = MOST) -> list[GroupMetrics]:
    """Return the metrics for each value; `values` has one per sample of the whole data set, numbers or texts.

    A metric of a value is what it would be if the samples with that value were all there are. Numbers come in their
    order. [] where there are more than `most` different values, or no member.
    """
    if not members:
        return []
    predicted = np.unique(np.concatenate([member.index for member in members]))
    present = np.unique(values[predicted])
    if len(present) > most:
        return []
    return [_of_value(value, values, members) for value in present]


def subset_metrics(found: Predictions) -> dict[str, float]:
    """Return all metrics of some predictions: of numbers those of the task, of classes those of `metrics_of`."""
    if found.probability is not None:
        return metrics_of(found)
    import torch

    from paceline.metrics.functional import regression

    prediction, y = found.prediction, found.y
    if found.mask is not None:
        prediction, y = prediction[found.mask], y[found.mask]
    made = regression(torch.from_numpy(np.array(prediction)), torch.from_numpy(np.array(y))).values("")
    return {name: float(value) for name, value in made.items() if not isinstance(value, list)}


def _of_value(value: np.generic, values: NDArray[np.generic], members: Sequence[Predictions]) -> GroupMetrics:
    own = [member.rows(values[member.index] == value) for member in members]
    own = [member for member in own if len(member.index)]
    each = [subset_metrics(member) for member in own]
    names = [name for name in each[0] if all(name in metrics for metrics in each)]
    groups = {str(group) for member in own if member.group is not None for group in member.group}
    return GroupMetrics(
        value=name_of(value),
        n=len(np.unique(np.concatenate([member.index for member in own]))),
        n_groups=len(groups),
        over_members={name: t_interval([metrics[name] for metrics in each]) for name in names},
        over_groups=sample_intervals(own) if len(groups) > 1 else {},
    )


def name_of(value: object) -> str:
    """Return `25` for 25.0, and a text as it is."""
    if isinstance(value, (float, np.floating)):
        return f"{float(value):g}" if math.isfinite(float(value)) else str(value)
    return str(value)
