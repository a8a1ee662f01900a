"""Whether arms may be compared: the same data, the same splits, the same part measured on. Says what differs."""

from __future__ import annotations

from collections.abc import Sequence

from paceline.errors import RunError
from paceline.report.compare_arms import Arm, Parts, SplitKey
from paceline.report.words import count

_PARTS = {"train": "training", "val": "validation", "test": "test"}


def check_comparable(arms: Sequence[Arm]) -> list[str]:
    """Raise RunError unless all arms may be compared; return sentences on what could not be checked."""
    first, *others = arms
    for other in others:
        _check_folds(first, other)
        if first.design.fingerprint and other.design.fingerprint:
            _check_data(first, other)
            _check_splits(first, other)
    unknown = [arm.name for arm in arms if not arm.design.fingerprint]
    if not unknown:
        return []
    return [f"Not checked: whether data and splits are the same, of which {', '.join(unknown)} has no record."]


def _check_folds(a: Arm, b: Arm) -> None:
    if (a.folds == [None]) != (b.folds == [None]):
        raise _refusal("their folds differ", a, b, f"{_folds(a)} and {_folds(b)}", "the same members.folds for both")
    if a.design.splits and b.design.splits and a.design.redrawn != b.design.redrawn:
        got = "splits redrawn for every seed, and one split for all seeds"
        raise _refusal("their splits differ", a, b, got, "the same members.split_seed for both")


def _folds(arm: Arm) -> str:
    return "no folds" if arm.folds == [None] else count(len(arm.folds), "fold")


def _check_data(a: Arm, b: Arm) -> None:
    if a.design.fingerprint != b.design.fingerprint:
        got = " and ".join(
            f"{arm.design.data or 'data'}, {count(arm.design.n, 'sample')}, {arm.design.fingerprint[:15]}"
            for arm in (a, b)
        )
        raise _refusal("they were trained on different data", a, b, got, "train both on the same data")


def _check_splits(a: Arm, b: Arm) -> None:
    """The parts of every split that both have must be equal; without redrawing, both must have the same splits."""
    of_a, of_b = a.design.splits, b.design.splits
    shared = of_a.keys() & of_b.keys()
    if not a.design.redrawn and of_a.keys() != of_b.keys():
        raise _refusal(
            "their folds differ", a, b, f"{len(of_a)} and {len(of_b)} splits", "the same members.folds for both"
        )
    for key in sorted(shared, key=str):
        for part in ("test", "val", "train"):
            found = _difference(of_a[key], of_b[key], part)
            if found:
                hint = "the same data.split, and the same members.folds and members.split_seed, for both"
                raise _refusal("their splits differ", a, b, f"{_PARTS[part]} part{_of(key)}: {found}", hint)


def _difference(a: Parts, b: Parts, part: str) -> str:
    if a[part] == b[part]:
        return ""
    if len(a[part]) != len(b[part]):
        return f"{len(a[part]):,} and {len(b[part]):,} samples"
    return f"{len(set(a[part]) - set(b[part])):,} of {count(len(a[part]), 'sample')} differ"


def _of(key: SplitKey) -> str:
    seed, fold = key
    words = [f"seed {seed}" if seed is not None else "", f"fold {fold}" if fold is not None else ""]
    named = ", ".join(word for word in words if word)
    return f" of {named}" if named else ""


def _refusal(what: str, a: Arm, b: Arm, got: str, hint: str) -> RunError:
    return RunError(f"the runs cannot be compared: {what}", where=f"{a.where} and {b.where}", got=got, hint=hint)
