"""Metrics of single groups and conditions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    mean_absolute_percentage_error,
    r2_score,
    root_mean_squared_error,
)

from paceline.evaluate.bootstrap import sample_intervals
from paceline.evaluate.by_group import metrics_by, name_of, subset_metrics
from paceline.evaluate.predictions import Predictions

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(0)
N = 90
CONDITION = np.repeat([10.0, 25.0, 40.0], 30)
CELL = np.repeat([f"c{k}" for k in range(9)], 10)
Y = RNG.uniform(0.7, 1.0, N)


def members(n=3):
    return [
        Predictions(index=np.arange(N), y=Y, prediction=Y + RNG.normal(size=N) * 0.01, group=CELL) for _ in range(n)
    ]


def test_metrics_of_a_temperature_equal_those_of_its_samples_alone():
    """C51: the values of a condition are scikit-learn's on the subset, means over members."""
    three = members()
    found = {each.value: each for each in metrics_by(CONDITION, three)}
    assert list(found) == ["10", "25", "40"]
    for value, each in found.items():
        rows = float(value) == CONDITION
        assert (each.n, each.n_groups) == (30, 3)
        oracles = {
            "rmse": root_mean_squared_error,
            "mae": mean_absolute_error,
            "r2": r2_score,
            "mape": lambda y, p: 100 * mean_absolute_percentage_error(y, p),
        }
        for name, oracle in oracles.items():
            alone = [oracle(Y[rows], member.prediction[rows]) for member in three]
            assert each.over_members[name].mean == pytest.approx(np.mean(alone), rel=1e-9), name
            assert each.over_members[name].std == pytest.approx(np.std(alone, ddof=1), rel=1e-6)


def test_the_interval_of_a_condition_is_drawn_over_its_cells():
    three = members()
    (cold, *_) = metrics_by(CONDITION, three)
    rows = CONDITION == 10
    expected = sample_intervals([member.rows(rows) for member in three])["rmse"]
    assert cold.over_groups["rmse"] == expected and expected.n_units == 3 and expected.units == "groups"


def test_one_cell_has_no_interval_over_cells():
    for each in metrics_by(CELL, members()):
        assert each.n_groups == 1 and not each.over_groups and each.over_members["rmse"].low is not None


def test_folds_that_hold_different_cells_count_where_they_have_them():
    one = members(1)[0]
    halves = [one.rows(CONDITION < 30), one.rows(CONDITION > 30)]
    whole = {each.value: each for each in metrics_by(CONDITION, [one])}
    for each in metrics_by(CONDITION, halves):
        assert each.over_members["mae"].mean == whole[each.value].over_members["mae"].mean


def test_padded_steps_do_not_count():
    y = Y.reshape(9, 10)
    mask = np.arange(10) < np.arange(2, 11)[:, None]
    prediction = np.where(mask, y + 0.01 * RNG.normal(size=y.shape), 99.0)
    found = Predictions(index=np.arange(9), y=y, prediction=prediction, group=CELL[::10], mask=mask)
    alone = subset_metrics(found)
    assert alone["rmse"] == pytest.approx(root_mean_squared_error(y[mask], prediction[mask]))
    assert alone["mae"] == pytest.approx(mean_absolute_error(y[mask], prediction[mask]))
    assert sample_intervals([found])["rmse"].value == pytest.approx(alone["rmse"])


def test_classes_have_the_metrics_of_classes():
    y = RNG.integers(0, 3, N)
    probability = RNG.dirichlet(np.ones(3), N)
    found = Predictions(index=np.arange(N), y=y, prediction=probability.argmax(1), probability=probability, group=CELL)
    for each in metrics_by(CELL, [found]):
        rows = each.value == CELL
        own = (y[rows], found.prediction[rows])
        assert each.over_members["accuracy"].mean == accuracy_score(*own)
        assert each.over_members["f1_macro"].mean == pytest.approx(f1_score(*own, average="macro"))


def test_many_groups_and_no_member_give_nothing():
    assert metrics_by(np.arange(N), members(), most=N - 1) == [] and metrics_by(CELL, []) == []
    assert [name_of(value) for value in (25.0, 2.5, "B5", np.float32(40))] == ["25", "2.5", "B5", "40"]
