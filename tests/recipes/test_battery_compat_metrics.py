"""`compute_metrics`, `print_metrics` and `evaluate_by_group` of the battery group's guide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from paceline.errors import DataError
from paceline.recipes.battery.compat import Sample, compute_metrics, evaluate_by_group, print_metrics

pytestmark = pytest.mark.fast

TRUE, PREDICTED = np.array([0.95, 0.90, 0.85]), np.array([0.94, 0.91, 0.86])


def test_the_metrics_are_those_of_scikit_learn():
    """C46."""
    rng = np.random.default_rng(0)
    y, found = rng.uniform(0.6, 1, 50), rng.uniform(0.6, 1, 50)
    assert compute_metrics(y, found) == pytest.approx({
        "rmse": sklearn_metrics.root_mean_squared_error(y, found),
        "mae": sklearn_metrics.mean_absolute_error(y, found),
        "mape": 100 * sklearn_metrics.mean_absolute_percentage_error(y, found),
        "r2": sklearn_metrics.r2_score(y, found),
        "max_ae": sklearn_metrics.max_error(y, found),
    })  # fmt: skip


def test_three_cells_by_hand():
    """C47: errors of .01 each; the mean of 1/95, 1/90 and 1/85 is 1.1132 %; 1 - .0003 / .005 is .94."""
    found = compute_metrics(TRUE, PREDICTED)
    assert found["rmse"] == pytest.approx(0.01)
    assert found["mae"] == pytest.approx(0.01)
    assert found["mape"] == pytest.approx((100 / 95 + 100 / 90 + 100 / 85) / 3)
    assert round(found["mape"], 2) == 1.11
    assert found["r2"] == pytest.approx(0.94)


def test_they_are_printed_as_the_guide_shows(capsys):
    """C48."""
    print_metrics(compute_metrics(TRUE, PREDICTED))
    assert capsys.readouterr().out == "RMSE: 0.0100\nMAE:  0.0100\nMAPE: 1.11%\nR²:   0.9400\n"


def test_constant_targets_and_zeros_have_metrics():
    """C49."""
    assert compute_metrics([0.9, 0.9], [0.9, 0.9])["r2"] == 1.0
    assert compute_metrics([0.9, 0.9], [0.8, 1.0])["r2"] == 0.0
    with_zero = compute_metrics([0.0, 0.5], [0.1, 0.5])
    assert np.isfinite(with_zero["mape"])
    assert compute_metrics(np.ones((3, 1)), torch.ones(3))["rmse"] == 0.0


@pytest.mark.parametrize(
    ("true", "predicted", "said"),
    [
        ([1.0, 2.0], [1.0], "different shapes"),
        ([1.0, np.nan], [1.0, 2.0], "where: y_true\ngot: row 1"),
        ([1.0, 2.0], [np.inf, 2.0], "where: y_pred\ngot: row 0"),
        ([], [], "need numbers"),
        (["a"], ["b"], "need numbers"),
    ],
)
def test_what_has_no_metrics_is_an_error(true, predicted, said):
    """C49: another shape, values that are not finite, nothing at all."""
    with pytest.raises(DataError, match=said):
        compute_metrics(true, predicted)


def test_groups_have_the_metrics_of_their_samples_alone():
    """C51: 25 and 25.0 are one group, in the order of the numbers."""
    temperatures = [25, 10, 25.0, 10, 40]
    samples = [Sample(x=[1.0], y=[y], meta={"temperature_C": c, "cell": "AB"[i % 2]})
               for i, (y, c) in enumerate(zip([1.0, 0.9, 0.8, 0.7, 0.6], temperatures, strict=True))]  # fmt: skip
    predictions = np.array([0.9, 0.9, 0.9, 0.8, 0.65])
    found = evaluate_by_group(samples, predictions, "temperature_C")
    assert list(found) == ["10", "25", "40"]
    assert found["25"] == compute_metrics([1.0, 0.8], [0.9, 0.9])
    assert found["10"] == compute_metrics([0.9, 0.7], [0.9, 0.8])
    assert list(evaluate_by_group(samples, predictions, "cell")) == ["A", "B"]
    with pytest.raises(DataError, match="no humidity"):
        evaluate_by_group(samples, predictions, "humidity")
    with pytest.raises(DataError, match="one prediction per sample"):
        evaluate_by_group(samples, predictions[:3], "cell")


def test_padding_of_sequences_is_left_out_of_a_group():
    samples = [Sample(x=np.ones((n, 1)), y=np.arange(n) / 10, meta={"cell": "A"}) for n in (2, 3)]
    predictions = np.array([[0.0, 0.2, np.nan], [0.0, 0.1, 0.2]])
    assert evaluate_by_group(samples, predictions, "cell")["A"]["max_ae"] == pytest.approx(0.1)
