from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from paceline.data.audit import audit, splits_from_json, splits_to_json
from paceline.data.config import SplitConfig
from paceline.data.dataset import dataset
from paceline.data.split import make_splits
from paceline.errors import DataError

pytestmark = pytest.mark.fast

Y = np.tile(["a", "b"], 100)


def data_set(**changes):
    x = np.random.default_rng(0).normal(size=(200, 4, 2))
    return dataset(**{"x": x, "y": Y, "lengths": np.full(200, 3), "channels": ["left", "right"], **changes})


def split_of(data, **config):
    return make_splits(data, SplitConfig(**config))[0]


def found(checks):
    return {check.name: (check.ok, check.detail) for check in checks}


def repeated(*pairs):
    x = np.array(data_set().columns["x"])
    for i, j in pairs:
        x[j] = x[i]
    return x


def test_sound_data_passes_every_check():
    data = data_set(group=np.arange(200))
    checks = audit(data, split_of(data, rule="group", val_fraction=0.2, test_fraction=0.2))
    assert all(check.ok for check in checks), checks
    assert found(checks)["parts are disjoint"][1] == "train 128, val 32, test 40"
    assert found(checks)["every sample is used"][1] == "0 of 200 samples are in no part"


def test_overlapping_parts_are_refused_naming_samples():
    data = data_set()
    split = split_of(data)
    overlapping = dataclasses.replace(split, val=np.sort(np.append(split.val, split.train[:4])))
    with pytest.raises(DataError, match="train and val share 4 samples") as caught:
        audit(data, overlapping)
    assert caught.value.got == ", ".join(f"sample {i}" for i in split.train[:3])


def test_equal_inputs_in_two_parts_are_refused_or_noted():
    split = split_of(data_set())
    pairs = [(int(split.train[k]), int(split.val[k])) for k in range(4)]
    data = data_set(x=repeated(*pairs))
    split = dataclasses.replace(split, fingerprint=split_of(data).fingerprint)
    with pytest.raises(DataError, match="4 samples repeat an input of another part") as caught:
        audit(data, split)
    assert caught.value.got == ", ".join(f"train {i} = val {j}" for i, j in pairs[:3]) + ", ..."
    assert caught.value.where == "data.duplicates"
    ok, detail = found(audit(data, split, duplicates="warn"))["no input is in two parts"]
    assert not ok and f"train {pairs[0][0]} = val {pairs[0][1]}" in detail


def test_a_difference_in_padding_alone_is_a_duplicate():
    data = data_set()
    split = split_of(data)
    x = np.random.default_rng(0).normal(size=(200, 4, 2))
    x[split.val[0], :3] = x[split.train[0], :3]  # step 3 is padding and differs
    data = data_set(x=x)
    with pytest.raises(DataError, match="1 sample repeats"):
        audit(data, dataclasses.replace(split, fingerprint=split_of(data).fingerprint))


def test_equal_inputs_within_a_part_are_only_counted():
    split = split_of(data_set())
    data = data_set(x=repeated((split.train[0], split.train[1])))
    checks = found(audit(data, dataclasses.replace(split, fingerprint=split_of(data).fingerprint)))
    ok, detail = checks["no input is in two parts"]
    assert ok and "1 sample repeats an input of the same part" in detail


def test_shared_groups_are_a_note_unless_the_rule_is_group():
    data = data_set(group=np.tile(["s1", "s2", "s3", "s4"], 50))
    split = split_of(data)
    ok, detail = found(audit(data, split))["no group is in two parts"]
    assert not ok and detail.startswith("4 groups are shared: s1 in train and val")
    with pytest.raises(DataError, match="let groups into two parts"):
        audit(data, dataclasses.replace(split, rule="group"))


def test_a_group_that_the_official_test_part_shares_is_refused_under_rule_group():
    data = data_set(group=np.repeat(np.arange(20), 10), test=[0])
    with pytest.raises(DataError, match=r"(?s)let groups.*0 in (train|val) and test"):
        audit(data, split_of(data, rule="group"))


def test_absent_classes_constant_channels_and_tiny_parts_are_notes():
    x = np.array(data_set().columns["x"])
    x[:, :, 1] = 2.5
    y = np.array(Y)
    split = split_of(data_set(), val_fraction=0.05)
    y[split.train] = "a"
    y[split.val] = "b"
    data = data_set(x=x, y=y)
    checks = found(audit(data, dataclasses.replace(split, fingerprint=split_of(data, rule="random").fingerprint)))
    assert checks["every class is in train"] == (False, "a 190, b 0")
    assert checks["every class is in val"] == (False, "a 0, b 10")
    assert checks["every channel varies in train"] == (False, "constant: right")
    assert checks["parts have at least 30 samples"] == (False, "val has 10 samples")


def test_samples_in_no_part_are_counted():
    data = data_set()
    split = split_of(data)
    ok, detail = found(audit(data, dataclasses.replace(split, train=split.train[5:])))["every sample is used"]
    assert not ok and detail == "5 of 200 samples are in no part"
    data = data_set(time=np.arange(200))
    first = make_splits(data, SplitConfig(rule="time"), n_folds=4)[0]
    checks = found(audit(data, first))
    assert checks["every sample is used"] == (True, "120 of 200 samples are in no part (expanding window)")
    assert checks["parts follow in time"] == (True, "train 0 to 39, val 40 to 79")


def test_parts_out_of_their_order_in_time_are_a_note():
    data = data_set(time=np.arange(200), test=[0])
    assert not found(audit(data, split_of(data, rule="time")))["parts follow in time"][0]


def test_a_split_of_other_data_is_refused():
    split = split_of(data_set())
    with pytest.raises(DataError, match="belongs to other data"):
        audit(data_set(x=np.ones((200, 4, 2))), split)


def test_splits_survive_json():
    data = data_set(test=np.arange(150, 200), source="a table")
    splits = make_splits(data, SplitConfig(), n_folds=3)
    checks = [audit(data, split) for split in splits]
    document = json.loads(json.dumps(splits_to_json(splits, data, checks)))
    assert (document["schema_version"], document["n"], document["seed"]) == (1, 200, 42)
    assert document["classes"] == ["a", "b"] and document["source"] == "a table"
    assert document["splits"][0]["class_counts"] == {"train": [50, 50], "val": [25, 25], "test": [25, 25]}
    back, back_checks = splits_from_json(document)
    assert back_checks == checks
    for one, other in zip(splits, back, strict=True):
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
        audit(data, other)


def test_members_with_their_own_seeds_have_no_common_seed():
    data = data_set()
    splits = [make_splits(data, SplitConfig(), seed=s)[0] for s in (1, 2)]
    document = splits_to_json(splits, data, [[], []])
    assert document["seed"] is None and [entry["seed"] for entry in document["splits"]] == [1, 2]


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(schema_version=2),
        lambda d: d.pop("schema_version"),
        lambda d: d.pop("splits"),
        lambda d: d.update(splits=None),
        lambda d: d.pop("fingerprint"),
        lambda d: d["splits"][0].pop("train"),
        lambda d: d["splits"][0].update(train=[0, 1.5]),
        lambda d: d["splits"][0].update(train=["0"]),
        lambda d: d["splits"][0].update(train=[True]),
        lambda d: d["splits"][0].update(train=None),
        lambda d: d["splits"][0].update(val=[-1]),
        lambda d: d["splits"][0].update(val=[200]),
        lambda d: d["splits"][0].update(val=[2**70]),
        lambda d: d["splits"][0].update(val=[3, 3]),
        lambda d: d["splits"][0].update(val=[4, 3]),
        lambda d: d["splits"][0].update(audit=[{}]),
        lambda d: d["splits"][0].update(seed="x"),
    ],
)
def test_a_damaged_document_is_refused(damage):
    data = data_set()
    splits = make_splits(data, SplitConfig())
    document = json.loads(json.dumps(splits_to_json(splits, data, [audit(data, splits[0])])))
    damage(document)
    with pytest.raises(DataError) as caught:
        splits_from_json(document, where="runs/a/splits.json")
    assert caught.value.where == "runs/a/splits.json"


def test_a_document_that_is_no_mapping_is_refused():
    with pytest.raises(DataError, match="schema_version"):
        splits_from_json([1])
