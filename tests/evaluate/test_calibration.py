"""Reliability, calibration error and temperature against scikit-learn, SciPy and worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from paceline.evaluate.calibration import expected_calibration_error, fit_temperature, reliability, tempered

pytestmark = pytest.mark.fast


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def sharpened(n: int = 3000, classes: int = 4, factor: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of logits that are `factor` times too large, and labels drawn by the true probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, classes))
    y = (softmax(logits).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return softmax(factor * logits), y


def test_a_table_worked_by_hand() -> None:
    # Confidences .9 (right), .8 (wrong), .6 (right), .55 (right): two bins of width, 0 to .5 and .5 to 1.
    probability = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.45, 0.55]])
    y = np.array([0, 0, 0, 1])
    table = reliability(probability, y, 4)
    assert table.count.tolist() == [0, 0, 2, 2]
    np.testing.assert_allclose(table.low, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(table.high, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(table.confidence[2:], [0.575, 0.85])
    np.testing.assert_allclose(table.accuracy[2:], [1.0, 0.5])
    assert np.isnan(table.accuracy[:2]).all() and np.isnan(table.confidence[:2]).all()
    # (2 * |1 - .575| + 2 * |.5 - .85|) / 4
    assert expected_calibration_error(probability, y, 4) == pytest.approx(0.3875)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    table = reliability(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]), 2)
    assert table.count.tolist() == [1, 1]


@pytest.mark.parametrize(("bins", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_the_table_is_scikit_learns_curve_of_the_predicted_class(bins: str, strategy: str) -> None:
    probability, y = sharpened(400)
    table = reliability(probability, y, 10, bins)
    right, sure = calibration_curve(probability.argmax(1) == y, probability.max(1), n_bins=10, strategy=strategy)
    held = table.count > 0
    np.testing.assert_allclose(table.accuracy[held], right)
    np.testing.assert_allclose(table.confidence[held], sure)
    assert table.count.sum() == 400
    if bins == "mass":
        assert table.count.min() >= 39


def test_the_error_is_0_for_perfect_and_large_for_certain_and_wrong_predictions() -> None:
    certain = np.eye(3)[[0, 1, 2, 0]]
    assert expected_calibration_error(certain, np.array([0, 1, 2, 0])) == 0
    assert expected_calibration_error(certain, np.array([1, 2, 0, 1])) == 1


def test_tempering_probabilities_is_dividing_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 5))
    np.testing.assert_allclose(tempered(softmax(logits), 2.5), softmax(logits / 2.5), rtol=1e-12)
    single = softmax(logits).astype(np.float32)
    np.testing.assert_allclose(tempered(single, 2.5), softmax(logits / 2.5), rtol=1e-5)
    assert (tempered(single, 0.3).argmax(1) == logits.argmax(1)).all()
    assert np.array_equal(tempered(single, 1.0), single)  # bit for bit


def test_a_probability_of_0_stays_finite() -> None:
    found = tempered(np.array([[1.0, 0.0, 0.0]], dtype=np.float32), 3.0)
    assert np.isfinite(found).all() and found.argmax() == 0 and found[0, 1] > 0


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 3.0])
def test_the_temperature_is_scipys_minimum_of_scikit_learns_log_loss(factor: float) -> None:
    """The one added sample moves it by less than the labels of 3,000 samples do."""
    probability, y = sharpened(factor=factor)
    found = fit_temperature(probability, y)
    plain = minimize_scalar(lambda t: log_loss(y, tempered(probability, t)), bounds=(0.1, 10), method="bounded")
    assert found == pytest.approx(plain.x, rel=5e-3)
    assert found == pytest.approx(factor, rel=0.1)
    assert log_loss(y, tempered(probability, found)) <= log_loss(y, probability) + 1e-6


def test_the_temperature_minimises_the_smoothed_log_loss_exactly() -> None:
    probability, y = sharpened(40)
    smooth = 1 / 41

    def loss(t: float) -> float:
        logs = np.log(tempered(probability, t))
        return -((1 - smooth) * logs[np.arange(40), y].mean() + smooth * logs.mean())

    assert fit_temperature(probability, y) == pytest.approx(
        minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-9}).x, rel=1e-6
    )


def test_no_error_among_few_samples_gives_no_endless_confidence() -> None:
    probability = np.full((20, 3), 0.1) + 0.7 * np.eye(3)[np.arange(20) % 3]
    found = fit_temperature(probability, np.arange(20) % 3)
    assert 0.3 < found < 1  # the plain log-loss would take the bound, 0.05
    assert tempered(probability, found).max() < 0.99


def test_temperatures_stay_within_bounds() -> None:
    y = np.arange(3000) % 3
    noise = softmax(np.random.default_rng(0).normal(0, 30, (3000, 3)))
    assert fit_temperature(noise, y) == 20
    even = softmax(1e-3 * np.eye(3)[y])
    assert fit_temperature(even, y) == 0.05
