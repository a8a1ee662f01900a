"""Turn labels and groups from anywhere (lists, pandas, object arrays) into plain NumPy arrays, or say why not.

Shapes: N samples, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paceline.errors import DataError

Array = NDArray[Any]


def where_of(name: str, source: str) -> str:
    """Where a mistake is, for an error message: `y of data/train.npz`."""
    return f"{name} of {source}" if source else name


def checked_dtype(array: Array, kinds: str, name: str, source: str, wanted: str) -> None:
    """Raise `DataError` unless the dtype is of one of these kinds (NumPy's letters)."""
    if array.dtype.kind not in kinds:
        raise DataError(f"{name} must hold {wanted}", where=where_of(name, source), got=f"dtype {array.dtype}")


def numpy_array(values: ArrayLike, name: str, source: str, fix: str = "") -> Array:
    """`np.asarray`, where what it cannot take (ragged lists, tensors on another device) is a `DataError`."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        what = f"{name} cannot be read as one rectangular array"
        raise DataError(what, where=where_of(name, source), got=str(error), hint=fix) from error


def plain_array(values: ArrayLike, name: str, source: str) -> Array:
    """Return `values` as text (U), bool, integers, floats or datetimes. Missing and mixed values are errors.

    Lists and object arrays go through Python objects: `np.asarray(["a", None])` would hide what is missing.
    """
    where = where_of(name, source)
    try:
        found = np.asarray(values, dtype=object if isinstance(values, list | tuple) else None)
        if found.dtype.kind == "O":
            found = _from_objects(found, name, where)
        if found.dtype.kind == "S":
            found = np.char.decode(found, "utf-8")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(f"{name} cannot be read as an array", where=where, got=str(error)) from error
    if found.dtype.kind == "u" or (found.dtype.kind == "i" and found.dtype.itemsize < 8):
        _refuse_wrap_around(found, name, where)
        found = found.astype(np.int64)
    missing = np.isnat(found) if found.dtype.kind == "M" else np.isnan(found) if found.dtype.kind == "f" else None
    if missing is not None and missing.any():
        raise _missing_values(int(missing.sum()), np.argwhere(missing)[0], name, where)
    return found


def _from_objects(found: Array, name: str, where: str) -> Array:
    items = found.ravel()
    missing = np.array([_is_missing(item) for item in items], dtype=bool)
    if missing.any():
        place = np.unravel_index(int(missing.argmax()), found.shape)
        raise _missing_values(int(missing.sum()), np.asarray(place), name, where)
    is_text = [isinstance(item, str | bytes) for item in items]
    if any(is_text) and not all(is_text):
        raise DataError(f"{name} mixes text and other values", where=where, hint="one kind for all samples")
    plain = np.asarray(items.tolist()).reshape(found.shape) if items.size else found.astype(float)
    if plain.dtype.kind == "O":
        raise DataError(f"{name} must hold text or numbers", where=where, got=type(items[0]).__name__)
    return plain


def _is_missing(item: object) -> bool:
    if item is None or type(item).__name__ in ("NAType", "NaTType"):  # pandas, without importing it
        return True
    return isinstance(item, float | np.floating) and bool(np.isnan(item))


def _missing_values(count: int, place: Array, name: str, where: str) -> DataError:
    return DataError(f"{name} has {count} missing values", where=where, got=f"the first at sample {place[0]}")


def _refuse_wrap_around(found: Array, name: str, where: str) -> None:
    if found.dtype == np.uint64 and found.size and int(found.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{name} holds integers beyond 64 bits", where=where, got=str(found.max()))


def official_test(test: Array, n: int, source: str) -> Array:
    """Return the sorted indices of an official test part, from indices or a bool array (N,)."""
    where = where_of("test", source)
    found = np.asarray(test)
    if found.dtype == bool and found.shape == (n,):
        found = np.flatnonzero(found)
    if found.ndim != 1 or found.size == 0:
        raise DataError("the official test part has no samples", where=where, got=found.shape)
    checked_dtype(found, "iu", "test", source, "indices (integers)")
    index = np.sort(found.astype(np.int64))
    wrong = index[(index < 0) | (index >= n)]
    if wrong.size:
        raise DataError(f"test indices must be in 0..{n - 1}", where=where, got=int(wrong[0]))
    twice = index[1:][index[1:] == index[:-1]]
    if twice.size:
        raise DataError("a test index is given twice", where=where, got=int(twice[0]))
    return index


def posterior_of(chances: Array, shape: tuple[int, int], source: str) -> Array:
    """Raise DataError unless the rows are probabilities of all classes."""
    found = np.asarray(chances, dtype=np.float64)
    if found.shape != shape or not (found >= 0).all() or not np.allclose(found.sum(axis=-1), 1):
        raise DataError(f"posterior must hold probabilities of shape {shape}, each row with the sum 1",
                        where=where_of("posterior", source), got=f"shape {found.shape}")  # fmt: skip
    return found


def clean_of(clean: Array, y: Array | None, source: str) -> Array:
    """Raise DataError unless there is one number without noise for each target."""
    found = np.asarray(clean, dtype=np.float64)
    if y is None or y.dtype.kind != "f" or found.shape != y.shape or not np.isfinite(found).all():
        raise DataError("clean must hold a finite number for each target", where=where_of("clean", source),
                        got=f"shape {found.shape}")  # fmt: skip
    return found
