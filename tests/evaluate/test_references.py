"""Summaries of channels against pandas, the forest against scikit-learn.

Shapes: N samples, T steps, F channels.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

from paceline.data.dataset import dataset
from paceline.errors import DataError
from paceline.evaluate.references import chances_of, forest_chances, predictions, summaries


@pytest.mark.fast
def test_summaries_are_those_of_pandas_over_valid_steps():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 7, 3))
    x[0, 2, 1] = x[0, 0, 1] = x[2, 6, 0] = np.nan
    mask = np.arange(7) < np.array([7, 3, 7, 1])[:, None]
    wanted = []
    for sample, valid in zip(x, mask, strict=True):
        frame = pd.DataFrame(sample[valid])
        ends = frame.bfill().iloc[0], frame.ffill().iloc[-1]
        wanted.append(np.concatenate([frame.mean(), frame.std(ddof=0), frame.min(), frame.max(), ends[1] - ends[0]]))
    assert np.allclose(summaries(x, mask), np.array(wanted))


@pytest.mark.fast
def test_padding_and_row_data_change_nothing():
    x = np.random.default_rng(1).normal(size=(3, 5, 2))
    padded = np.concatenate([x, np.full((3, 2, 2), 9.0)], axis=1)
    assert np.array_equal(summaries(padded, np.arange(7) < np.full((3, 1), 5)), summaries(x))
    assert np.array_equal(summaries(x[:, 0]), x[:, 0])
    x[1, :, 0] = np.nan  # nothing to summarise, and no warning
    assert np.isnan(summaries(x)[1, ::2]).all() and np.isfinite(summaries(x)[1, 1::2]).all()


def test_the_forest_is_scikit_learn_s_and_sees_no_label_outside_the_training_part():
    rng = np.random.default_rng(2)
    features, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    train = np.arange(40)
    y[train[y[train] == 2]] = 0  # class 2 is unknown to the training part
    found = forest_chances(features, y, train, 3, seed=7, trees=20)
    oracle = RandomForestClassifier(20, random_state=7).fit(features[:40], y[:40]).predict_proba(features)
    assert np.array_equal(found[:, :2], oracle) and (found[:, 2] == 0).all()
    other = y.copy()
    other[40:] = 0
    assert np.array_equal(forest_chances(features, other, train, 3, seed=7, trees=20), found)


@pytest.mark.fast
def test_the_ceiling_is_the_posterior_of_the_data():
    posterior = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    data = dataset(x=np.ones((3, 2)), y=[0, 1, 1], posterior=posterior)
    chances = chances_of("ceiling", data, np.array([0]), seed=0)
    found = predictions(chances, data.columns["y"], np.array([1, 2]))
    assert found.prediction.tolist() == [1, 0] and np.array_equal(found.probability, posterior[1:])


@pytest.mark.fast
@pytest.mark.parametrize("wrong", [np.ones((3, 2)), np.ones((2, 2)) / 2, np.array([[2.0, -1.0]] * 3)])
def test_a_posterior_that_is_no_distribution_over_the_classes_is_refused(wrong):
    with pytest.raises(DataError, match="posterior must hold probabilities"):
        dataset(x=np.ones((3, 2)), y=[0, 1, 1], posterior=wrong)
