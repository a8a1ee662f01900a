from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import (
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    train_test_split,
)

from paceline.data.config import SplitConfig
from paceline.data.dataset import Dataset, dataset
from paceline.data.fingerprint import fingerprint
from paceline.data.split import make_splits
from paceline.errors import ConfigError, DataError

pytestmark = pytest.mark.fast


def labelled(counts, seed=0, **columns):
    """One sample per count and class, shuffled; x is the sample's own number, so no two are equal."""
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    return dataset(x=np.arange(len(y))[:, None], y=y, classes=[f"c{i}" for i in range(len(counts))], **columns)


def regression(n, **columns):
    return dataset(x=np.arange(n)[:, None], y=np.linspace(0, 1, n), **columns)


def grouped(sizes, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat([f"s{i}" for i in range(len(sizes))], sizes))
    y = rng.integers(0, classes, len(group))
    return dataset(x=np.arange(len(group))[:, None], y=y, classes=[f"c{i}" for i in range(classes)], group=group)


def assert_partition(split, n):
    together = np.concatenate([split.train, split.val, split.test])
    assert sorted(together.tolist()) == list(range(n))
    for part in (split.train, split.val, split.test):
        assert part.dtype == np.int64 and (np.diff(part) > 0).all()


@pytest.mark.parametrize("counts", [(56, 94, 511), (30, 30, 30), (2, 7, 40), (5, 5)])
@pytest.mark.parametrize("fraction", [0.15, 0.25, 0.5])
@pytest.mark.parametrize("seed", [0, 42])
def test_a_stratified_holdout_is_that_of_scikit_learn(counts, fraction, seed):
    data = labelled(counts)
    (split,) = make_splits(data, SplitConfig(val_fraction=fraction, seed=seed))
    train, val = train_test_split(
        np.arange(len(data)), test_size=fraction, stratify=data.columns["y"], random_state=seed
    )
    assert split.train.tolist() == sorted(train) and split.val.tolist() == sorted(val)
    assert_partition(split, len(data))


@pytest.mark.parametrize(("data", "rule"), [(labelled((20, 9)), "stratified"), (regression(29), "random")])
@pytest.mark.parametrize("n_folds", [None, 3])
def test_without_a_rule_classes_are_stratified_and_numbers_drawn_at_random(data, rule, n_folds):
    splits = make_splits(data, SplitConfig(), n_folds=n_folds)
    chosen = make_splits(data, SplitConfig(rule=rule), n_folds=n_folds)
    assert {split.rule for split in splits} == {rule}
    assert [split.val.tolist() for split in splits] == [split.val.tolist() for split in chosen]


def test_class_proportions_differ_by_at_most_one_sample():
    counts = np.array((56, 94, 511))
    (split,) = make_splits(data := labelled(counts), SplitConfig(val_fraction=0.1))
    found = np.bincount(data.columns["y"][split.val])
    assert (np.abs(found - counts * len(split.val) / len(data)) <= 1).all()


@pytest.mark.parametrize("counts", [(20, 30, 11), (5, 5), (9, 70)])
@pytest.mark.parametrize("n_folds", [2, 5])
def test_stratified_folds_are_those_of_scikit_learn(counts, n_folds):
    data = labelled(counts)
    splits = make_splits(data, SplitConfig(seed=7), n_folds=n_folds)
    y = data.columns["y"]
    expected = StratifiedKFold(n_folds, shuffle=True, random_state=7).split(y, y)
    for k, (split, (train, val)) in enumerate(zip(splits, expected, strict=True)):
        assert split.train.tolist() == train.tolist() and split.val.tolist() == val.tolist()
        assert (split.fold, split.n_folds) == (k, n_folds)


def test_random_splits_are_those_of_scikit_learn():
    data, rows = regression(23), np.arange(23)
    (split,) = make_splits(data, SplitConfig(rule="random", val_fraction=0.3, seed=3))
    train, _ = next(ShuffleSplit(1, test_size=0.3, random_state=3).split(rows))
    assert split.train.tolist() == sorted(train)
    splits = make_splits(data, SplitConfig(rule="random", seed=3), n_folds=4)
    for split, (_, val) in zip(splits, KFold(4, shuffle=True, random_state=3).split(rows), strict=True):
        assert split.val.tolist() == val.tolist()


def test_a_group_holdout_is_that_of_scikit_learn():
    data = grouped([3, 9, 1, 5, 5, 2, 8])
    (split,) = make_splits(data, SplitConfig(rule="group", val_fraction=0.3, seed=5))
    rows = np.arange(len(data))
    train, val = next(GroupShuffleSplit(1, test_size=0.3, random_state=5).split(rows, groups=data.group))
    assert split.train.tolist() == sorted(train) and split.val.tolist() == sorted(val)


@pytest.mark.parametrize("seed", range(5))
def test_group_folds_share_no_group_and_keep_class_proportions(seed):
    data = grouped([4] * 12 + [9, 9, 2, 1], classes=3, seed=seed)
    splits = make_splits(data, SplitConfig(rule="group", seed=seed), n_folds=4)
    assert sorted(np.concatenate([s.val for s in splits]).tolist()) == list(range(len(data)))
    overall = np.bincount(data.columns["y"]) / len(data)
    for split in splits:
        assert_partition(split, len(data))
        assert not set(data.group[split.train]) & set(data.group[split.val])
        found = np.bincount(data.columns["y"][split.val], minlength=3) / len(split.val)
        assert np.abs(found - overall).max() < 0.15


def test_group_folds_are_as_even_as_those_of_scikit_learn():
    def unevenness(data, parts):
        return np.std([np.bincount(data.columns["y"][val], minlength=3) for val in parts], axis=0).mean()

    ours, theirs = [], []
    for seed in range(10):
        data = grouped(np.random.default_rng(seed).integers(1, 12, 25), classes=3, seed=seed)
        splits = make_splits(data, SplitConfig(rule="group", seed=seed), n_folds=4)
        oracle = StratifiedGroupKFold(4, shuffle=True, random_state=seed)
        folds = oracle.split(data.columns["x"], data.columns["y"], data.group)
        ours.append(unevenness(data, [s.val for s in splits]))
        theirs.append(unevenness(data, [val for _, val in folds]))
    assert np.mean(ours) <= 1.05 * np.mean(theirs)


@pytest.mark.parametrize("seed", range(10))
def test_as_many_folds_as_groups_leave_one_group_out_each(seed):
    data = grouped([1, 2, 30, 4, 4, 4], seed=seed)
    splits = make_splits(data, SplitConfig(rule="group", seed=seed), n_folds=6)
    assert sorted(set(data.group[s.val].tolist()).pop() for s in splits) == [f"s{i}" for i in range(6)]
    assert all(len(set(data.group[s.val])) == 1 for s in splits)


def test_group_folds_of_targets_are_even_in_size():
    data = regression(30, group=np.repeat(np.arange(10), 3))
    splits = make_splits(data, SplitConfig(rule="group"), n_folds=5)
    assert [len(s.val) for s in splits] == [6] * 5


def test_the_last_samples_in_time_validate_and_test():
    time = np.random.default_rng(0).permutation(20)
    config = SplitConfig(rule="time", val_fraction=0.25, test_fraction=0.2)
    (split,) = make_splits(data := regression(20, time=time), config)
    assert sorted(data.time[split.test]) == [16, 17, 18, 19]
    assert sorted(data.time[split.val]) == [12, 13, 14, 15]
    assert_partition(split, 20)


def test_time_folds_are_the_expanding_window_of_scikit_learn():
    data = regression(23, time=np.arange(23))
    splits = make_splits(data, SplitConfig(rule="time"), n_folds=4)
    for split, (train, val) in zip(splits, TimeSeriesSplit(4).split(np.arange(23)), strict=True):
        assert split.train.tolist() == train.tolist() and split.val.tolist() == val.tolist()


def test_equal_times_stay_in_one_part():
    time = np.repeat(np.array(["2001", "2002", "2003"], dtype="M8[Y]"), 4)
    (split,) = make_splits(data := regression(12, time=time), SplitConfig(rule="time", val_fraction=0.2))
    assert set(data.time[split.val].astype(str)) == {"2003"} and len(split.val) == 4
    splits = make_splits(data, SplitConfig(rule="time"), n_folds=2)
    assert [len(s.train) for s in splits] == [4, 8]


def test_values_of_a_column_make_the_parts():
    data = regression(6, group=["B5", "B6", "B7", "B5", "B6", "B8"])
    config = SplitConfig(rule="value", values={"val": ["B6"], "test": ["B8"]})
    (split,) = make_splits(data, config)
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([0, 2, 3], [1, 4], [5])


@pytest.mark.parametrize("value", [25, 25.0, "25", "25.0"])
def test_values_of_numbers_compare_as_numbers(value):
    columns = {"x": np.ones((4, 1), dtype=np.float32), "temperature": np.array([10, 25, 40, 25])}
    config = SplitConfig(rule="value", column="temperature", values={"val": [value]})
    assert make_splits(Dataset(columns=columns), config)[0].val.tolist() == [1, 3]


def test_a_value_that_tests_leaves_whole_groups_to_validate():
    """C90: with `values.test` alone, groups of the rest validate, or make the folds."""
    group = np.repeat(["a", "b", "c", "d", "e", "f"], 4)
    x = np.arange(24, dtype=np.float32)[:, None]
    columns = {"x": x, "y": x[:, 0], "celsius": np.repeat([10.0, 10, 25, 25, 40, 40], 4)}
    data = Dataset(columns=columns, group=group)
    config = SplitConfig(rule="value", column="celsius", values={"test": [25]}, val_fraction=0.5)
    (split,) = make_splits(data, config)
    assert set(group[split.test]) == {"c", "d"} and split.rule == "value"
    assert len(set(group[split.val])) == 2 and not set(group[split.val]) & set(group[split.train])
    assert_partition(split, 24)
    folds = make_splits(data, config, n_folds=4)
    assert sorted("".join(np.unique(group[fold.val])) for fold in folds) == ["a", "b", "e", "f"]
    alone = make_splits(Dataset(columns=columns), config)[0]  # without groups, samples are drawn
    assert len(alone.val) == 8 and len(alone.train) == 8 and set(alone.test) == set(split.test)


def test_the_official_test_part_is_set_aside_before_folding():
    data = labelled((12, 12), test=[3, 4, 20])
    splits = make_splits(data, SplitConfig(), n_folds=3)
    for split in splits:
        assert split.test.tolist() == [3, 4, 20]
        assert_partition(split, 24)
    assert sorted(np.concatenate([s.val for s in splits]).tolist()) == [i for i in range(24) if i not in (3, 4, 20)]


@pytest.mark.parametrize("rule", ["stratified", "random", "group"])
def test_a_test_fraction_is_set_aside_by_the_rule(rule):
    data = grouped([4] * 10)
    (split,) = make_splits(data, SplitConfig(rule=rule, test_fraction=0.2, val_fraction=0.25))
    assert_partition(split, 40)
    assert (len(split.test), len(split.val)) == (8, 8)
    if rule == "group":
        assert not set(data.group[split.test]) & set(data.group[split.train])


def test_a_members_own_seed_redraws_all_but_the_test_part():
    data, config = labelled((20, 20)), SplitConfig(test_fraction=0.25)
    (one,), (two,), (again,) = (make_splits(data, config, seed=s) for s in (1, 2, 1))
    assert one.test.tolist() == two.test.tolist() == make_splits(data, config)[0].test.tolist()
    assert one.val.tolist() != two.val.tolist() and one.val.tolist() == again.val.tolist()
    assert (one.seed, two.seed) == (1, 2)


def test_a_split_knows_its_data_and_cannot_be_changed():
    (split,) = make_splits(data := labelled((5, 5)), SplitConfig())
    assert split.fingerprint == fingerprint(data) and split.fold is None and split.n_folds is None
    with pytest.raises(ValueError, match="read-only"):
        split.train[0] = 9


def test_the_indices_drawn_today_are_drawn_for_ever():
    data = dataset(x=np.arange(16)[:, None], y=["a", "b"] * 8)
    (split,) = make_splits(data, SplitConfig())
    assert split.val.tolist() == [3, 6, 12, 13] and split.test.size == 0


STRATIFIED = {"rule": "stratified"}
BAD = {
    "class of one": (labelled((1, 9)), {}, {}, "at least 2 samples of each class", "class 'c0' has 1"),
    "class of one, other classes absent": (labelled((5, 0, 1)), {}, {}, "at least 2", "class 'c2' has 1"),
    "class smaller than the folds": (labelled((4, 9)), {}, {"n_folds": 5}, "5 folds needs at least 5", "'c0' has 4"),
    "class smaller for the test part": (labelled((1, 9)), {"test_fraction": 0.5}, {}, "at least 2", "'c0' has 1"),
    "fewer validation samples than classes": (
        labelled((5, 5, 5)),
        {"val_fraction": 0.1},
        {},
        "13 and 2 samples cannot hold 3",
        "val_fraction",
    ),
    "class left without training": (labelled((2, 98)), {"val_fraction": 0.97}, {}, "'c0' is too small", "2 samples"),
    "stratified targets": (regression(9), STRATIFIED, {}, "needs class labels", "data.split.rule=random"),
    "stratified folds of targets": (regression(9), STRATIFIED, {"n_folds": 3}, "needs class labels", "numeric targets"),
    "stratified without labels": (dataset(x=np.ones((3, 2))), STRATIFIED, {}, "needs class labels", "no labels"),
    "no group column": (labelled((5, 5)), {"rule": "group"}, {}, "no groups to split by", "data.split.rule"),
    "fewer groups than folds": (grouped([5, 5]), {"rule": "group"}, {"n_folds": 3}, "3 folds need", "got: 2 groups"),
    "one group": (grouped([5]), {"rule": "group"}, {}, "1 groups leave none to train on", "val_fraction"),
    "no time column": (regression(5), {"rule": "time"}, {}, "no times to split by", "time"),
    "one time": (regression(5, time=[1] * 5), {"rule": "time"}, {}, "val part has no samples|train part has", "time"),
    "fewer samples than folds": (regression(3), {"rule": "random"}, {"n_folds": 4}, "at least 4 samples", "3 samples"),
    "fewer times than folds": (
        regression(4, time=range(4)),
        {"rule": "time"},
        {"n_folds": 4},
        "at least 5 samples",
        "4 samples",
    ),
    "one sample": (regression(1), {"rule": "random"}, {}, "1 samples leave none to train on", "val_fraction"),
    "all is test": (labelled((2, 2), test=range(4)), {}, {}, "takes every sample", "4 samples"),
    "all is test, grouped": (
        regression(2, group=[1, 2], test=[0, 1]),
        {"rule": "group"},
        {"n_folds": 2},
        "takes every sample",
        "2 samples",
    ),
    "no such value": (
        grouped([3, 3]),
        {"rule": "value", "values": {"val": ["S0"]}},
        {},
        "no sample has this value of 'group'",
        "values.val\ngot: S0\ntry: one of: s0, s1",
    ),
    "text among numbers": (
        regression(3, group=[1, 2, 3]),
        {"rule": "value", "values": {"val": [1], "test": ["two"]}},
        {},
        "no sample has this value",
        "values.test",
    ),
    "no such column": (
        grouped([3, 3]),
        {"rule": "value", "column": "grup", "values": {"val": ["s0"]}},
        {},
        "no column 'grup'",
        "try: group",
    ),
    "values take all": (
        grouped([3, 3]),
        {"rule": "value", "values": {"val": ["s0", "s1"]}},
        {},
        "train part has no samples",
        "value",
    ),
    "value only in the test part": (
        regression(3, group=[1, 2, 3], test=[2]),
        {"rule": "value", "values": {"val": [3]}},
        {},
        "no sample has this value",
        "got: 3",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_data_that_cannot_be_split_is_refused_with_the_reason(name):
    data, config, arguments, what, detail = BAD[name]
    with pytest.raises(DataError, match=what) as caught:
        make_splits(data, SplitConfig(**config), **arguments)
    assert detail in str(caught.value)
    assert caught.value.where.startswith(("data.split", "members.folds"))


BAD_NUMBERS = {
    "one fold": (labelled((5, 5)), {}, {"n_folds": 1}, "members.folds"),
    "negative seed": (labelled((5, 5)), {}, {"seed": -1}, "data.split.seed"),
    "seed too large": (labelled((5, 5)), {}, {"seed": 2**32}, "data.split.seed"),
    "second test part": (labelled((5, 5), test=[0]), {"test_fraction": 0.1}, {}, "data.split.test_fraction"),
    "second test values": (
        regression(3, group=[1, 2, 3], test=[2]),
        {"rule": "value", "values": {"val": [1], "test": [2]}},
        {},
        "data.split.values.test",
    ),
    "folds of values": (grouped([3, 3]), {"rule": "value", "values": {"val": ["s0"]}}, {"n_folds": 2}, "members.folds"),
}


@pytest.mark.parametrize("name", BAD_NUMBERS)
def test_numbers_that_cannot_be_meant_are_config_errors(name):
    data, config, arguments, where = BAD_NUMBERS[name]
    with pytest.raises(ConfigError) as caught:
        make_splits(data, SplitConfig(**config), **arguments)
    assert caught.value.where == where
