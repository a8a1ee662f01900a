from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import scipy.stats

from paceline.evaluate.statistics import corrected_interval, summarise, t_interval

pytestmark = pytest.mark.fast
NAN = math.nan


@pytest.mark.parametrize("n", [2, 3, 5, 30])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_t_interval_equals_scipy(n, confidence):
    values = np.random.default_rng(n).normal(0.9, 0.02, n)
    low, high = scipy.stats.t.interval(confidence, n - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    found = t_interval(list(values), confidence)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert (found.mean, found.std, found.n) == (pytest.approx(values.mean()), pytest.approx(values.std(ddof=1)), n)


def test_a_hand_worked_t_interval():
    # mean 3, s = sqrt(10 / 4) = 1.5811, s / sqrt(5) = 0.7071; t(4) at .975 = 2.7764 (table); half width 1.9632
    found = t_interval([1, 2, 3, 4, 5])
    assert (found.low, found.high) == pytest.approx((3 - 1.9632, 3 + 1.9632), abs=1e-4)
    assert found.method == "t over 5 seeds, one split: variation of training alone, not of the data"


def test_a_hand_worked_corrected_interval():
    # Five folds of 20 with 80 to train on. Mean .80; squared deviations .0004 .0001 0 .0001 .0004 sum to .001;
    # s^2 = .001 / 4 = .00025; times (1/5 + 20/80) = .45 is .0001125, its root .0106066;
    # t(4) at .975 = 2.776445; half width .0294487. Without the correction it would be .0196324.
    found = corrected_interval([0.78, 0.79, 0.80, 0.81, 0.82], n_train=80, n_test=20)
    assert (found.low, found.high) == pytest.approx((0.80 - 0.0294487, 0.80 + 0.0294487), abs=1e-7)
    assert found.std == pytest.approx(math.sqrt(0.00025)) and found.n == 5
    assert "Nadeau" in found.method and "5 folds" in found.method


def test_seeds_are_averaged_within_a_fold_first():
    once = corrected_interval([0.7, 0.8, 0.9], n_train=60, n_test=30)
    found = corrected_interval([[0.6, 0.8], [0.7, 0.9], [0.9, 0.9]], n_train=60, n_test=30)
    assert (found.mean, found.low, found.high, found.n) == (
        pytest.approx(once.mean),
        pytest.approx(once.low),
        pytest.approx(once.high),
        3,
    )
    assert "each the mean over 2 seeds" in found.method


def test_more_seeds_do_not_pretend_to_be_more_data():
    scores = [(0.7, 0), (0.8, 1), (0.9, 2)]
    few = summarise([(1, fold, value) for value, fold in scores], 60, 30)
    many = summarise([(seed, fold, value) for seed in range(50) for value, fold in scores], 60, 30)
    assert (many.low, many.high) == pytest.approx((few.low, few.high))


def test_the_corrected_interval_covers_where_the_plain_one_does_not():
    # Fold errors that share most of their training data: correlation rho = n_test / (n_train + n_test), the assumption
    # of the correction. The plain t interval is then too narrow.
    rng, k, repeats = np.random.default_rng(0), 5, 4000
    rho = 1 / k
    folds = math.sqrt(rho) * rng.normal(size=(repeats, 1)) + math.sqrt(1 - rho) * rng.normal(size=(repeats, k))
    corrected = np.mean([_covers(corrected_interval(list(row), 80, 20), 0) for row in folds])
    plain = np.mean([_covers(t_interval(list(row)), 0) for row in folds])
    assert abs(corrected - 0.95) < 0.02
    assert plain < 0.90


def test_summarise_takes_t_over_seeds_on_one_split():
    scores = [(42, None, 0.9), (43, None, 0.92), (44, None, 0.91)]
    assert summarise(scores) == t_interval([0.9, 0.92, 0.91])
    assert summarise([(seed, 3, value) for seed, _, value in scores]) == t_interval([0.9, 0.92, 0.91])


def test_summarise_takes_the_corrected_interval_over_folds_in_any_order():
    scores = [(2, 1, 0.9), (1, 0, 0.6), (2, 0, 0.8), (1, 1, 0.7)]
    assert summarise(scores, 60, 30) == corrected_interval([[0.6, 0.8], [0.7, 0.9]], 60, 30)


def test_redrawn_splits_count_every_training_with_the_correction():
    values = [0.7, 0.8, 0.9, 0.8]
    once = corrected_interval(values, 60, 30)
    for scores in (
        [(seed, None, v) for seed, v in enumerate(values)],
        [(s // 2, s % 2, v) for s, v in enumerate(values)],
    ):
        found = summarise(scores, 60, 30, redrawn=True)
        assert (found.low, found.high, found.n) == (pytest.approx(once.low), pytest.approx(once.high), 4)
        assert "redrawn" in found.method


def test_one_member_has_no_interval():
    found = summarise([(42, None, 0.9)])
    assert (found.mean, found.std, found.low, found.high, found.n) == (0.9, None, None, None, 1)
    assert found.method == "one member: no interval"
    assert corrected_interval([[0.8, 0.9]], 60, 30).method == "one fold: no interval"


def test_values_that_are_not_finite_are_left_out_and_said():
    found = t_interval([0.9, NAN, 0.92, math.inf])
    kept = t_interval([0.9, 0.92])
    assert (found.mean, found.low, found.high, found.n) == (kept.mean, kept.low, kept.high, 2)
    assert found.method == kept.method + "; 2 of 4 values not finite, left out"
    folds = summarise([(1, 0, 0.7), (2, 0, NAN), (1, 1, 0.8), (2, 1, 0.8), (1, 2, NAN), (2, 2, NAN)], 60, 30)
    assert (folds.n, folds.mean) == (2, pytest.approx(0.75))
    assert "3 of 6 values not finite" in folds.method


def test_no_finite_value_gives_an_interval_of_nothing_that_json_can_hold():
    found = summarise([(1, None, NAN), (2, None, NAN)])
    assert found.mean is None and found.n == 0 and found.method == "no value; 2 of 2 values not finite, left out"
    json.dumps(asdict(found), allow_nan=False)
    assert summarise([]).method == "no value"


def test_a_member_counted_twice_is_a_bug():
    with pytest.raises(AssertionError, match="twice"):
        summarise([(42, None, 0.9), (42, None, 0.9)])


def _covers(interval, value):
    return interval.low <= value <= interval.high
