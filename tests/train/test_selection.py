"""The selector against hand-worked series."""

from __future__ import annotations

import math

import pytest

from paceline.train.config import EarlyStoppingConfig, SelectionConfig
from paceline.train.selection import Selector

pytestmark = pytest.mark.fast
SPIKE = [0.5, 0.5, 0.99] + [0.5] * 12


def follow(series: list[float], *, patience: int = 100, **config: object) -> tuple[dict, list]:
    selector = Selector(SelectionConfig(**{"metric": "val_f1_macro", **config}), EarlyStoppingConfig(patience=patience))
    return selector, [selector.observe(v, epoch=e, step=e * 10) for e, v in enumerate(series, start=1)]


@pytest.mark.parametrize(("smoothing", "epoch"), [("none", 3), ("ema", 3), ("median_ema", 1)])
def test_an_isolated_spike_is_chosen_by_the_plain_ema_but_not_by_the_median(smoothing: str, epoch: int) -> None:
    """A69: the documented EMA picks the spike's epoch, the running median before it does not."""
    selector, judged = follow(SPIKE, smoothing=smoothing)
    record = selector.record()
    assert record["epoch"] == epoch
    assert record["raw_best_epoch"] == 3
    if smoothing == "ema":
        assert judged[2].smoothed == pytest.approx(0.549, abs=1e-12)


def test_the_ema_starts_at_the_first_value_and_then_follows_its_recursion() -> None:
    """A64."""
    series = [0.2, 0.9, 0.4, 0.7]
    _, judged = follow(series, smoothing="ema", ema_alpha=0.1)
    expected = [0.2, 0.1 * 0.9 + 0.9 * 0.2]
    expected.append(0.1 * 0.4 + 0.9 * expected[-1])
    expected.append(0.1 * 0.7 + 0.9 * expected[-1])
    assert [j.smoothed for j in judged] == pytest.approx(expected, abs=1e-9)


def test_an_improvement_has_to_exceed_min_delta() -> None:
    """A16: improvement iff the EMA is above the best EMA by more than 5e-4."""
    _, judged = follow([0.5, 0.5005, 0.5006], min_delta=5e-4)
    assert [j.improved for j in judged] == [True, False, True]
    _, relative = follow([100.0, 100.5, 101.5], min_delta=0.01, min_delta_mode="rel")
    assert [j.improved for j in relative] == [True, False, True]


def test_a_constant_metric_stops_after_patience_further_epochs() -> None:
    """A68: stops at epoch 1 + 8."""
    _, judged = follow([0.5] * 12, patience=8, smoothing="ema")
    assert [j.exhausted for j in judged].index(True) + 1 == 9


def test_disabled_early_stopping_never_exhausts() -> None:
    selector = Selector(SelectionConfig(), EarlyStoppingConfig(enabled=False, patience=1))
    assert not any(selector.observe(1.0, e, e).exhausted for e in range(1, 9))


def test_lower_is_better_for_losses_and_errors() -> None:
    selector, judged = follow([1.0, 0.5, 0.7], metric="val_loss")
    assert selector.record()["epoch"] == 2
    assert selector.record()["mode"] == "min"
    assert [j.improved for j in judged] == [True, True, False]


def test_nan_is_never_an_improvement_and_leaves_the_series_alone() -> None:
    selector, judged = follow([0.5, math.nan, 0.6], smoothing="ema", ema_alpha=0.5)
    assert [j.improved for j in judged] == [True, False, True]
    assert judged[2].smoothed == pytest.approx(0.55)
    assert selector.record()["epoch"] == 3


def test_a_metric_that_is_nan_from_the_first_epoch_still_leaves_a_state() -> None:
    """A72: there is a chosen epoch, and the reason says what happened."""
    selector, judged = follow([math.nan, math.nan], patience=1)
    assert judged[0].improved
    assert judged[1].exhausted
    record = selector.record()
    assert record["epoch"] == 1
    assert "never finite" in record["reason"]
    assert record["value"] is None


def test_ties_keep_the_first_epoch_or_move_on_to_the_last() -> None:
    assert follow([0.5, 0.5, 0.5])[0].record()["epoch"] == 1
    assert follow([0.5, 0.5, 0.5], tie="last")[0].record()["epoch"] == 3


def test_a_restored_selector_goes_on_as_if_it_had_never_stopped() -> None:
    whole, judged = follow(SPIKE, smoothing="median_ema", patience=5)
    first, _ = follow(SPIKE[:4], smoothing="median_ema", patience=5)
    second, _ = follow([], smoothing="median_ema", patience=5)
    second.load_state_dict(first.state_dict())
    rest = [second.observe(v, epoch=e, step=e * 10) for e, v in enumerate(SPIKE[4:], start=5)]
    assert rest == judged[4:]
    assert second.record() == whole.record()


def test_the_first_epoch_of_a_drop_is_not_chosen_although_its_smoothed_value_still_rises() -> None:
    selector, judged = follow([0.5, 0.9, 0.95, 0.96, 0.6, 0.6, 0.6], smoothing="median_ema", ema_alpha=0.3)
    assert judged[4].smoothed > judged[3].smoothed, "the series must still rise at the drop"
    assert selector.record()["epoch"] == 4
