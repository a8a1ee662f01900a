from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats

from paceline.evaluate.paired import difference, holm, mcnemar, sign_flip_test

pytestmark = pytest.mark.fast
RNG = np.random.default_rng(0)


def seeds(values, first=42):
    return [(first + i, None, float(value)) for i, value in enumerate(values)]


@pytest.mark.parametrize("n", [2, 3, 5, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_shared_seeds_give_the_paired_t_test_of_scipy(n, confidence):
    a, b = RNG.normal(0.9, 0.02, n), RNG.normal(0.91, 0.03, n)
    expected = scipy.stats.ttest_rel(b, a)
    found = difference(seeds(a), seeds(b), confidence=confidence)
    low, high = expected.confidence_interval(confidence)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert found.mean == pytest.approx((b - a).mean()) and found.effect == pytest.approx(
        (b - a).mean() / (b - a).std(ddof=1)
    )
    assert found.paired and found.n == n and found.values == pytest.approx(tuple(b - a))


def test_members_are_paired_by_seed_in_any_order():
    a, b = seeds([0.1, 0.5, 0.9]), seeds([0.2, 0.61, 1.0])
    assert difference(a, b[::-1]) == difference(a[::-1], b)
    assert difference(a, b).values == pytest.approx((0.1, 0.11, 0.1))


@pytest.mark.parametrize(("n_a", "n_b"), [(2, 2), (5, 8), (30, 4)])
def test_other_seeds_give_welchs_t_test_of_scipy(n_a, n_b):
    a, b = RNG.normal(0.9, 0.01, n_a), RNG.normal(0.92, 0.05, n_b)
    expected = scipy.stats.ttest_ind(b, a, equal_var=False)
    found = difference(seeds(a), seeds(b, first=1000))
    low, high = expected.confidence_interval(0.95)
    assert not found.paired and "Welch" in found.method
    assert (found.p, found.low, found.high) == pytest.approx((expected.pvalue, low, high), rel=1e-9)
    assert (found.n_a, found.n_b) == (n_a, n_b)


def test_seeds_of_one_side_among_those_of_the_other_are_paired_and_the_rest_is_named():
    a, b = RNG.normal(size=5), RNG.normal(size=8)
    found = difference(seeds(a), seeds(b))
    assert found.p == pytest.approx(scipy.stats.ttest_rel(b[:5], a).pvalue)
    assert found.method.endswith("; 3 without a partner left out")


def test_seeds_that_overlap_only_partly_are_not_paired():
    found = difference(seeds([0.1, 0.2, 0.3], first=1), seeds([0.2, 0.3, 0.5], first=3))
    assert not found.paired


def test_a_hand_worked_corrected_test():
    # Five folds of 20 with 80 to train on; differences .01 .02 .03 .02 .02: mean .02, squared deviations sum to .0002,
    # s^2 = .00005; times (1/5 + 20/80) = .45 is .0000225, its root .00474342; t = 4.21637 with 4 degrees of freedom.
    a = [(42, k, 0.8) for k in range(5)]
    b = [(42, k, 0.8 + d) for k, d in enumerate((0.01, 0.02, 0.03, 0.02, 0.02))]
    found = difference(a, b, 80, 20)
    assert found.mean / 0.00474342 == pytest.approx(4.21637, abs=1e-4)
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(4.21637, 4), rel=1e-4)
    assert (found.low, found.high) == pytest.approx(
        (0.02 - 2.776445 * 0.00474342, 0.02 + 2.776445 * 0.00474342), abs=1e-6
    )
    assert found.method.startswith("corrected resampled t over 5 folds")
    assert found.p > scipy.stats.ttest_1samp([0.01, 0.02, 0.03, 0.02, 0.02], 0).pvalue


def test_folds_are_paired_after_averaging_over_whatever_seeds_there_are():
    rng = np.random.default_rng(3)
    a = [(seed, k, rng.normal()) for seed in range(3) for k in range(4)]
    b = [(100 + seed, k, rng.normal()) for seed in range(2) for k in range(4)]
    means = [[np.mean([v for _, k, v in side if k == fold]) for fold in range(4)] for side in (a, b)]
    once = difference([(0, k, v) for k, v in enumerate(means[0])], [(0, k, v) for k, v in enumerate(means[1])], 30, 10)
    found = difference(a, b, 30, 10)
    assert (found.p, found.n) == (pytest.approx(once.p), 4)
    assert found.paired


def test_redrawn_folds_count_every_training_with_the_correction():
    rng = np.random.default_rng(4)
    a = [(seed, k, rng.normal()) for seed in range(3) for k in range(4)]
    b = [(seed, k, value + rng.normal(0.2, 0.1)) for seed, k, value in a]
    d = np.array([y - x for (*_, x), (*_, y) in zip(a, b, strict=True)])
    error = d.std(ddof=1) * math.sqrt(1 / 12 + 10 / 30)
    found = difference(a, b, 30, 10, redrawn=True)
    assert (found.n, found.p) == (12, pytest.approx(2 * scipy.stats.t.sf(abs(d.mean() / error), 11)))
    other = [(seed + 9, k, value) for seed, k, value in b]
    unpaired = difference(a, other, 30, 10, redrawn=True)
    assert not unpaired.paired and "corrected Welch" in unpaired.method
    variances = [np.var([v for *_, v in side], ddof=1) * (1 / 12 + 10 / 30) for side in (a, b)]
    assert (unpaired.high - unpaired.low) / 2 == pytest.approx(scipy.stats.t.ppf(0.975, 11 * sum(variances) ** 2 / sum(
        v**2 for v in variances)) * math.sqrt(sum(variances)))  # fmt: skip


def test_one_test_set_for_all_folds_takes_no_correction_and_says_what_it_does_not_cover():
    a = [(42, k, v) for k, v in enumerate((0.8, 0.82, 0.81))]
    b = [(42, k, v) for k, v in enumerate((0.83, 0.84, 0.86))]
    found = difference(a, b, fixed_part=True)
    assert found.p == pytest.approx(scipy.stats.ttest_rel([0.83, 0.84, 0.86], [0.8, 0.82, 0.81]).pvalue)
    assert "not of the test set" in found.method


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_leaves_with_its_partner(value):
    a, b = [0.1, 0.2, 0.3, 0.5], [0.2, value, 0.4, 0.9]
    found = difference(seeds(a), seeds(b))
    assert found.p == pytest.approx(scipy.stats.ttest_rel([0.2, 0.4, 0.9], [0.1, 0.3, 0.5]).pvalue)
    assert difference(seeds([math.nan]), seeds([1.0])).mean is None


def test_one_member_has_no_interval_and_no_p():
    found = difference(seeds([0.8]), seeds([0.9]))
    assert (found.mean, found.low, found.p) == (pytest.approx(0.1), None, None)
    mixed = difference(seeds([0.8]), seeds([0.9, 0.95], first=7))
    assert (mixed.low, mixed.p, mixed.method) == (None, None, "one member on a side: no interval")


@pytest.mark.parametrize("shift", [0.0, 0.25])
@pytest.mark.parametrize("first", [42, 1000])
def test_a_difference_that_never_varies_is_not_tested(shift, first):
    found = difference(seeds([0.5, 0.5, 0.5]), seeds([0.5 + shift] * 3, first=first))
    assert (found.mean, found.std, found.p, found.low) == (shift, 0.0, None, None)
    assert "never varies" in found.method


def test_the_interval_of_cohens_d_inverts_the_noncentral_t():
    d = np.array([0.3, 0.1, 0.4, 0.2, 0.35, 0.15])
    found = difference(seeds([0.0] * 6), seeds(d))
    t = scipy.stats.ttest_1samp(d, 0).statistic
    for edge, tail in ((found.effect_low, 0.025), (found.effect_high, 0.975)):
        assert scipy.stats.nct.sf(t, 5, edge * math.sqrt(6)) == pytest.approx(tail, abs=1e-6)
    folds = difference([(1, k, 0.0) for k in range(6)], [(1, k, v) for k, v in enumerate(d)], 50, 10)
    assert folds.effect is not None and folds.effect_low is None


def test_what_is_detectable_is_detected_four_times_in_five():
    rng = np.random.default_rng(1)
    found = difference(seeds(np.zeros(20)), seeds(rng.normal(size=20)))
    ncp = found.detectable / (found.std / math.sqrt(20))
    power = scipy.stats.nct.sf(scipy.stats.t.ppf(0.975, 19), 19, ncp)
    assert power == pytest.approx(0.80, abs=0.01)


@pytest.mark.parametrize("n", [2, 3, 6, 9, 12])
def test_all_sign_flips_equal_scipys_exact_permutation_test(n):
    d = np.random.default_rng(n).normal(0.4, 1, n)
    found = sign_flip_test(d)
    expected = scipy.stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert found.p == pytest.approx(expected.pvalue)
    assert found.exact and found.smallest == 2 / 2**n


def test_sign_flips_by_hand():
    # Of the eight flips of (1, 2, 4) only +++ and --- are as far from 0 as 7.
    assert sign_flip_test([1, 2, 4]).p == 2 / 8
    # Of (1, 1, -1): |sum| is 1 or 3, always at least the observed 1.
    assert sign_flip_test([1, 1, -1]).p == 1
    flips = [
        sum(s * x for s, x in zip(signs, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True))
        for signs in product((1, -1), repeat=5)
    ]
    assert sign_flip_test([0.1, 0.2, 0.3, 0.4, -0.5]).p == sum(abs(f) > 0.499999 for f in flips) / 32


def test_fewer_than_six_pairs_cannot_reach_five_percent():
    assert [sign_flip_test(np.arange(1, n + 1)).smallest < 0.05 for n in (4, 5, 6)] == [False, False, True]
    assert sign_flip_test([1, 2, 3, 4, 5]).p == sign_flip_test([1, 2, 3, 4, 5]).smallest == 0.0625


def test_many_pairs_take_seeded_random_flips_near_scipys():
    d = np.random.default_rng(5).normal(0.35, 1, 30)
    found = sign_flip_test(d)
    assert found == sign_flip_test(d) and found != sign_flip_test(d, seed=1)
    expected = scipy.stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(0), vectorized=True
    )
    assert found.p == pytest.approx(expected.pvalue, abs=0.01)
    assert not found.exact and sign_flip_test(np.ones(30)).p == pytest.approx(1 / 20_001)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 3), (4, 13), (0, 9), (25, 1)])
def test_mcnemar_equals_the_binomial_test(only_a, only_b):
    right_a = np.array([True] * 10 + [True] * only_a + [False] * only_b + [False] * 3)
    right_b = np.array([True] * 10 + [False] * only_a + [True] * only_b + [False] * 3)
    found = mcnemar(right_a, right_b)
    expected = scipy.stats.binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert found.p == pytest.approx(expected)
    assert (found.only_a, found.only_b) == (only_a, only_b)


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, made monotone: .04 .06 .06 .06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.02, None, 0.5]) == [0.04, None, 0.5]
    assert holm([]) == []
