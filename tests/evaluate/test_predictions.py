from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics

from paceline.errors import RunError
from paceline.evaluate.predictions import metrics_of, pooled, read_predictions
from tests.evaluate.made import classifier, labels, regressor

pytestmark = pytest.mark.fast


def test_metrics_of_classes_equal_scikit_learn():
    y = labels()
    member = classifier(y, 0.7, seed=1)
    found = metrics_of(member)
    options = {"average": "macro", "labels": range(4), "zero_division": 0}
    assert found == pytest.approx(
        {
            "accuracy": sklearn.metrics.accuracy_score(y, member.prediction),
            "f1_macro": sklearn.metrics.f1_score(y, member.prediction, **options),
            "precision_macro": sklearn.metrics.precision_score(y, member.prediction, **options),
            "recall_macro": sklearn.metrics.recall_score(y, member.prediction, **options),
            "log_loss": sklearn.metrics.log_loss(y, member.probability, labels=range(4)),
        }
    )


def test_a_class_that_never_occurs_counts_as_zero_like_in_scikit_learn():
    y = labels(classes=3)
    member = classifier(y, 1.0, seed=1)
    assert set(member.prediction) <= {0, 1, 2}
    expected = sklearn.metrics.f1_score(y, member.prediction, average="macro", labels=range(4), zero_division=0)
    assert metrics_of(member)["f1_macro"] == pytest.approx(expected) and expected < 0.76


@pytest.mark.parametrize("shape", [(50,), (50, 3)])
def test_metrics_of_numbers_equal_scikit_learn(shape):
    y = np.random.default_rng(0).normal(size=shape)
    member = regressor(y, 0.3, seed=1)
    mse = sklearn.metrics.mean_squared_error(y, member.prediction)
    mae = sklearn.metrics.mean_absolute_error(y, member.prediction)
    assert metrics_of(member) == pytest.approx({"mse": mse, "rmse": mse**0.5, "mae": mae})


def test_a_probability_of_zero_gives_a_large_finite_loss():
    member = classifier(labels(), 1.0, seed=0)
    sure = replace(member, probability=np.eye(4)[(member.y + 1) % 4])
    assert metrics_of(sure)["log_loss"] == pytest.approx(-np.log(1e-38))


def test_folds_of_a_seed_are_joined_and_members_on_one_part_stay_apart():
    y = labels()
    whole = [classifier(y, 0.8, seed=s) for s in (1, 2)]
    names = ("index", "y", "prediction", "probability")
    folds = [
        (seed, replace(m, **{name: getattr(m, name)[part] for name in names}))
        for seed, m in enumerate(whole)
        for part in (slice(0, 70), slice(70, 120))
    ]
    found = pooled(folds)
    assert [metrics_of(each) for each in found] == [metrics_of(each) for each in whole]
    assert len(pooled((seed, m) for seed in (1, 1) for m in whole)) == 4


def write(path, **arrays):
    np.savez_compressed(path, allow_pickle=False, **arrays)
    return path


def arrays_of(member, part="val"):
    names = ("index", "y", "prediction", "probability", "group")
    return {f"{part}_{name}": array for name in names if (array := getattr(member, name)) is not None}


def test_stored_predictions_are_read_back(tmp_path):
    y = labels()
    member = classifier(y, 0.8, seed=1, group=np.array([f"p{i % 7}" for i in range(len(y))]))
    path = write(tmp_path / "predictions.npz", **arrays_of(member), **arrays_of(regressor(y * 1.0, 0.1, 0), "test"))
    found = read_predictions(path)
    assert metrics_of(found["val"]) == metrics_of(member)
    assert found["val"].group.tolist() == member.group.tolist()
    assert set(metrics_of(found["test"])) == {"mse", "rmse", "mae"} and found["test"].group is None
    assert read_predictions(tmp_path / "none.npz") == {}


@pytest.mark.parametrize(
    "change",
    [
        {"val_y": np.arange(5)},
        {"val_prediction": np.array(["a"] * 120)},
        {"val_probability": np.ones(120)},
        {"val_y": np.full(120, 9)},
        {"val_group": np.arange(3)},
    ],
)
def test_predictions_of_another_form_are_left_out(tmp_path, change):
    arrays = arrays_of(classifier(labels(), 0.8, seed=1)) | change
    if "val_prediction" in change:
        del arrays["val_probability"]
    assert read_predictions(write(tmp_path / "p.npz", **arrays)) == {}


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "predictions.npz"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"predictions\.npz"):
        read_predictions(path)
