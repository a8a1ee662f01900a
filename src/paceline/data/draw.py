"""Seeded draws behind the splits: pure functions from label codes to positions or fold numbers.

`np.random.RandomState` on purpose: NumPy promises never to change its streams (NEP 19), so an index drawn today is
drawn in ten years. A splitter of scikit-learn named in parentheses draws the same with `random_state=seed`.

Shapes: N samples, C classes, G groups. Codes are integers from 0, each code used at least once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def stratified_holdout(codes: Ints, n_held: int, seed: int) -> Ints:
    """Return `n_held` of N positions with the class proportions kept within one sample (`StratifiedShuffleSplit`)."""
    rng = np.random.RandomState(seed)
    counts = np.bincount(codes)
    kept = _proportional(counts, len(codes) - n_held, rng)
    held = _proportional(counts - kept, n_held, rng)
    positions = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    orders = [rng.permutation(count) for count in counts]
    return np.concatenate([p[o][k : k + h] for p, o, k, h in zip(positions, orders, kept, held, strict=True)])


def stratified_folds(codes: Ints, n_folds: int, seed: int) -> Ints:
    """Return a fold number per sample (N,), class proportions kept (`StratifiedKFold(shuffle=True)`)."""
    rng = np.random.RandomState(seed)
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    codes = np.argsort(np.argsort(first))[inverse]  # classes in order of appearance
    n_classes, ordered = len(first), np.sort(codes)
    shares = np.array([np.bincount(ordered[k::n_folds], minlength=n_classes) for k in range(n_folds)])
    folds = np.empty(len(codes), dtype=np.int64)
    for c in range(n_classes):
        drawn = np.arange(n_folds).repeat(shares[:, c])
        rng.shuffle(drawn)
        folds[codes == c] = drawn
    return folds


def random_holdout(n: int, n_held: int, seed: int) -> Ints:
    """Return `n_held` of n positions (`ShuffleSplit`)."""
    held: Ints = np.random.RandomState(seed).permutation(n)[:n_held]
    return held


def random_folds(n: int, n_folds: int, seed: int) -> Ints:
    """Return a fold number per sample (n,), sizes equal within one (`KFold(shuffle=True)`)."""
    order = np.arange(n)
    np.random.RandomState(seed).shuffle(order)
    folds = np.empty(n, dtype=np.int64)
    for k, part in enumerate(np.array_split(order, n_folds)):
        folds[part] = k
    return folds


def group_holdout(groups: Ints, n_held: int, seed: int) -> Ints:
    """Return the positions of `n_held` groups (`GroupShuffleSplit`)."""
    held = random_holdout(int(groups.max()) + 1, n_held, seed)
    return np.flatnonzero(np.isin(groups, held))


def group_folds(groups: Ints, codes: Ints, n_folds: int, seed: int) -> Ints:
    """Return a fold number per sample (N,): whole groups, class proportions as even as a greedy pass makes them.

    Groups come in an order drawn by the seed, those of the most uneven classes first (with one class, the largest
    first). Each goes where the spread of class shares over the folds grows least, and to the smallest fold among
    those equal up to rounding. This is the rule of scikit-learn's `StratifiedGroupKFold`, which lets rounding decide.
    No fold stays empty when there are at least as many groups as folds.
    """
    n_groups, n_classes = int(groups.max()) + 1, int(codes.max()) + 1
    counts_GC = np.zeros((n_groups, n_classes))
    np.add.at(counts_GC, (groups, codes), 1)
    order = np.arange(n_groups)
    np.random.RandomState(seed).shuffle(order)
    unevenness = counts_GC.std(axis=1) if n_classes > 1 else counts_GC[:, 0]
    order = order[np.argsort(-unevenness[order], kind="stable")]
    totals_C, filled_KC = counts_GC.sum(axis=0), np.zeros((n_folds, n_classes))
    fold_of_group = np.empty(n_groups, dtype=np.int64)
    for g in order:
        tried_KKC = filled_KC + np.eye(n_folds)[:, :, None] * counts_GC[g]
        spread_K = (tried_KKC / totals_C).std(axis=1).mean(axis=1)
        ties = np.flatnonzero(np.isclose(spread_K, spread_K.min()))
        fold = ties[filled_KC[ties].sum(axis=1).argmin()]
        fold_of_group[g] = fold
        filled_KC[fold] += counts_GC[g]
    folds: Ints = fold_of_group[groups]
    return folds


def time_cut(ordered: NDArray[Any], position: int) -> int:
    """Return the cut nearest before `position` (else after it) that keeps equal times on one side.

    `ordered` (N,) is sorted. 0 or N means that there is no such cut.
    """
    if not 0 < position < len(ordered):
        return position
    before = int(np.searchsorted(ordered, ordered[position], side="left"))
    return before or int(np.searchsorted(ordered, ordered[position], side="right"))


def _proportional(counts: Ints, n_draws: int, rng: np.random.RandomState) -> Ints:
    """Divide `n_draws` over the classes in proportion to counts (C,), ties among remainders drawn by `rng`."""
    exact = counts / counts.sum() * n_draws
    shares = np.floor(exact)
    missing = int(n_draws - shares.sum())
    remainders = exact - shares
    for value in np.unique(remainders)[::-1]:
        if missing == 0:
            break
        tied = np.flatnonzero(remainders == value)
        chosen = rng.choice(tied, size=min(len(tied), missing), replace=False)
        shares[chosen] += 1
        missing -= len(chosen)
    whole: Ints = shares.astype(np.int64)
    return whole
