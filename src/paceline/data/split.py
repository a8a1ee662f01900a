"""Splits as values: which samples train, validate and test, by which rule, from which data.

Shapes: N samples. The test part is set aside first; a holdout or folds then divide the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.config.suggest import hint as name_hint
from paceline.data import draw
from paceline.data.config import SplitConfig
from paceline.data.dataset import Dataset
from paceline.data.fingerprint import fingerprint
from paceline.errors import ConfigError, DataError

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Sorted int64 indices of the three parts. `fold` counts from 0, None for a holdout. `test` may be empty.

    `rule` is the one that was used, never `auto`. `fingerprint` is that of the whole data set.
    """

    rule: str
    seed: int
    fold: int | None = None
    n_folds: int | None = None
    train: Ints
    val: Ints
    test: Ints
    fingerprint: str


def make_splits(
    dataset: Dataset, config: SplitConfig, *, n_folds: int | None = None, seed: int | None = None
) -> list[Split]:
    """Return one holdout split, or `n_folds` splits of which each sample outside the test part validates once.

    `seed` overrides `config.seed` for training and validation. The test part always comes from `config.seed`, so
    that no member trains on another member's test samples. Rule `time` with folds is an expanding window: fold k
    trains on all that lies before its validation block, and the first block validates never.

    Raises `DataError` where the data cannot be split so, `ConfigError` where the numbers of the config cannot be meant.
    """
    seed = config.seed if seed is None else seed
    if not 0 <= seed < 2**32:
        raise ConfigError("a split seed must be in 0..2**32-1", where="data.split.seed", got=seed)
    if n_folds is not None and n_folds < 2:
        raise ConfigError("cross-validation needs at least 2 folds", where="members.folds", got=n_folds)
    config = _settled(dataset, config)
    test = _test_part(dataset, config)
    rest = np.setdiff1d(np.arange(len(dataset)), test)
    if not len(rest):
        raise DataError("the test part takes every sample", where="data.split", got=f"{len(test)} samples")
    inner = _of_the_rest(dataset, config, test, rest)
    if n_folds is None:
        held = _held_out(dataset, inner, rest, inner.val_fraction, seed, "val")
        parts = [(np.setdiff1d(rest, held), held)]
    else:
        parts = _folds(dataset, inner, rest, n_folds, seed)
    splits = []
    for k, (train, val) in enumerate(parts):
        _refuse_empty({"train": train, "val": val}, config.rule)
        fold = None if n_folds is None else k
        arrays = {"train": _index(train), "val": _index(val), "test": _index(test)}
        mark = fingerprint(dataset)
        splits.append(Split(rule=config.rule, seed=seed, fold=fold, n_folds=n_folds, fingerprint=mark, **arrays))
    return splits


def _settled(dataset: Dataset, config: SplitConfig) -> SplitConfig:
    """Return the config with the rule that `auto` stands for."""
    if config.rule != "auto":
        return config
    return config.model_copy(update={"rule": "stratified" if _has_classes(dataset) else "random"})


def _of_the_rest(dataset: Dataset, config: SplitConfig, test: Ints, rest: Ints) -> SplitConfig:
    """Return the config by which what the test part leaves is divided.

    Where a value chooses the test part alone, that is by groups if there are any; none of them may then be in the test
    part too, or the figure on it would be of known groups.
    """
    if config.rule != "value" or config.values.val:
        return config
    if dataset.group is None:
        return _settled(dataset, config.model_copy(update={"rule": "auto"}))
    both = np.intersect1d(dataset.group[test], dataset.group[rest])
    if both.size:
        listed = ", ".join(map(str, both[:3].tolist())) + ", ..." * (both.size > 3)
        raise DataError("groups have samples both in the test part and outside it", where="data.split.values.test",
                        got=listed, hint="a column that is constant in a group, or name values.val too")  # fmt: skip
    return config.model_copy(update={"rule": "group"})


def _test_part(dataset: Dataset, config: SplitConfig) -> Ints:
    everything = np.arange(len(dataset))
    if dataset.test is not None:
        if config.test_fraction > 0 or config.values.test:
            key = "data.split.test_fraction" if config.test_fraction > 0 else "data.split.values.test"
            raise ConfigError("the data has an official test part already", where=key, hint="leave this key out")
        return np.asarray(dataset.test, dtype=np.int64)
    if config.rule == "value":
        return _with_values(dataset, config, everything, "test")
    if config.test_fraction > 0:
        return _held_out(dataset, config, everything, config.test_fraction, config.seed, "test")
    return np.empty(0, dtype=np.int64)


def _held_out(dataset: Dataset, config: SplitConfig, rest: Ints, fraction: float, seed: int, part: str) -> Ints:
    """Return the samples of `rest` that leave training for `part`."""
    rule: str = config.rule
    if rule == "value":
        return _with_values(dataset, config, rest, part)
    codes = None
    if rule == "group":
        codes = _group_codes(dataset, rest)
    elif rule == "stratified":
        codes = _class_codes(dataset, rest, 2, "data.split.rule")
    n = len(rest) if rule != "group" or codes is None else int(codes.max()) + 1
    n_held = math.ceil(fraction * n)
    if n_held >= n:
        unit = "groups" if rule == "group" else "samples"
        what = f"{n} {unit} leave none to train on when {fraction:g} of them go to the {part} part"
        raise DataError(what, where=f"data.split.{part}_fraction", got=fraction)
    if rule == "time":
        order, times = _in_time(dataset, rest)
        return order[draw.time_cut(times, n - n_held) :]
    if codes is None:
        return rest[draw.random_holdout(n, n_held, seed)]
    if rule == "group":
        return rest[draw.group_holdout(codes, n_held, seed)]
    return _stratified(dataset, rest, codes, n_held, seed, part)


def _stratified(dataset: Dataset, rest: Ints, codes: Ints, n_held: int, seed: int, part: str) -> Ints:
    n_classes = int(codes.max()) + 1
    if min(n_held, len(rest) - n_held) < n_classes:
        what = f"a stratified split into {len(rest) - n_held} and {n_held} samples cannot hold {n_classes} classes"
        raise DataError(what, where=f"data.split.{part}_fraction", hint="another fraction, or data.split.rule=random")
    held = draw.stratified_holdout(codes, n_held, seed)
    absent = np.flatnonzero(np.bincount(np.delete(codes, held), minlength=n_classes) == 0)
    if absent.size:
        name = _class_names(dataset, rest)[absent[0]]
        what = f"class {name!r} is too small: all its samples went to the {part} part"
        raise DataError(what, where=f"data.split.{part}_fraction", got=f"{np.bincount(codes)[absent[0]]} samples")
    return rest[held]


def _folds(dataset: Dataset, config: SplitConfig, rest: Ints, n_folds: int, seed: int) -> list[tuple[Ints, Ints]]:
    if config.rule == "value":
        fix = "data.split.rule=group, with as many folds as groups to leave one out"
        raise ConfigError("rule `value` makes one split, not folds", where="members.folds", got=n_folds, hint=fix)
    if config.rule == "time":
        return _expanding_window(dataset, rest, n_folds)
    if config.rule == "stratified":
        codes = _class_codes(dataset, rest, n_folds, "members.folds")
        folds = draw.stratified_folds(codes, n_folds, seed)
    elif config.rule == "group":
        groups = _group_codes(dataset, rest)
        if groups.max() + 1 < n_folds:
            raise DataError(
                f"{n_folds} folds need as many groups", where="members.folds", got=f"{groups.max() + 1} groups"
            )
        codes = np.zeros(len(rest), dtype=np.int64)
        if _has_classes(dataset):
            codes = np.unique(dataset.columns["y"][rest], return_inverse=True)[1]
        folds = draw.group_folds(groups, codes, n_folds, seed)
    else:
        _refuse_fewer_samples(len(rest), n_folds)
        folds = draw.random_folds(len(rest), n_folds, seed)
    return [(rest[folds != k], rest[folds == k]) for k in range(n_folds)]


def _expanding_window(dataset: Dataset, rest: Ints, n_folds: int) -> list[tuple[Ints, Ints]]:
    """Blocks as in scikit-learn's `TimeSeriesSplit`; a boundary moves where it would divide equal times."""
    _refuse_fewer_samples(len(rest), n_folds + 1)
    order, times = _in_time(dataset, rest)
    size = len(order) // (n_folds + 1)
    cuts = [draw.time_cut(times, len(order) - k * size) for k in range(n_folds, -1, -1)]
    return [(order[:start], order[start:end]) for start, end in pairwise(cuts)]


def _refuse_fewer_samples(n: int, needed: int) -> None:
    if n < needed:
        raise DataError(f"these folds need at least {needed} samples", where="members.folds", got=f"{n} samples")


def _has_classes(dataset: Dataset) -> bool:
    y = dataset.columns.get("y")
    return y is not None and y.ndim == 1 and y.dtype.kind in "iu"


def _class_codes(dataset: Dataset, rest: Ints, needed: int, where: str) -> Ints:
    if not _has_classes(dataset):
        got = "numeric targets" if "y" in dataset.columns else "no labels"
        fix = "data.split.rule=random"
        raise DataError("a stratified split needs class labels", where="data.split.rule", got=got, hint=fix)
    _, codes, counts = np.unique(dataset.columns["y"][rest], return_inverse=True, return_counts=True)
    small = np.flatnonzero(counts < needed)
    if small.size:
        names = _class_names(dataset, rest)
        listed = ", ".join(f"class {names[c]!r} has {counts[c]}" for c in small[:5])
        purpose = "a stratified split" if where == "data.split.rule" else f"{needed} folds"
        fix = "merge or drop the class, fewer folds, or data.split.rule=random"
        raise DataError(f"{purpose} needs at least {needed} samples of each class", where=where, got=listed, hint=fix)
    found: Ints = codes
    return found


def _class_names(dataset: Dataset, rest: Ints) -> list[str]:
    present = np.unique(dataset.columns["y"][rest])
    return [dataset.classes[c] if dataset.classes else str(c) for c in present]


def _group_codes(dataset: Dataset, rest: Ints) -> Ints:
    if dataset.group is None:
        fix = "give the data a group column, or data.split.rule=auto"
        raise DataError("the data has no groups to split by", where="data.split.rule", got="group", hint=fix)
    codes: Ints = np.unique(dataset.group[rest], return_inverse=True)[1]
    return codes


def _in_time(dataset: Dataset, rest: Ints) -> tuple[Ints, NDArray[Any]]:
    if dataset.time is None:
        fix = "give the data a time column, or another rule"
        raise DataError("the data has no times to split by", where="data.split.rule", got="time", hint=fix)
    order = rest[np.argsort(dataset.time[rest], kind="stable")]
    return order, dataset.time[order]


def _with_values(dataset: Dataset, config: SplitConfig, rest: Ints, part: str) -> Ints:
    """Return the samples of `rest` whose value of the column is one of those named; 25 and 25.0 are equal."""
    wanted = config.values.val if part == "val" else config.values.test
    column = dataset.group if config.column == "group" else dataset.columns.get(config.column)
    if column is None or column.ndim != 1:
        valid = [name for name, c in dataset.columns.items() if c.ndim == 1]
        valid += [] if dataset.group is None else ["group"]
        what = f"the data has no column {config.column!r} with one value per sample"
        raise DataError(what, where="data.split.column", hint=name_hint(config.column, valid))
    normal: Callable[[Any], Any] = _number if column.dtype.kind in "iuf" else str
    present, codes = np.unique(column[rest], return_inverse=True)
    known = {normal(value): code for code, value in enumerate(present.tolist())}
    for value in wanted:
        if normal(value) not in known:
            fix = name_hint(str(value), [str(v) for v in present[:1000].tolist()])
            what = f"no sample has this value of {config.column!r}"
            raise DataError(what, where=f"data.split.values.{part}", got=str(value), hint=fix)
    return rest[np.isin(codes, [known[normal(value)] for value in wanted])]


def _number(value: str | int | float) -> float | str:
    try:
        return float(value)
    except ValueError:
        return str(value)


def _index(part: Ints) -> Ints:
    sorted_part = np.sort(part).astype(np.int64)
    sorted_part.flags.writeable = False
    return sorted_part


def _refuse_empty(parts: dict[str, Ints], rule: str) -> None:
    for name, part in parts.items():
        if not len(part):
            raise DataError(f"the {name} part has no samples", where="data.split.rule", got=rule)
