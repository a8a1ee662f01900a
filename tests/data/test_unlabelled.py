"""Input to predict: by the file's kind, in the form of the training data."""

from __future__ import annotations

import numpy as np
import pytest

from paceline.data.unlabelled import Known, Unlabelled, aligned, from_arrays, read_unlabelled
from paceline.errors import DataError

pytestmark = pytest.mark.fast
STEPS = Known(channels=("a", "b"), has_steps=True, missing="refuse", reading={})
FLAT = Known(channels=("a", "b"), has_steps=False, missing="refuse", reading={})


def test_every_kind_of_file_gives_the_same_samples(tmp_path):
    x = np.array([[[1.0, 2], [3, 4]], [[5, 6], [0, 0]]])
    np.savez(tmp_path / "in.npz", X=x, lengths=[2, 1], channels=["a", "b"], ids=["u", "v"], y=[0, 1])
    (tmp_path / "in.csv").write_text("sample,t,b,a\nv,0,6,5\nu,0,2,1\nu,1,4,3\n")
    (tmp_path / "in.ts").write_text("@classLabel true p q\n@data\n1,3:2,4:p\n5:6:q\n")
    for name in ("in.npz", "in.csv", "in.ts"):
        found = aligned(read_unlabelled(tmp_path / name, None, STEPS), STEPS.channels)
        valid = np.arange(2) < np.asarray(found.lengths)[:, None]
        np.testing.assert_array_equal(found.x[valid], x[valid])
        assert name == "in.ts" or found.ids.tolist() == ["u", "v"]


def test_a_table_of_samples_without_steps_is_read_row_by_row(tmp_path):
    (tmp_path / "in.csv").write_text("b,a\n1,2\n3,4\n")
    found = read_unlabelled(tmp_path / "in.csv", None, FLAT)
    assert found.x.tolist() == [[2, 1], [4, 3]] and found.ids is None and found.id_name == "sample"


def test_a_section_reads_what_it_wants_to_and_leaves_the_rest(tmp_path):
    class Own:
        def read_input(self, path, known):
            return Unlabelled(x=np.ones((1, 1, 2)), source="own") if path.suffix == ".own" else None

    (tmp_path / "in.csv").write_text("id,t,a,b\nu,0,1,2\n")
    assert read_unlabelled(tmp_path / "in.own", Own(), STEPS).source == "own"
    assert read_unlabelled(tmp_path / "in.csv", Own(), STEPS).ids.tolist() == ["u"]


@pytest.mark.parametrize("name", ["in.xlsx", "in", "in.txt", "in.gz"])
def test_a_file_of_another_kind_is_refused_with_those_that_are_read(tmp_path, name):
    with pytest.raises(DataError, match="no reader for a file of this kind") as caught:
        read_unlabelled(tmp_path / name, None, STEPS)
    assert ".npz" in caught.value.hint


def test_channels_in_another_order_are_matched_by_name_and_a_line_says_so(caplog):
    given = from_arrays({"x": np.array([[1.0, 2]]), "channels": ["b", "a"]})
    assert aligned(given, ("a", "b")).x.tolist() == [[2, 1]]
    assert "another order than in training: they are matched by name" in caplog.text
    caplog.clear()
    for same in ({"x": np.ones((1, 2)), "channels": ["a", "b"]}, {"x": np.ones((1, 2))}):
        aligned(from_arrays(same), ("a", "b"))
    assert aligned(given, ()) is given  # the model knows no names
    assert not caplog.text


@pytest.mark.parametrize(
    ("arrays", "what", "detail"),
    [
        ({"y": [1]}, "no array 'x'", "y"),
        ({"x": np.ones((2, 3)), "channels": ["a", "b"]}, "names 2 channels", "(2, 3)"),
        ({"x": np.ones((2, 2)), "ids": ["u"]}, "one value per sample", "(1,)"),
        ({"x": np.ones((2, 2)), "channels": ["a", "c"]}, "not trained on", "c"),
        ({"x": np.ones((2, 1)), "channels": ["a"]}, "lacks 1 of 2 channels", "b"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, what, detail):
    with pytest.raises(DataError, match=what) as caught:
        aligned(from_arrays(arrays), ("a", "b"))
    assert detail in caught.value.got
