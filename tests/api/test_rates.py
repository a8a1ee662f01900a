"""`lr_find`: the range test against curves whose steepest point is known, and on real members."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import paceline
from paceline.errors import ConfigError
from paceline.train.range_test import rising, smoothed, steepest
from tests.contracts.tiny import USE

FEW = ["training.batch_size=12", "model.dropout=0.0"]


@pytest.mark.fast
def test_rates_rise_by_a_constant_factor():
    rates = rising(1e-5, 10.0, 7)
    assert rates == pytest.approx([10.0**k for k in range(-5, 2)])


@pytest.mark.fast
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_steepest_descent_of_a_known_curve_is_found(noise):
    """A logistic fall in the logarithm of the rate is steepest at its middle, here 1e-3."""
    rates = rising(1e-7, 1e-1, 200)
    x = np.log10(rates)
    losses = 2 - 1 / (1 + np.exp(-3 * (x + 3))) + noise * np.random.default_rng(0).normal(size=200)
    losses[-20:] = [*np.linspace(1.1, 5, 19), math.inf]  # and breaks off
    found = steepest(rates, smoothed(losses, 200))
    assert abs(math.log10(found) + 3) < 0.15


@pytest.mark.fast
def test_losses_that_fall_nowhere_have_no_steepest_descent():
    rates = rising(1e-7, 1e-1, 50)
    assert steepest(rates, smoothed([1.0] * 50, 50)) is None
    assert steepest(rates, smoothed(np.linspace(1, 2, 50), 50)) is None


@pytest.mark.fast
def test_smoothing_does_not_lag():
    line = [100.0 + i for i in range(100)]
    assert smoothed(line, 100)[20:80] == pytest.approx(line[20:80], abs=1e-9)


def test_a_found_rate_trains_better_than_a_tenth_and_ten_times_of_it(tmp_path, monkeypatch):
    """C81: on a copy: nothing is written, and equal calls find the same."""
    monkeypatch.chdir(tmp_path)
    found = paceline.lr_find("blobs", [*FEW, "members.seeds=2"], use=[USE])
    assert list(tmp_path.iterdir()) == []
    assert [test.member for test in found.tests] == ["seed42", "seed43"]
    own = [test.suggestion for test in found.tests]
    assert found.suggestion == pytest.approx(math.sqrt(own[0] * own[1]))
    assert all(test.broke_off is not None for test in found.tests)
    assert paceline.lr_find("blobs", [*FEW, "members.seeds=2"], use=[USE]) == found

    def trained(factor: float) -> float:
        rate = f"training.learning_rate={factor * found.suggestion}"
        run = paceline.train("blobs", [*FEW, rate, "training.num_epochs=4"], use=[USE], name=f"x{factor:g}")
        return run.history()["train_loss"][-1]

    middle = trained(1.0)
    assert middle < trained(0.01)
    assert middle < trained(30.0)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lowest": 1.0, "highest": 0.1}, "do not rise"),
        ({"lowest": 0.0}, "do not rise"),
        ({"highest": math.inf}, "do not rise"),
        ({"steps": 3}, "too few steps"),
        ({"out": "a.jpg"}, "PNG"),
        ({"out": "no/a.png"}, "folder does not exist"),
    ],
)
def test_a_test_that_cannot_be_made_is_refused_before_any_data_is_loaded(options: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        paceline.lr_find("nothing of that name", **options)
