"""Missing values, time features and scaling as one preparation: fitted on the training part, the same in prediction."""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from paceline.data.audit import audit
from paceline.data.config import DataConfig, SplitConfig, TimeFeatures
from paceline.data.dataset import Dataset, dataset
from paceline.data.fingerprint import fingerprint, input_digests
from paceline.data.prepare import Preparation, forward_filled, time_channels
from paceline.data.scale import Scaler
from paceline.data.split import make_splits
from paceline.errors import ConfigError, DataError

pytestmark = pytest.mark.fast
NAN = np.nan


class Made(DataConfig):
    name: Literal["made"] = "made"

    def load(self) -> Dataset:
        raise AssertionError


MASKED = Made(missing="mask")


def gaps(n=12, seed=0, share=0.2):
    """Samples of 3 to 6 steps, three channels; values are missing in the first and the last."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6, 3)) * [1, 10, 100] + [0, 5, -50]
    x[..., [0, 2]][rng.random((n, 6, 2)) < share] = NAN
    x[:, :, 0] = np.where(rng.random((n, 6)) < share, NAN, x[:, :, 0])
    x[:, :, 2] = np.where(rng.random((n, 6)) < share, NAN, x[:, :, 2])
    return dataset(x=x, y=np.arange(n) % 2, lengths=rng.integers(3, 7, n), channels=["a", "b", "c"], missing="mask")


def test_a_missing_value_is_the_last_one_before_it_of_its_sample_and_channel():
    x = np.array([[[NAN, 1], [2, NAN], [NAN, NAN], [3, 4]], [[NAN, NAN], [NAN, 5], [6, NAN], [NAN, NAN]]])
    expected = [[[NAN, 1], [2, 1], [2, 1], [3, 4]], [[NAN, NAN], [NAN, 5], [6, 5], [6, 5]]]
    np.testing.assert_array_equal(forward_filled(x), expected)


def test_the_whole_of_the_policy_on_a_sample_worked_by_hand():
    x = [[[1.0], [NAN], [3.0]], [[NAN], [5.0], [NAN]], [[7.0], [7.0], [7.0]]]
    data = dataset(x=x, y=[0, 1, 0], channels=["a"], missing="mask")
    made = Preparation.fit(data, np.array([0]), MASKED)  # of 1 and 3: mean 2, deviation 1
    assert made.names() == ("a", "a missing")
    prepared = made.apply(data.columns["x"], None)
    np.testing.assert_allclose(prepared[..., 0], [[-1, -1, 1], [0, 3, 3], [5, 5, 5]])
    np.testing.assert_array_equal(prepared[..., 1], [[0, 1, 0], [1, 0, 1], [0, 0, 0]])


def test_without_scaling_what_has_no_value_before_it_is_the_mean_of_the_training_part():
    data = dataset(x=[[[1.0], [3.0]], [[NAN], [9.0]]], y=[0, 1], missing="mask")
    made = Preparation.fit(data, np.array([0]), Made(missing="mask", scale="none"))
    assert made.apply(data.columns["x"], None)[1].tolist() == [[2, 1], [9, 0]]
    assert made.names() == ("channel 0", "channel 0 missing")


def test_with_robust_scaling_what_has_no_value_before_it_is_the_median():
    x = [[[1.0], [2.0], [3.0], [90.0], [2.0]], [[NAN], [9.0], [1.0], [1.0], [1.0]]]
    data = dataset(x=x, y=[0, 1], missing="mask")
    made = Preparation.fit(data, np.array([0]), Made(missing="mask", scale="robust"))
    prepared = made.apply(data.columns["x"], None)[..., 0]
    assert prepared[1, 0] == prepared[0, 1] and Preparation.from_dict(made.to_dict()) == made


def test_samples_without_steps_are_filled_with_the_mean():
    data = dataset(x=[[1.0, 5], [3, NAN], [NAN, 7]], y=[0, 1, 0], missing="mask")
    made = Preparation.fit(data, np.arange(3), Made(missing="mask", scale="none"))
    np.testing.assert_allclose(made.apply(data.columns["x"], None), [[1, 5, 0, 0], [3, 6, 0, 1], [2, 7, 1, 0]])


def test_scaling_counts_what_is_there_as_scikit_learn_does():
    data = gaps(40)
    train = np.arange(0, 40, 2)
    scaler = Scaler.fit(data.columns["x"], data.columns["mask"], train)
    oracle = StandardScaler().fit(data.columns["x"][train][data.columns["mask"][train]].astype(np.float64))
    np.testing.assert_allclose(scaler.mean, oracle.mean_, rtol=1e-6)
    np.testing.assert_allclose(scaler.std, oracle.scale_, rtol=1e-6)


def test_neither_other_samples_nor_later_steps_show_through_what_is_filled():
    """A85."""
    data, train = gaps(), np.arange(8)
    x, mask = data.columns["x"], data.columns["mask"]
    made = Preparation.fit(data, train, MASKED)
    held_out = x.copy()
    held_out[8:] = np.where(np.isnan(held_out[8:]), NAN, 1e6)
    other = dataset(x=held_out, y=data.columns["y"], lengths=mask.sum(1), channels=data.channels, missing="mask")
    assert Preparation.fit(other, train, MASKED) == made
    later = x.copy()
    later[:, 2:] = -77
    np.testing.assert_array_equal(made.apply(later, mask)[:, :2], made.apply(x, mask)[:, :2])
    alone = np.concatenate([made.apply(x[i : i + 1], mask[i : i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(alone, made.apply(x, mask))


def test_indicators_are_of_the_channels_with_gaps_anywhere_and_padding_stays_zero():
    data = gaps()
    made = Preparation.fit(data, np.arange(6), MASKED)
    assert made.flagged == (0, 2) and made.names() == ("a", "b", "c", "a missing", "c missing")
    x, mask = data.columns["x"], data.columns["mask"]
    prepared = made.apply(x, mask)
    assert prepared.dtype == np.float32 and np.isfinite(prepared).all()
    np.testing.assert_array_equal(prepared[..., 3:][mask], np.isnan(x[..., [0, 2]])[mask])
    assert not prepared[~mask].any()
    spec = made.spec(data.spec(np.arange(6)))
    assert spec.shapes["x"] == (6, 5) == prepared.shape[1:] and spec.channels == made.names()


def test_time_features_are_those_worked_by_hand():
    time = TimeFeatures(position=True, elapsed=True, periods=(4, 2.5))
    assert time.names() == ("position", "elapsed", "sin 4", "cos 4", "sin 2.5", "cos 2.5")
    mask = np.arange(5) < np.array([[5], [3], [1]])
    found = time_channels(time, 3, 5, mask, longest=10)
    np.testing.assert_allclose(found[0, :, 0], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found[1, :3, 0], [0, 0.5, 1])
    assert found[2, 0, 0] == 0  # one step
    np.testing.assert_allclose(found[1, :, 1], [0, 0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(found[0, :, 2], [0, 1, 0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(found[0, :, 3], [1, 0, -1, 0, 1], atol=1e-12)
    np.testing.assert_allclose(found[0, 1, 4:], [np.sin(2 * np.pi / 2.5), np.cos(2 * np.pi / 2.5)])


@pytest.mark.parametrize("scale", ["standard", "none"])
def test_time_features_stand_after_the_channels_unscaled_and_do_not_depend_on_padding(scale):
    data = gaps(share=0)
    config = Made(scale=scale, time_features=TimeFeatures(position=True, elapsed=True, periods=(6,)))
    made = Preparation.fit(data, np.arange(8), config)
    x, mask = data.columns["x"], data.columns["mask"]
    prepared = made.apply(x, mask)
    plain = Preparation.fit(data, np.arange(8), Made(scale=scale)).apply(x, mask)
    np.testing.assert_array_equal(prepared[..., :3], plain)
    assert made.longest == mask[:8].sum(1).max()
    for i, row in enumerate(prepared):
        n = mask[i].sum()
        np.testing.assert_allclose(row[:n, 3], np.arange(n) / (n - 1), rtol=1e-6)
        np.testing.assert_allclose(row[:n, 4], np.arange(n) / made.longest, rtol=1e-6)
        assert not row[n:].any()
    longer = [np.pad(a, [(0, 0), (0, 9)] + [(0, 0)] * (a.ndim - 2)) for a in (x, mask)]
    np.testing.assert_array_equal(made.apply(*longer)[:, :6], prepared)


def test_a_preparation_that_has_nothing_to_do_leaves_the_array_as_it_is():
    x = np.arange(6, dtype=np.int64).reshape(3, 2)
    data = Dataset(columns={"x": x})
    made = Preparation.fit(data, np.arange(3), Made(scale="none"))
    assert made.apply(data.columns["x"], None) is data.columns["x"] and made.names() == ()


def test_the_state_survives_json():
    data = gaps()
    config = Made(missing="mask", time_features=TimeFeatures(elapsed=True, periods=(3,)))
    made = Preparation.fit(data, np.arange(6), config)
    again = Preparation.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    with pytest.raises(DataError, match="preparation cannot be read"):
        Preparation.from_dict({"n_channels": 3})


def test_channels_that_were_complete_in_training_are_named():
    data = gaps()
    made = Preparation.fit(data, np.arange(6), MASKED)
    x = data.columns["x"].copy()
    x[0, 0, 1] = NAN
    assert made.unflagged(data.columns["x"]) == [] and made.unflagged(x) == ["b"]
    assert np.isfinite(made.apply(x, data.columns["mask"])).all()


def test_what_cannot_be_prepared_is_refused():
    with pytest.raises(ConfigError, match="need sequences"):
        Preparation.fit(dataset(x=np.ones((4, 2)), y=[0, 1, 0, 1]), np.arange(4),
                        Made(time_features=TimeFeatures(elapsed=True)))  # fmt: skip
    empty = dataset(x=[[[1.0, NAN]], [[2, NAN]], [[3, 4]]], y=[0, 1, 0], missing="mask")
    with pytest.raises(DataError, match="no value in the training part") as caught:
        Preparation.fit(empty, np.arange(2), MASKED)
    assert caught.value.got == "channel 1"
    named = dataset(x=np.ones((2, 3, 1)), y=[0, 1], channels=["elapsed"])
    with pytest.raises(DataError, match="name of one that is added"):
        Preparation.fit(named, np.arange(2), Made(time_features=TimeFeatures(elapsed=True)))
    made = Preparation.fit(gaps(), np.arange(6), MASKED)
    with pytest.raises(DataError, match="trained on 3 channels"):
        made.apply(np.ones((2, 6, 4)), None)


@pytest.mark.parametrize("periods", [[1.5], [0], [-4], [24, 24]])
def test_periods_that_are_no_waves_are_refused(periods):
    with pytest.raises(ValueError, match=r"greater than or equal to 2|given twice"):
        TimeFeatures(periods=periods)


def test_missing_values_are_refused_unless_the_policy_is_to_mask_them():
    x = np.ones((3, 4, 2))
    x[1, 2, 1] = NAN
    with pytest.raises(DataError, match="not finite") as caught:
        dataset(x=x, y=[0, 1, 0], channels=["a", "b"])
    assert "sample 1, step 2, channel 'b'" in caught.value.got and "data.missing=mask" in caught.value.hint
    assert np.isnan(dataset(x=x, y=[0, 1, 0], missing="mask").columns["x"]).sum() == 1
    x[0, 0, 0] = np.inf
    with pytest.raises(DataError, match="not finite"):
        dataset(x=x, y=[0, 1, 0], missing="mask")


def test_data_with_gaps_is_fingerprinted_split_and_audited():
    data, again = gaps(40), gaps(40)
    assert fingerprint(data) == fingerprint(again) and len(set(input_digests(data))) == 40
    other = data.columns["x"].copy()
    other.view(np.int32)[np.isnan(other)] += 1  # another NaN
    assert fingerprint(dataset(x=other, y=data.columns["y"], lengths=data.columns["mask"].sum(1),
                               channels=data.channels, missing="mask")) == fingerprint(data)  # fmt: skip
    (split,) = make_splits(data, SplitConfig())
    found = {check.name: check for check in audit(data, split)}
    assert found["every channel varies in train"].ok
    assert not found["every value is there"].ok and "in 2 channels" in found["every value is there"].detail
    complete = dataset(x=np.random.default_rng(0).normal(size=(9, 2, 1)), y=np.arange(9) % 3)
    assert "every value is there" not in {check.name for check in audit(complete, *make_splits(complete, SplitConfig(
        val_fraction=0.4)))}  # fmt: skip
