"""Ensembles of members from their stored predictions: the plain mean, and greedy selection on validation. No torch.

Shapes: N samples, C classes, D outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.evaluate.predictions import Predictions, metrics_of

ROUNDS = 25  # picks of the greedy selection: weights are multiples of 1/25 or coarser
LIBRARY = 50  # candidates: the best by themselves
LOWER = frozenset({"log_loss", "mse", "rmse", "mae"})


def mean_of(members: Sequence[Predictions], weights: Sequence[float] | None = None) -> Predictions:
    """Return the (weighted) mean of the members' probabilities, or of their numbers; all must hold the same samples.

    The predicted class is that of the largest mean probability.
    """
    aligned = [_sorted(member) for member in members]
    first = aligned[0]
    assert all(np.array_equal(member.index, first.index) for member in aligned), "members of different samples"
    shares = np.full(len(members), 1.0) if weights is None else np.asarray(weights, dtype=np.float64)
    shares = shares / shares.sum()
    mean = sum(share * _output(member) for share, member in zip(shares, aligned, strict=True) if share)
    return _with(first, np.asarray(mean))


def same_samples(members: Sequence[Predictions]) -> bool:
    """Tell whether all members predicted the same samples, in any order."""
    return all(np.array_equal(np.sort(member.index), np.sort(members[0].index)) for member in members[1:])


def greedy(members: Sequence[Predictions], metric: str, *, rounds: int = ROUNDS) -> list[int]:
    """Return how often each member is picked by greedy forward selection on `metric` of these (validation) samples.

    With replacement: every round adds the member that makes the mean of all picks best; the best round counts (Caruana,
    Niculescu-Mizil, Crew and Ksikes, Ensemble selection from libraries of models, ICML 2004). Ties are broken by
    log-loss or squared error, then by the order of the members. Of more than 50 members the 50 best by themselves are
    candidates. `metric` is one of `metrics_of`.
    """
    aligned = [_sorted(member) for member in members]
    first, outputs = aligned[0], [_output(member) for member in aligned]
    alone = [_rank(member, metric) for member in aligned]
    candidates = sorted(range(len(members)), key=lambda k: (alone[k], k))[:LIBRARY]
    picks: list[int] = []
    found: list[tuple[tuple[float, float], int]] = []
    total: NDArray[Any] = np.zeros_like(outputs[0])
    for size in range(1, rounds + 1):
        ranks = [(_rank(_with(first, (total + outputs[k]) / size), metric), k) for k in candidates]
        rank, best = min(ranks)
        total = total + outputs[best]
        picks.append(best)
        found.append((rank, size))
    _, length = min(found)
    return [picks[:length].count(k) for k in range(len(members))]


def _rank(predictions: Predictions, metric: str) -> tuple[float, float]:
    """Return what is smaller for a better ensemble: the metric, then log-loss or squared error."""
    values = metrics_of(predictions)
    first = values[metric] if metric in LOWER else -values[metric]
    # Rounded: the mean of three equal members is not better than one of them.
    return round(first, 12), round(values["log_loss" if "log_loss" in values else "mse"], 12)


def _output(member: Predictions) -> NDArray[np.float64]:
    output = member.prediction if member.probability is None else member.probability
    return output.astype(np.float64)


def _with(member: Predictions, output: NDArray[Any]) -> Predictions:
    if member.probability is None:
        return replace(member, prediction=output)
    return replace(member, probability=output, prediction=output.argmax(axis=1))


def _sorted(member: Predictions) -> Predictions:
    return member.rows(np.argsort(member.index, kind="stable"))
