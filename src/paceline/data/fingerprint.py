"""What identifies data: a hash of the whole set, of one part, and of each sample's valid values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from paceline.data.dataset import Dataset

Array = NDArray[Any]

# Arrays of a Dataset are read-only, so each is hashed once.
_FINGERPRINTS: WeakKeyDictionary[Dataset, str] = WeakKeyDictionary()
_DIGESTS: WeakKeyDictionary[Dataset, list[bytes]] = WeakKeyDictionary()


def fingerprint(dataset: Dataset) -> str:
    """Return `sha256:<hex>` over columns, names, group, time and test indices; equal in every process.

    The words of `source` and the names of samples do not count, so a file may move.
    """
    if dataset not in _FINGERPRINTS:
        digest = hashlib.sha256(b"paceline data 1")
        for name in sorted(dataset.columns):
            _update(digest, f"column {name}", dataset.columns[name])
        for word, names in (("classes", dataset.classes), ("channels", dataset.channels)):
            _update(digest, word, np.array(names, dtype=np.str_))
        for word, values in (("group", dataset.group), ("time", dataset.time), ("test", dataset.test)):
            if values is not None:
                _update(digest, word, values)
        _FINGERPRINTS[dataset] = f"sha256:{digest.hexdigest()}"
    return _FINGERPRINTS[dataset]


def assume(dataset: Dataset, known: str) -> None:
    """Take a fingerprint as that of a data set: the process that wrote its arrays has worked it out."""
    _FINGERPRINTS[dataset] = known


def part_fingerprint(dataset: Dataset, idx: Array) -> str:
    """Return `sha256:<hex>` of the samples `idx` (P,) alone, in any order: what counts openings of test data.

    Neither the other samples nor the amount of padding change it.
    """
    digest = hashlib.sha256(b"paceline part 1")
    _update(digest, "classes", np.array(dataset.classes, dtype=np.str_))
    for sample in sorted(_digests(dataset, sorted(set(dataset.columns) - {"mask"}), np.asarray(idx).tolist())):
        digest.update(sample)
    return f"sha256:{digest.hexdigest()}"


def input_digests(dataset: Dataset) -> list[bytes]:
    """Return a 16-byte hash per sample over its valid values, labels left out: equal inputs have equal hashes."""
    if dataset not in _DIGESTS:
        names = sorted(set(dataset.columns) - {"mask", "y"})
        _DIGESTS[dataset] = _digests(dataset, names, range(len(dataset)))
    return _DIGESTS[dataset]


def _digests(dataset: Dataset, names: list[str], idx: Iterable[int]) -> list[bytes]:
    mask = dataset.columns.get("mask")
    columns = [(name, dataset.columns[name]) for name in names]
    masked = {name for name, c in columns if mask is not None and _has_steps(name, c, mask)}
    found = []
    for i in idx:
        digest = hashlib.blake2b(digest_size=16)
        for name, column in columns:
            row = column[i : i + 1]
            if mask is not None and name in masked:
                row = row[mask[i : i + 1]]
            _update(digest, name, row + 0.0 if row.dtype.kind in "fc" else row)  # -0.0 becomes 0.0
        found.append(digest.digest())
    return found


def _has_steps(name: str, column: Array, mask: Array) -> bool:
    """A column (N, T) may be features that happen to be T many, so only `x` and columns (N, T, ...) are masked."""
    return column.shape[:2] == mask.shape and (name == "x" or column.ndim >= 3)


def _update(digest: Any, name: str, array: Array) -> None:
    """Hash name, dtype, shape and values; text by its characters, as NumPy's width of text says nothing."""
    if array.dtype.kind in "US":
        texts = [text if isinstance(text, bytes) else text.encode() for text in array.ravel().tolist()]
        kind, content = "text", b"".join(len(text).to_bytes(8, "little") + text for text in texts)
        digest.update(f"{name}|{kind}|{array.shape}|".encode() + content)
        return
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest.update(f"{name}|{little.dtype.str}|{array.shape}|".encode())
    digest.update(little.reshape(-1).view(np.uint8))
