from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest

from paceline.data.dataset import Dataset, dataset
from paceline.errors import DataError

pytestmark = pytest.mark.fast

X = np.arange(24, dtype=np.float64).reshape(4, 3, 2)
Y = ["b", "a", "b", "a"]


def changed(place, value, base=X):
    out = base.copy()
    out[place] = value
    return out


def test_text_labels_become_indices_into_the_sorted_classes():
    data = dataset(x=X, y=Y)
    assert data.classes == ("a", "b")
    assert data.columns["y"].tolist() == [1, 0, 1, 0] and data.columns["y"].dtype == np.int64
    assert data.columns["x"].dtype == np.float32 and len(data) == 4
    assert "mask" not in data.columns


@pytest.mark.parametrize(
    ("y", "classes", "index", "names"),
    [
        ([7, 3, 10, 3], None, [1, 0, 2, 0], ("3", "7", "10")),  # sorted as numbers
        ([7, 3, 10, 3], ["10", "7", "3"], [1, 2, 0, 2], ("10", "7", "3")),  # names that are integers
        ([1, 0, 2, 0], ["none", "low", "high"], [1, 0, 2, 0], ("none", "low", "high")),  # indices
        ([0, 1, 0, 1], ["01", "00"], [0, 1, 0, 1], ("01", "00")),  # "01" is no integer's name
        (["low", "none", "low", "low"], ["none", "low", "high"], [1, 0, 1, 1], ("none", "low", "high")),
        ([True, False, True, True], None, [1, 0, 1, 1], ("0", "1")),
        (np.array([b"b", b"a", b"b", b"a"]), None, [1, 0, 1, 0], ("a", "b")),
        (np.array(Y, dtype=object), None, [1, 0, 1, 0], ("a", "b")),
        (pd.Series(Y), None, [1, 0, 1, 0], ("a", "b")),
        (np.array([1, 2, 1, 2], dtype=np.uint8), None, [0, 1, 0, 1], ("1", "2")),
        ([-1, 1, -1, 1], ["1", "-1"], [1, 0, 1, 0], ("1", "-1")),
    ],
)
def test_labels_of_every_kind_find_their_class(y, classes, index, names):
    data = dataset(x=X, y=y, classes=classes)
    assert data.columns["y"].tolist() == index
    assert data.classes == names


def test_float_targets_stay_numbers_and_have_no_classes():
    data = dataset(x=X, y=[0.5, 1.0, 2.0, 1.5])
    assert data.columns["y"].dtype == np.float32 and data.classes == ()
    assert dataset(x=X, y=np.ones((4, 2)), dtype="float64").columns["y"].shape == (4, 2)


def test_labels_may_be_absent_for_prediction():
    assert set(dataset(x=X).columns) == {"x"}


def test_padding_becomes_zero_whatever_it_held():
    x = changed((0, slice(1, None)), np.nan)
    data = dataset(x=changed((2, 2), np.inf, x), y=Y, lengths=[1, 3, 2, 3])
    assert data.columns["mask"].sum(axis=1).tolist() == [1, 3, 2, 3]
    assert (data.columns["x"][~data.columns["mask"]] == 0).all()
    np.testing.assert_array_equal(data.columns["x"][0, 0], X[0, 0])


def test_float64_is_kept_on_request_and_rounded_to_float32_otherwise():
    x = X + 1e-9
    assert (dataset(x=x, dtype="float64").columns["x"] == x).all()
    assert (dataset(x=x).columns["x"] == x.astype(np.float32)).all()


def test_the_arrays_given_may_change_later_and_the_data_set_does_not():
    x, y = X.astype(np.float32), np.array([0.0, 1.0, 2.0, 3.0], dtype=np.float32)
    data = dataset(x=x, y=y)
    x[:], y[:] = -1, -1
    assert data.columns["x"][1, 0, 0] == X[1, 0, 0] and data.columns["y"][3] == 3


def test_columns_are_read_only_views_without_a_copy():
    x = np.ones((3, 2), dtype=np.float32)
    data = Dataset(columns={"x": x}, group=np.arange(3))
    assert np.shares_memory(data.columns["x"], x)
    with pytest.raises(ValueError, match="read-only"):
        data.columns["x"][0] = 5
    with pytest.raises(ValueError, match="read-only"):
        data.group[0] = 5
    x[0] = 7  # the caller's own array stays the caller's


def test_a_data_set_can_be_copied_to_another_process():
    back = copy.deepcopy(dataset(x=X, y=Y, group=Y, test=[3]))  # by the same protocol as pickle
    assert back.classes == ("a", "b") and back.test.tolist() == [3]


def test_the_spec_counts_classes_of_the_training_part_alone():
    data = dataset(x=X, y=Y, classes=["a", "b", "c"], channels=["left", "right"])
    spec = data.spec(np.array([0, 1, 2]))
    assert spec.class_counts == (1, 2, 0)
    assert spec.shapes == {"x": (3, 2), "y": ()}
    assert (spec.n_features, spec.n_classes, spec.channels) == (2, 3, ("left", "right"))
    assert dataset(x=X, y=[0.1, 0.2, 0.3, 0.4]).spec(np.arange(2)).class_counts == ()


def test_the_test_part_may_be_a_bool_array_and_is_sorted():
    assert dataset(x=X, test=np.array([True, False, False, True])).test.tolist() == [0, 3]
    assert dataset(x=X, test=[3, 1]).test.tolist() == [1, 3]


BAD = {
    "ragged": ({"x": [[[1.0]], [[1.0], [2.0]]]}, "rectangular", "pass lengths"),
    "x of text": ({"x": [["a", "b"]]}, "numbers", "dtype <U1"),
    "x of objects": ({"x": np.array([[{}]])}, "numbers", "object"),
    "complex x": ({"x": np.ones((2, 2), dtype=complex)}, "numbers", "complex"),
    "one axis": ({"x": np.ones(4)}, "axes", r"\(4,\)"),
    "four axes": ({"x": np.ones((1, 1, 1, 1))}, "axes", "1, 1, 1, 1"),
    "no samples": ({"x": np.ones((0, 3, 2))}, "empty", "0, 3, 2"),
    "no steps": ({"x": np.ones((3, 0, 2))}, "empty", "3, 0, 2"),
    "NaN": ({"x": changed((2, 1, 0), np.nan)}, "1 values .* in 1 samples", "nan at sample 2, step 1, channel 0"),
    "inf, named channel": (
        {"x": changed((2, slice(None), 1), -np.inf), "channels": ["ecg", "emg"]},
        "3 values .* in 1 samples",
        "-inf at sample 2, step 0, channel 'emg'",
    ),
    "NaN, no lengths": ({"x": changed((1, 2), np.nan)}, "not finite", "if they are padding, pass lengths"),
    "NaN in the valid part": (
        {"x": changed((1, 1), np.nan), "lengths": [3, 2, 3, 3]},
        "2 values",
        "sample 1, step 1, channel 0",
    ),
    "NaN, two axes": ({"x": changed((1, 1), np.nan, X[:, 0])}, "not finite", "nan at sample 1, channel 1"),
    "overflow": ({"x": changed((0, 2, 1), 1e300)}, "not finite", r"1e\+300 \(too large for float32\)"),
    "lengths beyond T": ({"x": X, "lengths": [3, 4, 5, 3]}, r"2 lengths are outside 1\.\.3", "4 at sample 1"),
    "length zero": ({"x": X, "lengths": [3, 3, 3, 0]}, "outside", "0 at sample 3"),
    "negative length": ({"x": X, "lengths": [-1, 3, 3, 3]}, "outside", "-1 at sample 0"),
    "too few lengths": ({"x": X, "lengths": [3, 3]}, "do not fit the 4 samples", r"\(2,\)"),
    "float lengths": ({"x": X, "lengths": [1.0, 2.0, 3.0, 3.0]}, "integers", "float64"),
    "lengths without steps": ({"x": X[:, 0], "lengths": [1, 1, 1, 1]}, "step axis", r"\(4, 2\)"),
    "short y": ({"x": X, "y": ["a", "b"]}, "differ in their number of samples", "'y': 2"),
    "labels with two axes": ({"x": X, "y": [["a"], ["b"], ["a"], ["b"]]}, "one per sample", r"\(4, 1\)"),
    "label outside": ({"x": X, "y": ["a", "b", "bb", "a"], "classes": ["a", "b"]}, "1 labels", "'bb' at sample 2"),
    "index outside": (
        {"x": X, "y": [0, 1, 2, 0], "classes": ["no", "yes"]},
        "outside the class list",
        "'2' at sample 2",
    ),
    "integer name outside": ({"x": X, "y": [1, 2, 3, 4], "classes": ["1", "2", "3"]}, "outside", "'4' at sample 3"),
    "text for integer names": (
        {"x": X, "y": ["a", "1", "2", "1"], "classes": ["1", "2"]},
        "outside",
        "'a' at sample 0",
    ),
    "one class": ({"x": X, "y": ["a"] * 4}, "same label", "numeric targets are floats"),
    "missing label": ({"x": X, "y": ["a", None, "b", None]}, "y has 2 missing", "sample 1"),
    "NaN among text": ({"x": X, "y": ["a", "b", float("nan"), "b"]}, "y has 1 missing", "sample 2"),
    "pandas NA": ({"x": X, "y": pd.array([1, None, 2, 1], dtype="Int64")}, "y has 1 missing", "sample 1"),
    "mixed labels": ({"x": X, "y": ["a", 1, "b", 2]}, "mixes", "one kind"),
    "labels of objects": ({"x": X, "y": [{}, {}, {}, {}]}, "text or numbers", "dict"),
    "complex y": ({"x": X, "y": np.ones(4, dtype=complex)}, "y must hold text", "complex"),
    "NaN target": ({"x": X, "y": [0.1, 0.2, np.nan, 0.3]}, "y has 1 missing", "sample 2"),
    "inf target": ({"x": X, "y": [0.1, 0.2, 0.4, np.inf]}, "not finite", "inf at sample 3"),
    "target overflow": ({"x": X, "y": [0.1, 1e200, 0.4, 1.0]}, "not finite", r"1e\+200 at sample 1"),
    "float labels with classes": ({"x": X, "y": [0.0, 1, 0, 1], "classes": ["a", "b"]}, "floats although", "float64"),
    "repeated class": ({"x": X, "y": Y, "classes": ["a", "b", "a"]}, "distinct", "got: a"),
    "repeated channel": ({"x": X, "channels": ["e", "e"]}, "channels must have distinct names", "got: e"),
    "too few channel names": ({"x": X, "channels": ["e"]}, "1 channel names for 2 channels", "got: e"),
    "short group": ({"x": X, "group": ["s1", "s2"]}, r"one value per sample \(4\)", r"\(2,\)"),
    "missing group": ({"x": X, "group": ["s1", None, "s2", "s2"]}, "group has 1 missing", "sample 1"),
    "NaN group": ({"x": X, "group": [1.0, np.nan, 2.0, 2.0]}, "group has 1 missing", "sample 1"),
    "short time": ({"x": X, "time": [1, 2]}, "time must hold one value", r"\(2,\)"),
    "time of text": ({"x": X, "time": ["1990", "1991", "1992", "1993"]}, "numbers or datetime64", "<U4"),
    "missing time": ({"x": X, "time": np.array(["1990", "NaT", "1991", "1992"], "M8[D]")}, "time has 1", "sample 1"),
    "test index too high": ({"x": X, "test": [2, 4]}, r"in 0\.\.3", "4"),
    "negative test index": ({"x": X, "test": [-1]}, r"in 0\.\.3", "-1"),
    "test index twice": ({"x": X, "test": [1, 1]}, "given twice", "1"),
    "float test index": ({"x": X, "test": [1.0]}, "indices", "float64"),
    "empty test part": ({"x": X, "test": []}, "test part has no samples", r"\(0,\)"),
    "short bool test part": ({"x": X, "test": np.array([True, False])}, "indices", "bool"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_are_refused_with_what_and_where(name):
    arguments, what, detail = BAD[name]
    with pytest.raises(DataError, match=f"(?s){what}.*{detail}|{detail}.*{what}") as caught:
        dataset(**arguments, source="table.npz")
    assert "table.npz" in caught.value.where


BAD_COLUMNS = {
    "none": ({"columns": {}}, "at least one column"),
    "scalar": ({"columns": {"x": np.float32(1)}}, "no samples"),
    "objects": ({"columns": {"x": np.array([{}], dtype=object)}}, "plain values"),
    "unequal": ({"columns": {"x": np.ones((3, 2)), "z": np.ones(2)}}, "differ"),
    "mask dtype": ({"columns": {"x": np.ones((3, 4, 2)), "mask": np.ones((3, 4))}}, "bool"),
    "mask shape": ({"columns": {"x": np.ones((3, 4, 2)), "mask": np.ones((3, 5), dtype=bool)}}, "does not fit"),
    "index beyond classes": ({"columns": {"y": np.array([0, 2])}, "classes": ("a", "b")}, r"class index in 0\.\.1"),
    "two axes of indices": ({"columns": {"y": np.zeros((2, 2), dtype=int)}, "classes": ("a", "b")}, "class index"),
    "float class index": ({"columns": {"y": np.array([0.0, 1.0])}, "classes": ("a", "b")}, "class indices"),
}


@pytest.mark.parametrize("name", BAD_COLUMNS)
def test_columns_that_do_not_fit_together_are_refused(name):
    arguments, what = BAD_COLUMNS[name]
    with pytest.raises(DataError, match=what):
        Dataset(**arguments)
