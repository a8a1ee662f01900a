"""`data=challenge`: the files of the challenge, other long CSVs, and what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paceline.data.config import SplitConfig
from paceline.data.fingerprint import fingerprint
from paceline.data.prepare import Preparation
from paceline.data.split import make_splits
from paceline.errors import DataError
from paceline.recipes.pain.challenge import Challenge
from tests.recipes.challenge_files import JOINTS, SURVEYS, WORDS, features, labels, write_challenge

pytestmark = pytest.mark.fast
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "timeseries"


def test_the_files_of_the_challenge_are_found_and_read(tmp_path):
    """A98."""
    train, _ = write_challenge(tmp_path)
    assert train.shape == (12 * 160, 40)
    data = Challenge(path=str(tmp_path)).load()
    assert data.columns["x"].shape == (12, 160, 38) and "mask" not in data.columns
    assert data.channels == (*SURVEYS, *WORDS, *JOINTS) == tuple(train.columns[2:])
    coded = train.replace({"two": 1, "one+peg_leg": 0, "one+hook_hand": 0, "one+eye_patch": 0})
    expected = coded[list(data.channels)].to_numpy(dtype=np.float64).reshape(12, 160, 38)
    np.testing.assert_array_equal(data.columns["x"], expected.astype(np.float32))
    assert [data.classes[k] for k in data.columns["y"]] == labels(12)["label"].tolist()
    assert data.classes == ("high_pain", "low_pain", "no_pain")
    assert data.ids.tolist() == [f"{i:03d}" for i in range(12)]
    assert data.reading == {"words": WORDS, "spacing": 1.0}


def test_a_marked_column_keeps_its_name_through_the_pivot_and_scaling_is_of_the_training_part(tmp_path):
    """A85."""
    write_challenge(tmp_path)
    source = Challenge(path=str(tmp_path))
    data = source.load()
    marked = data.channels.index("joint_30")
    assert marked == 7 and sorted(data.channels).index("joint_30") == 30  # the columns are not sorted
    expected = np.arange(12)[:, None] + np.arange(160) / 1000
    np.testing.assert_allclose(data.columns["x"][:, :, marked], expected, rtol=1e-6)
    (split,) = make_splits(data, SplitConfig(val_fraction=0.25))
    scaler = Preparation.fit(data, split.train, source).scaler
    part = data.columns["x"][split.train].reshape(-1, 38).astype(np.float64)
    np.testing.assert_allclose(scaler.mean, part.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(scaler.std, part.std(0), rtol=1e-5)


def test_the_order_of_rows_and_the_place_of_files_change_nothing(tmp_path):
    train, _ = write_challenge(tmp_path / "a", steps=10)
    (tmp_path / "b").mkdir()
    train.iloc[::-1].to_csv(tmp_path / "b" / "features.csv.gz", index=False)
    labels(12).to_csv(tmp_path / "b" / "y.csv", index=False)
    found = Challenge(path=str(tmp_path / "b" / "features.csv.gz"), labels="y.csv").load()
    assert fingerprint(found) == fingerprint(Challenge(path=str(tmp_path / "a")).load())


def test_lengths_may_differ_and_classes_have_the_order_asked_for(tmp_path):
    frame = features(6, 0, 20)
    frame = frame[frame["time"] < 10 + frame["sample_index"].astype(int)]
    frame.to_csv(tmp_path / "train.csv", index=False)
    labels(6).to_csv(tmp_path / "labels.csv", index=False)
    data = Challenge(path=str(tmp_path), classes=("no_pain", "low_pain", "high_pain")).load()
    assert data.columns["mask"].sum(1).tolist() == [10, 11, 12, 13, 14, 15]
    assert data.columns["y"].tolist() == [0, 1, 2, 0, 1, 2]


def test_an_official_test_part_is_coded_and_ordered_as_the_training_file(tmp_path):
    write_challenge(tmp_path, steps=10)
    test = features(4, 1, 12)
    test[["sample_index", *reversed(test.columns[1:])]].to_csv(tmp_path / "official.csv", index=False)
    labels(4).to_csv(tmp_path / "official_test_labels.csv", index=False)
    keys = {"path": str(tmp_path), "test": "official.csv", "test_labels": "official_test_labels.csv"}
    data = Challenge(**keys).load()
    assert data.test.tolist() == [12, 13, 14, 15] and data.columns["x"].shape == (16, 12, 38)
    assert data.columns["mask"].sum(1).tolist() == [10] * 12 + [12] * 4
    np.testing.assert_allclose(data.columns["x"][12:, 3, 7], np.arange(4) + 0.003, rtol=1e-6)
    (tmp_path / "official.csv").write_text(test.replace("two", "three").to_csv(index=False))
    with pytest.raises(DataError, match="does not occur in the training data") as caught:
        Challenge(**keys).load()
    assert caught.value.got == "three" and "n_legs" in caught.value.where


def test_groups_stand_in_either_file_and_are_split_whole(tmp_path):
    frame = features(12, 0, 8)
    person = {f"{i:03d}": f"p{i % 4}" for i in range(12)}
    frame.to_csv(tmp_path / "train.csv", index=False)
    labels(12).assign(person=lambda t: t["sample_index"].map(person)).to_csv(tmp_path / "labels.csv", index=False)
    source = Challenge(path=str(tmp_path), group="person", split=SplitConfig(rule="group", val_fraction=0.25))
    data = source.load()
    (split,) = make_splits(data, source.split)
    assert len(split.val) == 3 and not set(data.group[split.train]) & set(data.group[split.val])
    frame.assign(person=frame["sample_index"].map(person)).to_csv(tmp_path / "train.csv", index=False)
    labels(12).to_csv(tmp_path / "labels.csv", index=False)
    again = source.load()
    assert again.group.tolist() == data.group.tolist() and again.channels == data.channels


def test_labels_may_be_a_column_of_the_features(tmp_path):
    frame = features(4, 0, 5).assign(diagnosis=lambda t: t["sample_index"].astype(int) + 8)
    frame.to_csv(tmp_path / "all.csv", index=False)
    data = Challenge(path=str(tmp_path / "all.csv"), label="diagnosis", ignore=tuple(JOINTS)).load()
    assert data.classes == ("8", "9", "10", "11")  # as numbers
    assert data.channels == (*SURVEYS, *WORDS)


def test_missing_values_are_named_or_masked(tmp_path):
    frame = features(6, 0, 8)
    frame.loc[frame.index[13], ["joint_05", "n_legs"]] = np.nan
    frame.to_csv(tmp_path / "train.csv", index=False)
    labels(6).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(DataError, match="value is missing") as caught:
        Challenge(path=str(tmp_path)).load()
    assert caught.value.where.endswith("train.csv, line 15, column 'n_legs'")
    assert caught.value.got == "sample 001, time 5; 2 cells are empty in all"
    x = Challenge(path=str(tmp_path), missing="mask").load().columns["x"]
    assert np.argwhere(np.isnan(x)).tolist() == [[1, 5, 4], [1, 5, 7 + JOINTS.index("joint_05")]]


def test_robot_failures_are_read_set_by_set():
    if not PUBLISHED.exists():
        pytest.skip("the published files are not beside this checkout")
    raw = pd.read_csv(PUBLISHED / "robot_failures_long.csv")
    for name, n, classes in (("lp1", 88, 4), ("lp2", 47, 5), ("lp3", 47, 4), ("lp5", 164, 5)):
        data = Challenge(
            path=str(PUBLISHED / "robot_failures_long.csv"), labels="robot_failures_labels.csv", id="sample", time="t",
            where={"set": name},
        ).load()  # fmt: skip
        assert data.columns["x"].shape == (n, 15, 6) and len(data.classes) == classes
        assert data.channels == ("Fx", "Fy", "Fz", "Tx", "Ty", "Tz")
        own = raw[raw["set"] == name].sort_values(["sample", "t"])
        np.testing.assert_array_equal(data.columns["x"].reshape(-1, 6), own[list(data.channels)])


LABELS = "sample_index,label\n0,a\n1,b\n"
FEATURES = "sample_index,time,x\n0,0,1\n0,1,2\n1,0,3\n1,1,4\n"
WRONG = {
    "no folder": ({}, {"path": "nowhere"}, "no such file", "nowhere"),
    "no file": ({}, {"path": "nowhere.csv"}, "no such file", "nowhere.csv"),
    "an empty folder": ({}, {"path": "."}, "no file is the training features", "no .csv file"),
    "two files could be": (
        {"train_a.csv": FEATURES, "train_b.csv": FEATURES}, {"path": "."},
        "several files could be the training features", "train_a.csv, train_b.csv",
    ),
    "two files of labels": (
        {"train.csv": FEATURES, "label_a.csv": LABELS, "label_b.csv": LABELS}, {"path": "."},
        "several files could be the labels", "data.labels=",
    ),
    "no labels": ({"train.csv": FEATURES}, {"path": "train.csv"}, "no column 'label'", "data.labels=FILE.csv"),
    "another name": ({"train.csv": FEATURES, "l.csv": LABELS}, {"path": "train.csv", "labels": "l.csv", "label": "y"},
                     "no column 'y' of labels", "data.label=y"),
    "no group": ({"train.csv": FEATURES, "l.csv": LABELS}, {"path": "train.csv", "labels": "l.csv", "group": "who"},
                 "no column 'who' of groups", "data.group=who"),
    "a sample without a label": ({"train.csv": FEATURES + "07,0,5\n", "l.csv": LABELS},
                                 {"path": "train.csv", "labels": "l.csv"}, "sample has no label", "sample 07"),
    "a label without a sample": ({"train.csv": FEATURES, "l.csv": LABELS + "2,a\n"},
                                 {"path": "train.csv", "labels": "l.csv"}, "label is of no sample", "line 4"),
    "two labels": ({"train.csv": FEATURES, "l.csv": LABELS + "1,a\n"},
                   {"path": "train.csv", "labels": "l.csv"}, "sample has two labels", "line 4"),
    "an empty label": ({"train.csv": FEATURES, "l.csv": LABELS.replace("1,b", "1,")},
                       {"path": "train.csv", "labels": "l.csv"}, "cell is empty", "line 3, column 'label'"),
    "a class that is not listed": ({"train.csv": FEATURES, "l.csv": LABELS},
                                   {"path": "train.csv", "labels": "l.csv", "classes": ("a", "c")},
                                   "outside the class list", "'b'"),
    "no such set": ({"train.csv": FEATURES, "l.csv": LABELS},
                    {"path": "train.csv", "labels": "l.csv", "where": {"time": 9}}, "no row has this value", "9"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_clear_error(tmp_path, monkeypatch, name):
    files, keys, what, detail = WRONG[name]
    monkeypatch.chdir(tmp_path)
    for file, text in files.items():
        Path(file).write_text(text)
    with pytest.raises(DataError, match=what) as caught:
        Challenge(**keys).load()
    assert detail in str(caught.value) and len(str(caught.value).splitlines()) <= 4
