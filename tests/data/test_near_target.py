"""Which features are nearly the target itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from paceline.data.audit import audit
from paceline.data.config import SplitConfig
from paceline.data.dataset import dataset
from paceline.data.near_target import rank_correlations
from paceline.data.split import make_splits

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(0)
GROUP = np.repeat(["a", "b", "c"], [30, 40, 50])
Y = RNG.normal(size=120)
X = np.stack([Y**3, -np.exp(Y) + 0.01 * RNG.normal(size=120), RNG.normal(size=120), np.ones(120)], axis=1)
NAMES = ["cube", "noisy", "other", "constant"]


def check_of(data, **split):
    checks = audit(data, make_splits(data, SplitConfig(**split))[0])
    return next((check for check in checks if check.name == "no feature is nearly the target itself"), None)


def test_correlations_are_those_of_scipy_within_groups_weighted_by_rows():
    data = dataset(x=X, y=Y, group=GROUP)
    found = rank_correlations(data, np.arange(120))
    own = {g: g == GROUP for g in "abc"}
    for feature in range(3):
        expected = sum(
            rows.sum() * abs(spearmanr(data.columns["x"][rows, feature], Y[rows])[0]) for rows in own.values()
        )
        assert found[feature] == pytest.approx(expected / 120, abs=1e-12)
    assert found[0] == pytest.approx(1.0) and found[3] == 0.0


def test_a_feature_that_orders_the_samples_as_the_target_does_is_named():
    check = check_of(dataset(x=X, y=Y, group=GROUP, channels=NAMES), rule="random")
    assert not check.ok and check.detail.startswith("cube 1.000, noisy 0.9") and "within groups" in check.detail
    other = check_of(dataset(x=X[:, 2:], y=Y, group=GROUP, channels=NAMES[2:]), rule="random")
    assert other.ok and other.detail.endswith(tuple("0123456789"))


def test_what_is_near_the_target_only_between_groups_is_not_named():
    """A feature that tells the group, and the group the level of the target, says nothing within one."""
    level = np.repeat([0.0, 10.0, 20.0], [30, 40, 50])
    x = np.stack([level + RNG.normal(size=120), RNG.normal(size=120)], axis=1)
    assert abs(spearmanr(x[:, 0], level + Y)[0]) > 0.8
    assert check_of(dataset(x=x, y=level + Y, group=GROUP), rule="random").ok


def test_the_test_part_is_not_looked_at():
    y = Y.copy()
    x = RNG.normal(size=(120, 1))
    x[:100, 0] = y[:100]
    data = dataset(x=x, y=y, test=np.arange(100))
    assert check_of(data, rule="random").ok


def test_sequences_are_looked_at_where_they_have_a_target():
    steps = RNG.normal(size=(6, 20, 2))
    lengths = np.array([20, 12, 20, 15, 20, 9])
    mask = np.arange(20) < lengths[:, None]
    each = dataset(x=steps, y=np.where(mask, steps[:, :, 0] ** 3, 0.0), lengths=lengths)
    found = rank_correlations(each, np.arange(6))
    assert found[0] == pytest.approx(1.0) and found[1] < 0.5
    last = steps[np.arange(6), lengths - 1]
    last_steps = np.concatenate([last] * 2)
    one = dataset(x=np.concatenate([steps] * 2), y=last_steps[:, 0] ** 3, lengths=np.tile(lengths, 2))
    assert rank_correlations(one, np.arange(12))[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "data",
    [
        dataset(x=X, y=np.tile(["p", "q"], 60)),
        dataset(x=X, y=np.stack([Y, Y], axis=1)),
        dataset(x=X[:6], y=Y[:6]),
        dataset(x=X, y=np.full(120, 2.0)),
    ],
    ids=["classes", "two targets", "too few", "constant target"],
)
def test_there_is_nothing_to_say_of(data):
    assert rank_correlations(data, np.arange(len(data))) is None
