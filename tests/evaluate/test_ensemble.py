from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paceline.evaluate.ensemble import greedy, mean_of, same_samples
from paceline.evaluate.predictions import Predictions, metrics_of
from tests.evaluate.made import classifier, labels, regressor

pytestmark = pytest.mark.fast


def test_the_mean_of_classifiers_averages_probabilities():
    """A102: an ensemble of best checkpoints, by their probabilities."""
    y = labels()
    members = [classifier(y, 0.7, seed=s) for s in range(3)]
    found = mean_of(members)
    expected = np.mean([m.probability for m in members], axis=0)
    np.testing.assert_allclose(found.probability, expected)
    assert (found.prediction == expected.argmax(axis=1)).all()
    weighted = mean_of(members, [2, 0, 1])
    np.testing.assert_allclose(weighted.probability, (2 * members[0].probability + members[2].probability) / 3)


def test_the_mean_of_regressors_is_never_worse_than_the_mean_member_in_squared_error():
    y = np.random.default_rng(0).normal(size=(80, 2))
    members = [regressor(y, 0.3 + 0.1 * s, seed=s) for s in range(5)]
    found = metrics_of(mean_of(members))["mse"]
    np.testing.assert_allclose(mean_of(members).prediction, np.mean([m.prediction for m in members], axis=0))
    assert found < np.mean([metrics_of(m)["mse"] for m in members])


def test_members_are_aligned_by_sample():
    y = labels()
    a, b = classifier(y, 0.7, seed=1), classifier(y, 0.7, seed=2)
    order = np.random.default_rng(0).permutation(len(y))
    mixed = replace(b, **{name: getattr(b, name)[order] for name in ("index", "y", "prediction", "probability")})
    np.testing.assert_array_equal(mean_of([a, mixed]).probability, mean_of([a, b]).probability)
    assert same_samples([a, mixed])
    assert not same_samples([a, replace(b, index=b.index + 1)])
    with pytest.raises(AssertionError, match="different samples"):
        mean_of([a, replace(b, index=b.index + 1)])


def test_greedy_selection_by_hand():
    # Errors of the members on two samples: (1, -1), (-1, 1), (3, 3). Alone the first two have MSE 1; together they
    # cancel; the third never helps. Every further pair of the two is a tie, and the shorter ensemble counts.
    y = np.zeros(2)
    errors = ([1.0, -1.0], [-1.0, 1.0], [3.0, 3.0])
    members = [Predictions(index=np.arange(2), y=y, prediction=np.array(e)) for e in errors]
    assert greedy(members, "mse") == [1, 1, 0]
    # With replacement: errors (-1, 2) and (2, -4) cancel at weights 2 : 1, which no equal-weight set reaches.
    members = [Predictions(index=np.arange(2), y=y, prediction=np.array(e)) for e in ([-1.0, 2.0], [2.0, -4.0])]
    assert greedy(members, "mse") == [2, 1]


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "log_loss"])
def test_greedy_selection_is_at_least_as_good_as_the_best_member_where_it_chose(metric):
    y = labels()
    members = [classifier(y, 0.5 + 0.05 * s, seed=s) for s in range(6)]
    counts = greedy(members, metric)
    found = metrics_of(mean_of(members, counts))[metric]
    alone = [metrics_of(m)[metric] for m in members]
    assert found <= min(alone) if metric == "log_loss" else found >= max(alone)
    assert 1 <= sum(counts) <= 25


def test_the_rounds_and_the_library_are_bounded():
    y = labels(40)
    members = [classifier(y, 0.6, seed=s) for s in range(60)]
    counts = greedy(members, "log_loss", rounds=5)
    assert len(counts) == 60 and sum(counts) <= 5


def test_ties_go_to_the_better_log_loss_and_then_to_the_first():
    y = labels()
    right = replace(classifier(y, 1.0, seed=1), prediction=y)
    eye = np.eye(4)[y]
    sure = replace(right, probability=0.9 * eye + 0.025)
    unsure = replace(right, probability=0.5 * eye + 0.125)
    assert greedy([unsure, sure], "accuracy") == [0, 1]
    assert greedy([sure, sure], "accuracy") == [1, 0]
