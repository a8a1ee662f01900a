"""Divisions of battery samples as plain indices: by temperature, by cell, by time, at random.

Every function is pure and returns sorted int64 positions, one array per part. Parts are disjoint; together they are all
samples, except where `by_condition` is told to leave some out.

Shapes: N samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paceline.config.suggest import hint as name_hint
from paceline.data import draw
from paceline.errors import DataError

Ints = NDArray[np.int64]
Condition = float | str


def by_condition(condition: ArrayLike, *parts: Sequence[Condition], what: str = "temperature") -> list[Ints]:
    """Return for each part the samples whose condition (N,) it lists; 25 and 25.0 are equal.

    Samples whose condition is in no list are left out. Raises DataError where two lists share a value, a list is empty,
    or no sample has a listed value (naming those that are there).
    """
    present = [_normal(value) for value in np.asarray(condition).tolist()]
    listed = [[_normal(value) for value in part] for part in parts]
    known = sorted(set(present), key=str)
    seen: dict[Condition, int] = {}
    for k, values in enumerate(listed):
        if not values:
            raise DataError(f"a part names no {what}", where=f"part {k}", hint=", ".join(map(_text, known)))
        for value in values:
            if seen.setdefault(value, k) != k:
                raise DataError(f"two parts name the same {what}", where=f"parts {seen[value]} and {k}",
                                got=_text(value), hint="each value in one part")  # fmt: skip
            if value not in known:
                fix = f"those there are: {', '.join(map(_text, known[:12]))}"
                raise DataError(f"no sample has this {what}", where=f"part {k}", got=_text(value), hint=fix)
    return [_sorted(i for i, value in enumerate(present) if value in values) for values in listed]


def leave_one_group_out(group: ArrayLike, held: object) -> tuple[Ints, Ints]:
    """Return the samples of all other groups (N,) and those of the group `held`.

    Raises DataError where no sample has it, or no other group is left.
    """
    names = np.asarray(group).astype(str)
    own = names == str(held)
    if not own.any():
        raise DataError("no sample has this group", where="held", got=str(held),
                        hint=name_hint(str(held), np.unique(names).tolist()))  # fmt: skip
    if own.all():
        raise DataError("there is no other group to train on", where="held", got=str(held))
    return np.flatnonzero(~own), np.flatnonzero(own)


def each_group_out(group: ArrayLike) -> list[tuple[str, Ints, Ints]]:
    """Return (group, the others' samples, its own) for every group, sorted by name."""
    return [(name, *leave_one_group_out(group, name)) for name in np.unique(np.asarray(group).astype(str)).tolist()]


def temporal(
    time: ArrayLike, group: ArrayLike | None = None, *, train: float = 0.7, val: float = 0.15
) -> tuple[Ints, Ints, Ints]:
    """Return the first share of the samples in time (N,), the next, and the rest; within each group (N,) where given.

    Equal times stay on one side within a group. A share is rounded to the nearest sample.
    """
    times = np.asarray(time)
    codes = np.zeros(len(times), dtype=np.int64) if group is None else _codes(group)
    _check_shares(train, val)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for code in range(int(codes.max()) + 1 if len(codes) else 0):
        own = np.flatnonzero(codes == code)
        own = own[np.argsort(times[own], kind="stable")]
        cuts = [round(share * len(own)) for share in (train, train + val)]
        first, second = (draw.time_cut(times[own], cut) for cut in cuts)
        for part, chosen in zip(parts, np.split(own, [first, max(first, second)]), strict=True):
            part.extend(chosen.tolist())
    return _sorted(parts[0]), _sorted(parts[1]), _sorted(parts[2])


def random(n: int, *, train: float = 0.7, val: float = 0.15, seed: int = 42) -> tuple[Ints, Ints, Ints]:
    """Return three parts of n samples drawn by `seed`, of these shares and the rest."""
    _check_shares(train, val)
    order = np.random.RandomState(seed).permutation(n)  # a stream that NumPy promises to keep
    first, second = round(train * n), round((train + val) * n)
    a, b, c = np.split(order, [first, second])
    return _sorted(a), _sorted(b), _sorted(c)


def stratified_by_condition(
    condition: ArrayLike, *, train: float = 0.7, val: float = 0.15, seed: int = 42
) -> tuple[Ints, Ints, Ints]:
    """Return three parts in which each condition (N,) has its share, up to one sample; drawn by `seed`."""
    codes = _codes([_text(_normal(value)) for value in np.asarray(condition).tolist()])
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for code in range(int(codes.max()) + 1 if len(codes) else 0):
        own = np.flatnonzero(codes == code)
        drawn = random(len(own), train=train, val=val, seed=(seed + code) % 2**32)
        for part, chosen in zip(parts, drawn, strict=True):
            part.extend(own[chosen].tolist())
    return _sorted(parts[0]), _sorted(parts[1]), _sorted(parts[2])


def _check_shares(train: float, val: float) -> None:
    if not (0 < train < 1 and 0 <= val < 1 and train + val <= 1 + 1e-9):
        raise DataError("the shares of the parts must lie between 0 and 1 and add up to at most 1",
                        where="train, val", got=f"{train:g}, {val:g}")  # fmt: skip


def _normal(value: Any) -> Condition:
    """Return a number where a value is one (25, 25.0, "25"), else its text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if math.isfinite(number) else str(value)


def _text(value: Condition) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _codes(values: ArrayLike) -> Ints:
    codes: Ints = np.unique(np.asarray(values).astype(str), return_inverse=True)[1]
    return codes


def _sorted(positions: Iterable[Any]) -> Ints:
    return np.array(sorted(positions), dtype=np.int64)
