"""Tuned weights of the classes: the best of all thresholds for two, never a loss for more."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from paceline.evaluate.thresholds import TUNABLE, threshold_of, tune_weights, weighted

pytestmark = pytest.mark.fast


def imbalanced(n: int, shares: list[float], seed: int = 0, bias: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, C) that lean towards class 0, and labels."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(shares), n, p=shares)
    z = rng.normal(size=(n, len(shares))) + 1.5 * np.eye(len(shares))[y] + bias * np.eye(len(shares))[0]
    p = np.exp(z)
    return p / p.sum(axis=1, keepdims=True), y


def score(metric: str, probability: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    labels = range(probability.shape[1])
    found = weighted(probability, weights).argmax(axis=1)
    if metric == "accuracy":
        return accuracy_score(y, found)
    of = f1_score if metric == "f1_macro" else recall_score
    return of(y, found, average="macro", labels=labels, zero_division=0)


@pytest.mark.parametrize("metric", TUNABLE)
@pytest.mark.parametrize("seed", range(2))
def test_of_two_classes_no_threshold_is_better(metric: str, seed: int) -> None:
    probability, y = imbalanced(60, [0.8, 0.2], seed)
    weights = tune_weights(probability, y, metric)
    edges = np.unique(np.concatenate([[0.01], probability[:, 1], [0.99]]))
    every = [np.array([t, 1 - t]) for t in (edges[1:] + edges[:-1]) / 2 if 0.01 <= t <= 0.99]
    best = max(score(metric, probability, y, each) for each in every)
    assert score(metric, probability, y, weights) == pytest.approx(best)
    t = threshold_of(weights)
    assert ((probability[:, 1] > t) == (weighted(probability, weights).argmax(1) == 1)).all()


@pytest.mark.parametrize("metric", TUNABLE)
@pytest.mark.parametrize("seed", range(2))
def test_of_three_classes_the_search_finds_what_a_grid_finds(metric: str, seed: int) -> None:
    probability, y = imbalanced(80, [0.75, 0.15, 0.1], seed)
    weights = tune_weights(probability, y, metric)
    assert np.log(weights).sum() == pytest.approx(0)
    grid = np.exp(np.linspace(-2.5, 2.5, 9))
    best = max(score(metric, probability, y, np.array([1, a, b])) for a in grid for b in grid)
    assert score(metric, probability, y, weights) >= best - 0.02
    assert score(metric, probability, y, weights) >= score(metric, probability, y, np.ones(3))


def test_a_threshold_worked_by_hand() -> None:
    # Above .3 all three of class 1 are found with one error, F1 (.857 + .857) / 2; .5 finds one.
    second = np.array([0.05, 0.1, 0.2, 0.4, 0.35, 0.45, 0.9])
    y = np.array([0, 0, 0, 0, 1, 1, 1])
    weights = tune_weights(np.stack([1 - second, second], axis=1), y, "f1_macro")
    # In the middle of .2 and .35 by log odds: sqrt(.2 / .8 * .35 / .65) = .3669, over 1 + .3669.
    assert threshold_of(weights) == pytest.approx(0.3669 / 1.3669, abs=1e-4)


def test_where_nothing_is_gained_nothing_moves() -> None:
    y = np.arange(30) % 3
    sure = 0.1 + 0.7 * np.eye(3)[y]
    assert (tune_weights(sure, y, "f1_macro") == 1).all()
    even = np.full((30, 2), 0.5)
    assert (tune_weights(even, y % 2, "accuracy") == 1).all()


def test_a_class_without_samples_keeps_its_weight_beside_the_others() -> None:
    probability, y = imbalanced(60, [0.6, 0.4], bias=1.0)
    wider = np.hstack([0.9 * probability, np.full((60, 1), 0.1)])
    weights = tune_weights(wider, y, "accuracy")
    untouched = weights / weights[2]
    assert untouched[2] == 1 and score("accuracy", wider, y, weights) >= score("accuracy", wider, y, np.ones(3))


def test_weights_stay_within_bounds_and_the_search_is_deterministic() -> None:
    rng = np.random.default_rng(3)
    probability = rng.dirichlet([8, 0.02, 0.02], 100).astype(np.float32)
    y = rng.integers(0, 3, 100)
    weights = tune_weights(probability, y, "recall_macro")
    assert np.isfinite(weights).all() and weights.max() / weights.min() <= 1e4
    assert np.array_equal(weights, tune_weights(probability, y, "recall_macro"))


def test_more_samples_than_positions_looked_at_still_gain() -> None:
    probability, y = imbalanced(12_000, [0.9, 0.1], bias=1.0)
    weights = tune_weights(probability, y, "f1_macro")
    fine = max(score("f1_macro", probability, y, np.array([t, 1 - t])) for t in np.linspace(0.02, 0.6, 30))
    assert score("f1_macro", probability, y, weights) >= fine - 1e-3


def test_weighted_probabilities_are_those_of_other_prior_odds() -> None:
    found = weighted(np.array([[0.5, 0.25, 0.25]]), np.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(found, [[0.25, 0.25, 0.5]])
