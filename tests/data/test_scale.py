from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from paceline.data.dataset import dataset
from paceline.data.scale import Scaler
from paceline.errors import DataError

pytestmark = pytest.mark.fast


def ragged(seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, 20)
    x = rng.normal((5, -300, 0), (1, 1e-3, 40), (20, 7, 3))
    columns = dataset(x=x, lengths=lengths).columns
    return columns["x"], columns["mask"]


def test_statistics_are_those_of_scikit_learn_on_the_valid_training_steps():
    x, mask = ragged()
    train = np.array([1, 3, 4, 9, 19])
    scaler = Scaler.fit(x, mask, train)
    steps = np.concatenate([x[i][mask[i]] for i in train]).astype(np.float64)
    oracle = StandardScaler().fit(steps)
    np.testing.assert_allclose(scaler.mean, oracle.mean_, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(scaler.std, oracle.scale_, rtol=1e-9)
    scaled = scaler.apply(x, mask)
    assert scaled.dtype == np.float32 and (scaled[~mask] == 0).all()
    np.testing.assert_allclose(scaled[mask], oracle.transform(x[mask].astype(np.float64)), rtol=1e-5, atol=1e-6)


def test_samples_outside_the_training_part_change_nothing():
    x, mask = ragged()
    changed = x.copy()
    changed[10:] = 1e6
    assert Scaler.fit(x, mask, np.arange(10)) == Scaler.fit(changed, mask, np.arange(10))


@pytest.mark.parametrize("shape", [(20, 3), (20, 7, 3)])
def test_data_without_a_mask_uses_every_value(shape):
    x = np.random.default_rng(1).normal(2, 3, shape)
    scaler = Scaler.fit(x, None, np.arange(20))
    np.testing.assert_allclose(scaler.mean, x.reshape(-1, 3).mean(axis=0))
    scaled = scaler.apply(x, None)
    assert scaled.dtype == np.float64  # as x
    np.testing.assert_allclose(scaled.reshape(-1, 3).std(axis=0), 1)


def test_a_constant_channel_is_listed_and_becomes_zero():
    x = np.random.default_rng(2).normal(size=(9, 4, 3)).astype(np.float32)
    x[..., 1] = 0.1  # a computed deviation would not be exactly 0
    scaler = Scaler.fit(x, None, np.arange(9))
    assert scaler.constant == (1,) and scaler.std[1] == 1
    assert (scaler.apply(x, None)[..., 1] == 0).all()


def test_a_scaler_survives_json():
    scaler = Scaler.fit(*ragged(), np.arange(5))
    assert Scaler.from_dict(json.loads(json.dumps(scaler.to_dict()))) == scaler


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"mean": [0.0], "std": [1.0]},
        {"mean": [0.0], "std": [0.0], "constant": []},
        {"mean": [0.0, 1.0], "std": [1.0], "constant": []},
        {"mean": ["a"], "std": [1.0], "constant": []},
        {"mean": 3, "std": [1.0], "constant": []},
        {"mean": [float("nan")], "std": [1.0], "constant": []},
    ],
)
def test_a_damaged_state_is_refused(state):
    with pytest.raises(DataError, match="state"):
        Scaler.from_dict(state)


def test_other_channels_are_refused():
    scaler = Scaler(mean=(0.0, 0.0), std=(1.0, 1.0))
    with pytest.raises(DataError, match="fitted on 2 channels"):
        scaler.apply(np.ones((3, 4)), None)


def test_no_valid_step_is_refused():
    with pytest.raises(DataError, match="no valid step"):
        Scaler.fit(np.ones((3, 2), dtype=np.float32), None, np.array([], dtype=np.int64))


def test_values_that_overflow_once_scaled_are_refused():
    x = np.array([[0.0], [1e-30], [1e30]], dtype=np.float32)
    scaler = Scaler.fit(x, None, np.arange(2))
    with pytest.raises(DataError, match=r"too large(?s:.*)channel 0, sample 2"):
        scaler.apply(x, None)
    with pytest.raises(DataError, match="too large to scale"):
        Scaler.fit(np.array([[1e300], [-1e300]]), None, np.arange(2))


@pytest.mark.fast
def test_robust_scaling_is_that_of_scikit_learn_compressed_and_standardised():
    from sklearn.preprocessing import RobustScaler, StandardScaler

    rng = np.random.default_rng(3)
    x = rng.standard_t(1.5, size=(30, 8, 3)) * [1, 50, 2000] + [0, 7, -300]
    train = np.arange(20)
    scaler = Scaler.fit(x, None, train, robust=True)
    robust = RobustScaler(unit_variance=True).fit(x[train].reshape(-1, 3))
    compressed = np.arcsinh(robust.transform(x.reshape(-1, 3)))
    standard = StandardScaler().fit(compressed.reshape(x.shape)[train].reshape(-1, 3))
    assert np.allclose(scaler.apply(x, None).reshape(-1, 3), standard.transform(compressed), rtol=1e-10, atol=1e-12)
    assert np.abs(scaler.apply(x, None)).max() < np.abs(Scaler.fit(x, None, train).apply(x, None)).max()
    assert Scaler.from_dict(scaler.to_dict()) == scaler and scaler.typical == scaler.median


@pytest.mark.fast
def test_robust_scaling_of_channels_that_hardly_vary_stays_finite():
    x = np.zeros((10, 5, 3))
    x[0, 0, 1] = 4.0  # the quartiles are equal, the channel is not constant
    x[:, :, 2] = 5.0
    mask = np.ones((10, 5), dtype=bool)
    mask[3, 2:] = False
    out = Scaler.fit(x, mask, np.arange(10), robust=True).apply(x, mask)
    assert np.isfinite(out).all() and (out[:, :, 2] == 0).all() and (out[3, 2:] == 0).all()
    valid = out[mask]
    assert valid[:, 1].mean() == pytest.approx(0, abs=1e-6) and valid[:, 1].std() == pytest.approx(1, rel=1e-5)
