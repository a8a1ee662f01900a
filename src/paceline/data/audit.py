"""What is checked of every split before anything trains on it, and the document that records it (`splits.json`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from paceline.data.dataset import Dataset
from paceline.data.fingerprint import fingerprint, input_digests
from paceline.data.near_target import NEAR, rank_correlations
from paceline.data.split import Split
from paceline.errors import DataError

Ints = NDArray[np.int64]
SCHEMA_VERSION = 1
PARTS = ("train", "val", "test")
TINY = 30  # below this, one sample moves a part's accuracy by more than three points


@dataclass(frozen=True)
class Check:
    """One line of the audit. `ok` False is a note for the reader; what must not happen raises instead."""

    name: str
    ok: bool
    detail: str


def audit(dataset: Dataset, split: Split, duplicates: Literal["error", "warn"] = "error") -> list[Check]:
    """Check one split of `dataset`; return what was found.

    Raises `DataError` where parts share samples, where rule `group` let a group into two parts, and, with
    `duplicates="error"`, where two parts hold the same input (the same valid values; labels do not count).
    """
    parts = {name: part for name in PARTS if len(part := getattr(split, name))}
    _refuse_other_data(dataset, split)
    return [
        _disjoint(parts),
        _coverage(dataset, split, parts),
        _duplicates(dataset, parts, duplicates),
        *_groups(dataset, split, parts),
        *_classes(dataset, parts),
        *_time_order(dataset, split, parts),
        *_channels(dataset, split),
        *_missing(dataset, parts),
        *_near_target(dataset, split),
        _sizes(parts),
    ]


def _refuse_other_data(dataset: Dataset, split: Split) -> None:
    if split.fingerprint != fingerprint(dataset):
        raise DataError("the split belongs to other data", where=dataset.source or "splits", got=split.fingerprint)


def _disjoint(parts: Mapping[str, Ints]) -> Check:
    for (a, one), (b, other) in combinations(parts.items(), 2):
        both = np.intersect1d(one, other)
        if both.size:
            got = ", ".join(f"sample {i}" for i in both[:3])
            raise DataError(f"{a} and {b} share {_count(both.size, 'sample')}", where="data.split", got=got)
    return Check("parts are disjoint", True, ", ".join(f"{name} {len(part)}" for name, part in parts.items()))


def _coverage(dataset: Dataset, split: Split, parts: Mapping[str, Ints]) -> Check:
    left = len(dataset) - sum(len(part) for part in parts.values())
    by_design = split.rule == "time" and split.fold is not None
    detail = f"{left} of {len(dataset)} samples are in no part" + (" (expanding window)" if left and by_design else "")
    return Check("every sample is used", left == 0 or by_design, detail)


def _duplicates(dataset: Dataset, parts: Mapping[str, Ints], policy: str) -> Check:
    """One pass over the digests: for each the first sample that had it, per part."""
    digests, name = input_digests(dataset), "no input is in two parts"
    seen: dict[bytes, tuple[str, int]] = {}
    pairs, within = [], 0
    for part, idx in parts.items():
        for i in idx.tolist():
            first = seen.setdefault(digests[i], (part, i))
            if first[0] != part:
                pairs.append(f"{first[0]} {first[1]} = {part} {i}")
            elif first[1] != i:
                within += 1
    twice = f"; {_count(within, 'sample', 'repeat')} an input of the same part" if within else ""
    if not pairs:
        return Check(name, True, f"0 samples repeat an input of another part{twice}")
    listed = ", ".join(pairs[:3]) + (", ..." if len(pairs) > 3 else "")
    what = f"{_count(len(pairs), 'sample', 'repeat')} an input of another part"
    if policy == "error":
        fix = "drop them, split by groups, or data.duplicates=warn"
        raise DataError(what, where="data.duplicates", got=listed, hint=fix)
    return Check(name, False, f"{what}: {listed}{twice}")


def _groups(dataset: Dataset, split: Split, parts: Mapping[str, Ints]) -> list[Check]:
    if dataset.group is None:
        return []
    shared = []
    for (a, one), (b, other) in combinations(parts.items(), 2):
        both = np.intersect1d(dataset.group[one], dataset.group[other])
        shared += [f"{group} in {a} and {b}" for group in both.tolist()]
    listed = ", ".join(shared[:3]) + (", ..." if len(shared) > 3 else "")
    if shared and split.rule == "group":
        raise DataError("rule `group` let groups into two parts", where="data.split.rule", got=listed)
    detail = f"{_count(len(shared), 'group')} {'is' if len(shared) == 1 else 'are'} shared" + (
        f": {listed}" if shared else ""
    )
    return [Check("no group is in two parts", not shared, detail)]


def _classes(dataset: Dataset, parts: Mapping[str, Ints]) -> list[Check]:
    checks = []
    for part, counts in class_counts(dataset, parts).items():
        absent = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
        listed = ", ".join(f"{name} {count}" for name, count in zip(dataset.classes, counts, strict=True))
        checks.append(Check(f"every class is in {part}", not absent, listed))
    return checks


def class_counts(dataset: Dataset, parts: Mapping[str, Ints]) -> dict[str, list[int]]:
    """Samples per class and part; empty without classes."""
    if not dataset.classes or "y" not in dataset.columns:
        return {}
    y, n = dataset.columns["y"], len(dataset.classes)
    return {part: [int(c) for c in np.bincount(y[idx], minlength=n)] for part, idx in parts.items()}


def _time_order(dataset: Dataset, split: Split, parts: Mapping[str, Ints]) -> list[Check]:
    if dataset.time is None or split.rule != "time":
        return []
    spans = {part: (dataset.time[idx].min(), dataset.time[idx].max()) for part, idx in parts.items()}
    ordered = all(spans[a][1] < spans[b][0] for a, b in zip(list(spans), list(spans)[1:], strict=False))
    return [
        Check("parts follow in time", ordered, ", ".join(f"{p} {low} to {high}" for p, (low, high) in spans.items()))
    ]


def _channels(dataset: Dataset, split: Split) -> list[Check]:
    x, mask = dataset.columns.get("x"), dataset.columns.get("mask")
    if x is None or x.dtype.kind != "f" or x.ndim < 2:
        return []
    part = x[split.train]
    rows = part.reshape(-1, x.shape[-1]) if mask is None else part[mask[split.train]]
    fixed = np.flatnonzero(np.fmin.reduce(rows) == np.fmax.reduce(rows)).tolist() if len(rows) else []  # but for NaN
    names = [dataset.channels[c] if dataset.channels else f"channel {c}" for c in fixed]
    detail = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    detail = f"constant: {detail}" if fixed else _count(x.shape[-1], "channel")
    return [Check("every channel varies in train", not fixed, detail)]


def _missing(dataset: Dataset, parts: Mapping[str, Ints]) -> list[Check]:
    """Where values are missing and filled; nothing to say where none may be."""
    x, mask = dataset.columns.get("x"), dataset.columns.get("mask")
    if x is None or x.dtype.kind != "f" or not np.isnan(x).any():
        return []
    shares = []
    for part, idx in parts.items():
        valid = x[idx] if mask is None else x[idx][mask[idx]]
        shares.append(f"{part} {np.isnan(valid).mean():.2%}")
    with_gaps = np.flatnonzero(np.isnan(x).reshape(-1, x.shape[-1]).any(axis=0))
    detail = f"missing and filled: {', '.join(shares)}, in {_count(len(with_gaps), 'channel')}"
    return [Check("every value is there", False, detail)]


def _near_target(dataset: Dataset, split: Split) -> list[Check]:
    """Which features tell nearly all of a numeric target by their order alone; such a figure may be no achievement."""
    found = rank_correlations(dataset, split.train)
    if found is None:
        return []
    names = [dataset.channels[c] if dataset.channels else f"channel {c}" for c in range(len(found))]
    near = [f"{names[c]} {found[c]:.3f}" for c in np.argsort(-found, kind="stable") if found[c] > NEAR]
    listed = ", ".join(near[:5]) + (", ..." if len(near) > 5 else "")
    within = "absolute rank correlation with the target within groups"
    detail = f"{listed}: {within}, in train" if near else f"{within}: at most {found.max():.3f}"
    return [Check("no feature is nearly the target itself", not near, detail)]


def _sizes(parts: Mapping[str, Ints]) -> Check:
    tiny = [f"{part} has {_count(len(idx), 'sample')}" for part, idx in parts.items() if len(idx) < TINY]
    return Check(f"parts have at least {TINY} samples", not tiny, ", ".join(tiny) or "all do")


def _count(n: int, noun: str, verb: str = "") -> str:
    """Return `1 sample repeats`, `2 samples repeat`."""
    return " ".join(filter(None, [str(n), noun + "s" * (n != 1), verb + "s" * (n == 1 and bool(verb))]))


def splits_to_json(splits: Sequence[Split], dataset: Dataset, checks: Sequence[Sequence[Check]]) -> dict[str, Any]:
    """Return the document of `splits.json`: plain numbers, strings, lists. `checks` holds one audit per split."""
    seeds = {split.seed for split in splits}
    entries = []
    for split, found in zip(splits, checks, strict=True):
        parts = {name: getattr(split, name) for name in PARTS}
        entries.append(
            {
                "fold": split.fold,
                "n_folds": split.n_folds,
                "seed": split.seed,
                **{name: part.tolist() for name, part in parts.items()},
                "class_counts": class_counts(dataset, parts),
                "audit": [asdict(check) for check in found],
            }
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": fingerprint(dataset),
        "source": dataset.source,
        "rule": splits[0].rule,
        "seed": seeds.pop() if len(seeds) == 1 else None,  # None where members have their own
        "n": len(dataset),
        "classes": list(dataset.classes),
        "splits": entries,
    }


def splits_from_json(document: Mapping[str, Any], where: str = "splits.json") -> tuple[list[Split], list[list[Check]]]:
    """Read back what `splits_to_json` made. Raises `DataError` where it is damaged or of another version."""
    version = document.get("schema_version") if isinstance(document, Mapping) else None
    if version != SCHEMA_VERSION:
        raise DataError(f"schema_version is not {SCHEMA_VERSION}", where=where, got=repr(version))
    try:
        splits = [_split_of(entry, document) for entry in document["splits"]]
        checks = [
            [Check(c["name"], bool(c["ok"]), c["detail"]) for c in entry["audit"]] for entry in document["splits"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError("the splits cannot be read", where=where, got=repr(error)) from error
    return splits, checks


def _split_of(entry: Mapping[str, Any], document: Mapping[str, Any]) -> Split:
    parts: dict[str, Ints] = {}
    for name in PARTS:
        if not all(type(i) is int for i in entry[name]):
            raise ValueError(f"{name} holds something other than integers")
        part = np.array(entry[name], dtype=np.int64)
        if len(part) and (part.min() < 0 or part.max() >= document["n"] or (np.diff(part) <= 0).any()):
            raise ValueError(f"{name} is not a sorted list of indices below {document['n']}")
        part.flags.writeable = False
        parts[name] = part
    return Split(
        rule=str(document["rule"]),
        seed=int(entry["seed"]),
        fold=None if entry["fold"] is None else int(entry["fold"]),
        n_folds=None if entry["n_folds"] is None else int(entry["n_folds"]),
        fingerprint=str(document["fingerprint"]),
        **parts,
    )
