"""What is fitted after training is kept only where it helps on samples that it was not fitted on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss

from paceline.evaluate.calibration import expected_calibration_error, fit_temperature, tempered
from paceline.evaluate.decisions import (
    CALIBRATED,
    TUNED,
    Decision,
    Fit,
    decided,
    decision_metrics,
    fit_decision,
)
from paceline.evaluate.predictions import Predictions, metrics_of
from paceline.evaluate.thresholds import tune_weights, weighted

pytestmark = pytest.mark.fast

SHARES = [0.77, 0.15, 0.08]


def member(n: int, seed: int, *, factor: float = 1.0, bias: float = 0.0, group=None) -> Predictions:
    """Nearly calibrated probabilities of three classes, made `factor` times too sure and biased to the frequent one."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=SHARES)
    z = 1.5 * (rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[y]) + np.log(SHARES)
    z = factor * (z + np.array([bias, 0, 0]))
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
    return Predictions(index=rng.permutation(n), y=y, prediction=p.argmax(1), probability=p, group=group)


def fit(val: Predictions, metric: str = "f1_macro", *, temperature: bool = True, thresholds: bool = True) -> Decision:
    return fit_decision(val, temperature=temperature, thresholds=thresholds, metric=metric)


def test_what_helps_is_kept_and_holds_on_other_samples() -> None:
    val, test = member(300, 1, factor=2.0, bias=1.5), member(4000, 2, factor=2.0, bias=1.5)
    decision = fit(val)
    assert decision.temperature.kept and decision.thresholds.kept
    assert decision.temperature.values == (fit_temperature(val.probability, val.y),)
    weights = tune_weights(tempered(val.probability, decision.temperature.values[0]), val.y, "f1_macro")
    assert decision.thresholds.values == tuple(weights)
    after = decided(decision, test, "test")
    raw, found = metrics_of(test), decision_metrics(test, after)
    assert found["log_loss_calibrated"] < raw["log_loss"] - 0.02
    assert found["ece_calibrated"] < found["ece"]
    assert found["f1_macro_tuned"] > raw["f1_macro"] + 0.05
    q = tempered(test.probability, decision.temperature.values[0])
    assert found["log_loss_calibrated"] == pytest.approx(log_loss(test.y, q))
    expected = f1_score(test.y, weighted(q, weights).argmax(axis=1), average="macro")
    assert found["f1_macro_tuned"] == pytest.approx(expected)
    assert found["ece_calibrated"] == pytest.approx(expected_calibration_error(q, test.y))


def test_what_does_not_help_stays_at_1_and_changes_nothing() -> None:
    test = member(500, 9)
    kept = [fit(member(100, seed)) for seed in range(12)]
    assert sum(each.temperature.kept for each in kept) <= 2
    assert sum(each.thresholds.kept for each in kept) <= 4
    plain = next(each for each in kept if not each.temperature.kept and not each.thresholds.kept)
    assert plain.temperature.values == (1.0,) and plain.thresholds.values == (1.0, 1.0, 1.0)
    assert plain.temperature.reason.startswith("left at 1: log_loss ")
    for part in ("val", "test"):
        after = decided(plain, test, part)
        assert np.array_equal(after[CALIBRATED].probability, test.probability)
        assert np.array_equal(after[TUNED].prediction, test.prediction)


def test_the_gain_must_exceed_its_jackknife_error() -> None:
    val = member(120, 3, factor=1.5)
    found = fit(val, thresholds=False).temperature
    after = fit_after(val)
    losses = [-np.log(np.maximum(p[np.arange(120), val.y], 1e-38)) for p in (val.probability, after)]
    difference = losses[0] - losses[1]
    # The jackknife's error of a mean is the usual one.
    error = difference.std(ddof=1) / np.sqrt(120)
    assert found.kept == (difference.mean() > error)
    assert (found.before, found.after) == pytest.approx((losses[0].mean(), losses[1].mean()))
    assert f"gain {difference.mean():.2g}, standard error {error:.2g}" in found.reason


def fit_after(val: Predictions) -> np.ndarray:
    """Cross-fitted by hand: dealt by class, five parts, each at the temperature of the other four."""
    part = np.empty(len(val.y), dtype=int)
    part[np.argsort(val.y, kind="stable")] = np.arange(len(val.y)) % 5
    after = np.empty(val.probability.shape)
    for k in range(5):
        t = fit_temperature(val.probability[part != k], val.y[part != k])
        after[part == k] = tempered(val.probability[part == k], t)
    return after


def test_figures_on_validation_are_of_samples_that_the_decision_was_fitted_without() -> None:
    val = member(300, 1, factor=2.0)
    decision = fit(val, thresholds=False)
    after = decided(decision, val, "val")[CALIBRATED]
    np.testing.assert_allclose(after.probability, fit_after(val), rtol=1e-12)
    assert decision_metrics(val, {CALIBRATED: after})["log_loss_calibrated"] == pytest.approx(
        decision.temperature.after
    )
    flattering = log_loss(val.y, decision.calibrated(val.probability))
    assert decision.temperature.after > flattering
    assert np.array_equal(after.index, val.index) and np.array_equal(after.y, val.y)


@pytest.mark.parametrize(("n", "group"), [(19, None), (60, np.arange(60) % 4)])
def test_few_samples_or_groups_are_too_few(n: int, group: np.ndarray | None) -> None:
    decision = fit(member(n, 1, factor=3.0, bias=2.0, group=group))
    for found in (decision.temperature, decision.thresholds):
        assert not found.kept and found.before is None and set(found.values) == {1.0}
        assert "too few" in found.reason
    assert decision.n == n


def test_groups_are_never_divided() -> None:
    group = np.repeat(np.arange(10), 12)
    val = member(120, 1, factor=2.0, group=group)
    decision = fit(val, thresholds=False)
    assert decision.temperature.kept
    after = decided(decision, val, "val")[CALIBRATED].probability
    # Groups are dealt by the class of their first sample: two to each of the five parts.
    part = np.empty(10, dtype=int)
    part[np.argsort(val.y[::12], kind="stable")] = np.arange(10) % 5
    for k in range(5):
        held = part[group] == k
        t = fit_temperature(val.probability[~held], val.y[~held])
        np.testing.assert_allclose(after[held], tempered(val.probability[held], t))


def test_probabilities_that_are_not_finite_are_left_alone() -> None:
    val = member(40, 1)
    val.probability[3] = np.nan
    assert fit(val).temperature.reason == "left at 1: the probabilities are not finite"


def test_only_what_is_asked_for_is_fitted_and_measured() -> None:
    val = member(100, 1, factor=2.0)
    one, other = fit(val, thresholds=False), fit(val, temperature=False)
    assert one.thresholds is None and other.temperature is None
    assert set(decision_metrics(val, decided(one, val, "val"))) == {"ece", "ece_calibrated", "log_loss_calibrated"}
    names = set(decision_metrics(val, decided(other, val, "val")))
    assert names == {"accuracy_tuned", "f1_macro_tuned", "recall_macro_tuned"}


def test_a_decision_is_the_same_after_json() -> None:
    decision = fit(member(100, 1, factor=2.0, bias=1.0))
    text = json.dumps(decision.to_dict(), allow_nan=False)
    assert Decision.from_dict(json.loads(text)) == decision
    assert json.loads(text)["fitted_on"] == "val"


def test_thresholds_apply_to_calibrated_probabilities() -> None:
    fits = {"temperature": Fit(values=(2.0,), metric="log_loss", kept=True),
            "thresholds": Fit(values=(0.5, 2.0), metric="f1_macro", kept=True)}  # fmt: skip
    # p^(1/2) is .9487 and .3162, that is .75 and .25; times .5 and 2 it is .375 and .5.
    found = Decision(n=50, **fits).weighted(np.array([[0.9, 0.1]]))
    np.testing.assert_allclose(found, [[0.375 / 0.875, 0.5 / 0.875]])
