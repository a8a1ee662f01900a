"""Split-conformal intervals: the quantile by hand, the coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from paceline.evaluate.conformal import half_width, measured
from paceline.evaluate.predictions import Predictions

pytestmark = pytest.mark.fast


def predictions(errors, group=None, mask=None):
    errors = np.asarray(errors, dtype=np.float64)
    return Predictions(
        index=np.arange(len(errors)), y=np.ones(errors.shape), prediction=1 + errors, group=group, mask=mask
    )


def test_the_half_width_is_the_finite_sample_quantile():
    """Nine errors: k = ceil(10 x .9) = 9, the largest; k = ceil(10 x .5) = 5, the median; k = ceil(10 x .95) = 10."""
    errors = [-5, 1, -2, 3, 4, 6, 7, -8, 9]
    assert half_width(errors, 0.9) == 9 and half_width(errors, 0.5) == 5 and half_width(errors, 0.8) == 8
    assert half_width(errors, 0.95) == math.inf  # nine values cannot promise so much
    assert half_width(np.arange(1, 100), 0.9) == 90 and half_width([], 0.5) == math.inf


@pytest.mark.parametrize(("n", "level"), [(19, 0.9), (50, 0.8), (99, 0.9)])
def test_exchangeable_values_are_held_as_often_as_promised(n, level):
    """Over 4,000 draws: the mean coverage is k / (n + 1), between the level and level + 1 / (n + 1)."""
    rng = np.random.default_rng(0)
    draws = rng.standard_t(3, size=(4_000, n + 1))
    held = np.mean([abs(row[-1]) <= half_width(row[:-1], level) for row in draws])
    exact = math.ceil(round((n + 1) * level, 9)) / (n + 1)
    assert level <= exact <= level + 1 / (n + 1)
    assert held == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4_000))


def test_coverage_is_measured_over_all_and_by_group():
    val = predictions(np.arange(1, 20) / 100)
    test = predictions([0.01, -0.18, 0.181, 0.5, -0.05, 0.1], group=np.array(["a", "a", "a", "b", "b", "b"]))
    found = measured(val, test, 0.9)
    assert found.half_width == pytest.approx(0.18) and (found.n_calibration, found.n) == (19, 6)
    assert found.coverage == pytest.approx(4 / 6)
    assert found.by_group == {"a": pytest.approx(2 / 3), "b": pytest.approx(2 / 3)}


def test_padded_steps_and_values_that_are_not_finite_do_not_count():
    mask = np.array([[True, True, False], [True, False, False]])
    test = predictions([[0.1, 0.3, 9], [0.2, 9, 9]], group=np.array(["a", "b"]), mask=mask)
    found = measured(predictions([0.25, np.nan, 0.05, 0.1]), test, 0.75)
    assert (found.half_width, found.n_calibration, found.n) == (pytest.approx(0.25), 3, 3)
    assert found.by_group == {"a": 0.5, "b": 1.0}
