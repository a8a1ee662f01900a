"""The scale of numeric targets and of time, of the training part alone. N samples, T steps."""

from __future__ import annotations

import numpy as np
import pytest

from paceline.data.dataset import Dataset, dataset
from paceline.data.target import valid_targets

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4, 2))
TRAIN = np.array([0, 2, 3])


def test_mean_and_standard_deviation_are_of_the_training_targets() -> None:
    y = RNG.normal(5, 2, 6)
    spec = dataset(x=X[:, 0], y=y, dtype="float64").spec(TRAIN)
    assert (spec.target_mean, spec.target_std) == pytest.approx((y[TRAIN].mean(), y[TRAIN].std()), rel=1e-12)
    assert (spec.time_step, spec.outputs) == (1.0, 1)


def test_targets_on_padding_and_times_between_padded_steps_are_left_out() -> None:
    lengths = np.array([4, 1, 2, 3, 4, 4])
    y, t = RNG.normal(size=(6, 4)), np.cumsum(RNG.uniform(1, 3, (6, 4)), axis=1)
    plain = dataset(x=X, y=y, lengths=lengths, dtype="float64")
    full = Dataset(columns={**plain.columns, "t": t})
    own = np.concatenate([y[i, : lengths[i]] for i in TRAIN])
    assert valid_targets(full.columns, TRAIN).tolist() == own.tolist()
    spec = full.spec(TRAIN)
    assert (spec.target_mean, spec.target_std) == pytest.approx((own.mean(), own.std()), rel=1e-12)
    assert spec.time_step == pytest.approx(np.concatenate([np.diff(t[i, : lengths[i]]) for i in TRAIN]).mean())


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_constant_targets_have_a_scale_of_one(value: float) -> None:
    spec = dataset(x=X[:, 0], y=np.full(6, value)).spec(TRAIN)
    assert (spec.target_mean, spec.target_std) == (pytest.approx(value), 1.0)


def test_classes_have_no_scale() -> None:
    spec = dataset(x=X, y=np.arange(6) % 2).spec(TRAIN)
    assert (spec.target_mean, spec.target_std) == (0.0, 1.0)
