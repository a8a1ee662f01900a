"""A data set in memory: columns of equal length, axis 0 the samples, checked once on the way in.

Shapes: N samples, T steps, F features (channels). Indices in messages count from 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paceline.config.suggest import hint as name_hint
from paceline.data.config import Missing
from paceline.data.plain import checked_dtype, clean_of, numpy_array, official_test, plain_array, posterior_of, where_of
from paceline.data.target import with_scales
from paceline.errors import DataError
from paceline.types import DataSpec

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Columns of N samples and what is known about them. Arrays are read-only views of those given.

    columns: `x` float (N, T, F) or (N, F), NaN where a value is missing; `mask` bool (N, T), True where valid, only for
    variable length; `y` int64 class index (N,) or float target (N, ...); other names are free.
    classes: names by class index, () for regression. channels: names of the last axis of `x`, or ().
    group: (N,) the group of each sample, for grouped splits. time: (N,) numbers or datetime64, for splits by time.
    test: sorted indices of the official test part, or None. ids: (N,) texts that name the samples.
    posterior: (N, C) P(class | sample) of the process that made the data, where it is known: see `data.references`.
    clean: shaped as a float target `y`, the target without its noise, where the process that made it is known.
    source: where the data comes from, in words. reading: what reading new input of this kind needs besides the config,
    such as the codes of words, as plain values; it is kept with the weights.

    Raises `DataError` where shapes, dtypes or indices do not fit together. Values are checked by `dataset`.
    """

    columns: Mapping[str, Array]
    classes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    group: Array | None = None
    time: Array | None = None
    test: Array | None = None
    ids: Array | None = None
    posterior: Array | None = None
    clean: Array | None = None
    source: str = ""
    reading: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {name: np.asarray(column) for name, column in self.columns.items()}
        n = _check_columns(columns, self.source)
        _check_names(columns, self.classes, self.channels, self.source)
        group = None if self.group is None else _per_sample("group", self.group, n, self.source)
        time = None if self.time is None else _per_sample("time", self.time, n, self.source)
        if time is not None:
            checked_dtype(time, "iufM", "time", self.source, "numbers or datetime64")
        test = None if self.test is None else official_test(self.test, n, self.source)
        ids = None if self.ids is None else _per_sample("ids", self.ids, n, self.source).astype(str)
        shape = (n, len(self.classes))
        posterior = None if self.posterior is None else posterior_of(self.posterior, shape, self.source)
        clean = None if self.clean is None else clean_of(self.clean, columns.get("y"), self.source)
        found = {"group": group, "time": time, "test": test, "ids": ids, "posterior": posterior, "clean": clean}
        for name, value in found.items():
            object.__setattr__(self, name, None if value is None else _read_only(value))
        object.__setattr__(self, "columns", {name: _read_only(column) for name, column in columns.items()})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def spec(self, train_idx: Array) -> DataSpec:
        """What a model may know: the shape of one sample per column, names, and what the training part tells."""
        counts: tuple[int, ...] = ()
        if self.classes and "y" in self.columns:
            found = np.bincount(self.columns["y"][train_idx], minlength=len(self.classes))
            counts = tuple(int(c) for c in found)
        shapes = {name: tuple(column.shape[1:]) for name, column in self.columns.items()}
        spec = DataSpec(shapes=shapes, classes=self.classes, channels=self.channels, class_counts=counts)
        return spec if self.classes else with_scales(spec, self.columns, train_idx)


def dataset(
    *,
    x: ArrayLike,
    y: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    group: ArrayLike | None = None,
    time: ArrayLike | None = None,
    channels: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    test: ArrayLike | None = None,
    ids: ArrayLike | None = None,
    posterior: ArrayLike | None = None,
    source: str = "",
    dtype: Literal["float32", "float64"] = "float32",
    missing: Missing = "refuse",
    reading: Mapping[str, Any] | None = None,
) -> Dataset:
    """Check raw arrays and turn them into a `Dataset`. `x` and `y` are copied.

    x: numbers, (N, T, F) or (N, F); converted to `dtype`. Every valid value must be finite in `dtype`.
    lengths: (N,) integers in 1..T; steps from there on are padding: their values are ignored and become 0.
    y: text or integers (N,) are class labels; floats (N,) or (N, K) are targets; None means no labels.
    classes: the class names by index. Given, integer labels are names if all the names are integers (`"1"`), and
        indices otherwise. Not given, the names are the sorted labels.
    test: indices of the official test part, or a bool array (N,).
    missing: `mask` lets values of x be NaN, which then stand for missing ones; `data.missing` says how they are filled.
    ids, posterior, reading: see `Dataset`.

    Raises `DataError` for anything that does not fit, naming the sample.
    """
    raw = _numbers(x, source)
    names = () if classes is None else tuple(str(name) for name in classes)
    channel_names = () if channels is None else tuple(str(name) for name in channels)
    mask = None if lengths is None else _mask(lengths, raw.shape, source)
    columns = {"x": _finite(raw, mask, np.dtype(dtype), channel_names, source, missing)}
    if mask is not None:
        columns["mask"] = mask
    if y is not None:
        columns["y"], names = _targets(y, names, np.dtype(dtype), source)
    return Dataset(
        columns=columns,
        classes=names,
        channels=channel_names,
        group=None if group is None else plain_array(group, "group", source),
        time=None if time is None else plain_array(time, "time", source),
        test=None if test is None else numpy_array(test, "test", source),
        ids=None if ids is None else plain_array(ids, "ids", source),
        posterior=None if posterior is None else numpy_array(posterior, "posterior", source),
        source=source,
        reading=dict(reading or {}),
    )


def _numbers(x: ArrayLike, source: str) -> Array:
    raw = numpy_array(x, "x", source, "pad the sequences to one length and pass lengths")
    checked_dtype(raw, "biuf", "x", source, "numbers")
    if raw.ndim not in (2, 3):
        fix = "(samples, steps, channels) or (samples, features)"
        raise DataError("x has the wrong number of axes", where=where_of("x", source), got=raw.shape, hint=fix)
    if 0 in raw.shape:
        raise DataError("x is empty", where=where_of("x", source), got=raw.shape)
    return raw


def _mask(lengths: ArrayLike, shape: tuple[int, ...], source: str) -> Array:
    where = where_of("lengths", source)
    found = numpy_array(lengths, "lengths", source)
    if len(shape) != 3:
        raise DataError(
            "lengths need x with a step axis", where=where, got=shape, hint="x of (samples, steps, channels)"
        )
    if found.shape != shape[:1]:
        raise DataError(f"lengths do not fit the {shape[0]} samples of x", where=where, got=found.shape)
    checked_dtype(found, "iu", "lengths", source, "integers")
    wrong = np.flatnonzero((found < 1) | (found > shape[1]))
    if wrong.size:
        what = f"{wrong.size} lengths are outside 1..{shape[1]}, the number of steps of x"
        raise DataError(what, where=where, got=f"{found[wrong[0]]} at sample {wrong[0]}")
    return np.arange(shape[1]) < found[:, None]


def _finite(
    raw: Array, mask: Array | None, dtype: np.dtype[Any], channels: tuple[str, ...], source: str, missing: Missing
) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        out = np.array(raw, dtype=dtype, order="C")
    if mask is not None:
        out[~mask] = 0
    bad = ~np.isfinite(out)
    if missing == "mask":
        bad &= ~np.isnan(out)
    if not bad.any():
        out[np.isnan(out)] = np.nan  # one bit pattern, as fingerprints are of bits
        return out
    first = np.unravel_index(int(bad.argmax()), bad.shape)
    channel = f"channel {channels[first[-1]]!r}" if len(channels) == out.shape[-1] else f"channel {first[-1]}"
    place = f"sample {first[0]}, " + (f"step {first[1]}, " if out.ndim == 3 else "") + channel
    value = raw[first]
    reason = f"{value}" if not np.isfinite(value) else f"{value} (too large for {dtype})"
    what = f"x has {int(bad.sum())} values that are not finite, in {len(np.unique(np.nonzero(bad)[0]))} samples"
    fix = "data.missing=mask, or fill them" if np.isnan(value) else "correct or drop them"
    fix += "" if mask is not None or out.ndim == 2 else "; if they are padding, pass lengths"
    raise DataError(what, where=where_of("x", source), got=f"{reason} at {place}", hint=fix)


def _targets(y: ArrayLike, names: tuple[str, ...], dtype: np.dtype[Any], source: str) -> tuple[Array, tuple[str, ...]]:
    """Return class indices and class names, or float targets and ()."""
    found = plain_array(y, "y", source)
    checked_dtype(found, "biufU", "y", source, "text, integers or floats")
    if found.dtype.kind == "f":
        return _float_targets(found, names, dtype, source), ()
    if found.ndim != 1:
        raise DataError("class labels must be one per sample", where=where_of("y", source), got=found.shape)
    labels = found.astype(np.int64) if found.dtype.kind in "bi" else found
    distinct, codes = np.unique(labels, return_inverse=True)
    if not names:
        if len(distinct) == 1:
            fix = "classification needs two classes; numeric targets are floats"
            raise DataError(
                "every sample has the same label", where=where_of("y", source), got=str(distinct[0]), hint=fix
            )
        return codes.astype(np.int64), tuple(str(label) for label in distinct)
    index_of = _index_of_label(names, distinct)
    table = np.array([index_of.get(label.item(), -1) for label in distinct], dtype=np.int64)
    index: Array = table[codes]
    outside = np.flatnonzero(index < 0)
    if outside.size:
        label = str(labels[outside[0]])
        what = f"{outside.size} labels are outside the class list"
        got = f"{label!r} at sample {outside[0]}"
        raise DataError(what, where=where_of("y", source), got=got, hint=name_hint(label, names))
    return index, names


def _index_of_label(names: tuple[str, ...], distinct: Array) -> dict[Any, int]:
    if distinct.dtype.kind == "U":
        return {name: i for i, name in enumerate(names)}
    if all(name.lstrip("-").isdecimal() and str(int(name)) == name for name in names):
        return {int(name): i for i, name in enumerate(names)}
    return {i: i for i in range(len(names))}


def _float_targets(found: Array, names: tuple[str, ...], dtype: np.dtype[Any], source: str) -> Array:
    where = where_of("y", source)
    if names:
        fix = "integers or text for classes, no class list for regression"
        raise DataError("y holds floats although classes are named", where=where, got=str(found.dtype), hint=fix)
    with np.errstate(over="ignore"):
        out = np.array(found, dtype=dtype, order="C")
    if out.size == 0:
        raise DataError("y is empty", where=where, got=out.shape)
    bad = ~np.isfinite(out.reshape(len(out), -1)).all(axis=1)
    if bad.any():
        what = f"y has {int(bad.sum())} samples whose target is not finite"
        raise DataError(what, where=where, got=f"{found[bad.argmax()]} at sample {bad.argmax()}")
    return out


def _check_columns(columns: Mapping[str, Array], source: str) -> int:
    if not columns:
        raise DataError("a data set needs at least one column", where=source)
    lengths = {name: len(column) if column.ndim else 0 for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError("columns differ in their number of samples", where=source, got=lengths)
    for name, column in columns.items():
        checked_dtype(column, "biufcUSM", name, source, "plain values")
    n = next(iter(lengths.values()))
    if n == 0:
        raise DataError("the data set has no samples", where=source)
    mask, x = columns.get("mask"), columns.get("x")
    if mask is not None:
        checked_dtype(mask, "b", "mask", source, "bool, True where valid")
        if x is not None and x.shape[:2] != mask.shape:
            raise DataError("mask does not fit x", where=where_of("mask", source), got=f"{mask.shape} for {x.shape}")
    return n


def _check_names(
    columns: Mapping[str, Array], classes: tuple[str, ...], channels: tuple[str, ...], source: str
) -> None:
    for word, names in (("classes", classes), ("channels", channels)):
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        if repeated:
            raise DataError(f"{word} must have distinct names", where=where_of(word, source), got=", ".join(repeated))
    x, y = columns.get("x"), columns.get("y")
    if channels and x is not None and len(channels) != x.shape[-1]:
        what = f"{len(channels)} channel names for {x.shape[-1]} channels of x"
        raise DataError(what, where=where_of("channels", source), got=", ".join(channels))
    if classes and y is not None:
        checked_dtype(y, "iu", "y", source, "class indices (integers)")
        wrong = np.flatnonzero((y < 0) | (y >= len(classes)))
        if y.ndim != 1 or wrong.size:
            what = f"y must hold one class index in 0..{len(classes) - 1} per sample"
            got = f"{y[wrong[0]]} at sample {wrong[0]}" if y.ndim == 1 else y.shape
            raise DataError(what, where=where_of("y", source), got=got)


def _per_sample(name: str, values: ArrayLike, n: int, source: str) -> Array:
    found = plain_array(values, name, source)
    if found.shape != (n,):
        raise DataError(f"{name} must hold one value per sample ({n})", where=where_of(name, source), got=found.shape)
    return found


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view
