from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from paceline.data.dataset import Dataset, dataset
from paceline.data.fingerprint import fingerprint, input_digests, part_fingerprint

SCRIPT = """
import numpy as np
from paceline.data.dataset import dataset
from paceline.data.fingerprint import fingerprint, part_fingerprint
x = np.arange(24.0).reshape(4, 3, 2)
data = dataset(x=x, y=["a", "b", "a", "b"], lengths=[1, 2, 3, 3], group=["s", "t", "s", "t"])
"""


def data_set(**changes):
    arguments = {
        "x": np.arange(24.0).reshape(4, 3, 2),
        "y": ["a", "b", "a", "b"],
        "lengths": [1, 2, 3, 3],
        "group": ["s", "t", "s", "t"],
        "time": [1, 2, 3, 4],
        "channels": ["left", "right"],
        "test": [3],
    }
    return dataset(**{**arguments, **changes})


@pytest.mark.fast
def test_equal_data_has_an_equal_fingerprint_wherever_it_came_from():
    assert fingerprint(data_set(source="here")) == fingerprint(data_set(source="there"))
    assert fingerprint(data_set()).startswith("sha256:") and len(fingerprint(data_set())) == 71


@pytest.mark.fast
@pytest.mark.parametrize(
    "changes",
    [
        {"x": np.arange(24.0).reshape(4, 3, 2) + 1e-3},
        {"x": np.arange(24.0).reshape(4, 3, 2), "dtype": "float64"},
        {"y": ["a", "b", "a", "a"]},
        {"y": ["a", "c", "a", "c"]},
        {"lengths": [2, 2, 3, 3]},
        {"lengths": None},
        {"group": ["s", "t", "s", "u"]},
        {"group": None},
        {"time": [1, 2, 3, 5]},
        {"channels": ["right", "left"]},
        {"test": [2]},
        {"test": None},
    ],
)
def test_any_change_of_the_data_changes_the_fingerprint(changes):
    assert fingerprint(data_set(**changes)) != fingerprint(data_set())


@pytest.mark.fast
def test_text_that_is_cut_elsewhere_is_other_text():
    columns = {"x": np.ones((2, 1), dtype=np.float32)}
    prints = [fingerprint(Dataset(columns=columns, group=np.array(g))) for g in (["ab", "c"], ["a", "bc"])]
    assert prints[0] != prints[1]


@pytest.mark.fast
def test_width_of_text_and_byte_order_do_not_count():
    x = np.arange(4, dtype=np.float32).reshape(2, 2)
    one = Dataset(columns={"x": x}, group=np.array(["a", "b"], dtype="<U1"))
    other = Dataset(columns={"x": x.astype(">f4")}, group=np.array(["a", "b"], dtype="<U9"))
    assert fingerprint(one) == fingerprint(other)


def test_the_fingerprint_is_the_same_in_another_process():
    code = SCRIPT + "print(fingerprint(data), part_fingerprint(data, np.array([1, 3])))"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": h, **ENV}
        ).stdout
        for h in ("0", "1")
    }
    data = data_set(time=None, channels=None, test=None)
    assert runs == {f"{fingerprint(data)} {part_fingerprint(data, np.array([1, 3]))}\n"}


ENV = {"PYTHONPATH": ":".join(p for p in sys.path if p)}


@pytest.mark.fast
def test_a_part_is_known_by_its_own_samples_in_any_order():
    data = data_set()
    part = part_fingerprint(data, np.array([1, 3]))
    assert part == part_fingerprint(data, np.array([3, 1]))
    assert part != part_fingerprint(data, np.array([1, 2]))
    x = np.arange(24.0).reshape(4, 3, 2)
    x[0] = -1
    assert part == part_fingerprint(data_set(x=x), np.array([1, 3]))
    padded = np.concatenate([np.arange(24.0).reshape(4, 3, 2), np.zeros((4, 2, 2))], axis=1)
    assert part == part_fingerprint(data_set(x=padded), np.array([1, 3]))
    assert part != part_fingerprint(data_set(y=["a", "a", "b", "b"]), np.array([1, 3]))


@pytest.mark.fast
def test_equal_inputs_have_equal_digests_whatever_their_labels_and_padding():
    x = np.zeros((4, 3, 1))
    x[0, :2, 0], x[1, :2, 0], x[2, :3, 0] = (1, -0.0), (1, 0.0), (1, 0, 0)
    data = dataset(x=x, y=["a", "b", "a", "b"], lengths=[2, 2, 3, 1])
    digests = input_digests(data)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.fast
def test_features_that_are_as_many_as_steps_are_not_masked():
    columns = {
        "x": np.zeros((2, 3, 1), dtype=np.float32),
        "mask": np.array([[True, False, False]] * 2),
        "static": np.array([[1, 2, 3], [1, 2, 4]], dtype=np.float32),
    }
    digests = input_digests(Dataset(columns=columns))
    assert digests[0] != digests[1]


@pytest.mark.fast
def test_a_changed_copy_of_a_data_set_is_hashed_anew():
    data = data_set()
    before = fingerprint(data)
    assert fingerprint(dataclasses.replace(data, classes=("x", "y"))) != before
