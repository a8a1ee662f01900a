"""Is B better than A? Tests on the scores of two sets of members, paired where they share seeds or folds. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, nctdtrinc, stdtr, stdtrit

from paceline.evaluate.statistics import Interval, Score, summarise

MOST_EXACT = 12  # pairs up to which all sign flips are tried: 2^12 = 4,096
FLIPS = 20_000  # random sign flips above that
POWER = 0.8
Key = tuple[int | None, int | None]  # (seed, fold) that pairs two members


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean of B minus mean of A with its confidence interval, and the two-sided p-value of no difference.

    `n` are the pairs (members, or folds), or for unpaired members the number of both, as `n_a` and `n_b` say. `std` is
    that of the differences of pairs, or the pooled one of members; `effect` is Cohen's d, `mean / std`, its interval
    `effect_low` to `effect_high` exact for independent pairs and None elsewhere. `detectable` is the difference that a
    comparison with this spread finds with probability .8. `values` are the differences of the pairs. What n or a lack
    of spread does not allow is None.
    """

    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    n_a: int
    n_b: int
    paired: bool
    method: str
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    detectable: float | None = None
    values: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SignFlip:
    """The paired permutation test: p, the smallest p that so many pairs can reach, whether all flips were tried."""

    p: float
    smallest: float
    n: int
    exact: bool


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Exact p, and the samples that only A, or only B, had right."""

    p: float
    only_a: int
    only_b: int


def difference(
    a: Iterable[Score],
    b: Iterable[Score],
    n_train: float | None = None,
    n_test: float | None = None,
    *,
    redrawn: bool = False,
    fixed_part: bool = False,
    confidence: float = 0.95,
) -> Difference:
    """Compare two sets of members, given as (seed, fold, value), measured on the same data and splits.

    With the same folds for every seed the pairs are folds, each the mean over its seeds; else the pairs are members of
    the same (seed, fold). They are paired where the members of one side are all among those of the other; elsewhere
    Welch's t test compares the two means. The variance of both tests is that of `summarise`, which has the meaning of
    `n_train`, `n_test`, `redrawn` and `fixed_part`: with folds it is the corrected resampled t test (Nadeau and Bengio,
    Inference for the generalization error, Machine Learning 52, 239-281, 2003; over repeated folds Bouckaert and Frank,
    PAKDD 2004). Values that are not finite are left out, with their partner.
    """
    a, b = list(a), list(b)
    several_folds = len({fold for _, fold, _ in [*a, *b]}) > 1
    of_a, of_b = (_by_unit(scores, average=several_folds and not redrawn) for scores in (a, b))
    common = sorted(of_a.keys() & of_b.keys(), key=lambda key: (key[0] or 0, key[1] or 0))
    if common and len(common) == min(len(of_a), len(of_b)):
        pairs: list[Score] = [(seed or 0, fold, of_b[seed, fold] - of_a[seed, fold]) for seed, fold in common]
        interval = summarise(pairs, n_train, n_test, redrawn=redrawn, fixed_part=fixed_part, confidence=confidence)
        left_out = len(of_a) + len(of_b) - 2 * len(common)
        return _of_pairs(pairs, interval, left_out, confidence, (redrawn or several_folds) and fixed_part)
    extra = 0.0
    if (redrawn or several_folds) and not fixed_part:
        assert n_train and n_test, "the corrected test needs the sizes of the training part and of the part measured on"
        extra = n_test / n_train
    return _welch(list(of_a.values()), list(of_b.values()), extra, confidence)


def sign_flip_test(differences: Sequence[float], *, seed: int = 0) -> SignFlip:
    """Return the two-sided paired permutation test of mean 0: each difference may as well have the other sign.

    All 2^n flips up to 12 pairs; above, 20,000 random ones from `seed`, counted with the observed one (Phipson and
    Smyth, Permutation p-values should never be zero, 2010). Fewer than six pairs cannot reach .05.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = len(d)
    assert n, "no pairs"
    observed = abs(d.sum()) * (1 - 1e-12)  # sums in another order are equal but for rounding
    if n <= MOST_EXACT:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        p = float(np.mean(np.abs(signs @ d) >= observed))
        return SignFlip(p=p, smallest=2.0 ** (1 - n), n=n, exact=True)
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(20):
        signs = rng.integers(0, 2, size=(FLIPS // 20, n), dtype=np.int8) * 2 - 1
        hits += int(np.count_nonzero(np.abs(signs @ d) >= observed))
    return SignFlip(p=(hits + 1) / (FLIPS + 1), smallest=1 / (FLIPS + 1), n=n, exact=False)


def mcnemar(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> McNemar:
    """Return McNemar's exact test: of the samples (N,) that one side alone had right, is each side's share one half?

    Two-sided binomial, without continuity correction (McNemar 1947).
    """
    only_a, only_b = int(np.count_nonzero(right_a & ~right_b)), int(np.count_nonzero(right_b & ~right_a))
    p = min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))) if only_a + only_b else 1.0
    return McNemar(p=p, only_a=only_a, only_b=only_b)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for several tests (Holm, Scandinavian Journal of Statistics 6, 65-70, 1979).

    A missing p-value stays missing and does not count as a test.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted


def _by_unit(scores: Iterable[Score], *, average: bool) -> dict[Key, float]:
    """Return one value per member, or with `average` one per fold, the mean over its seeds; finite values alone."""
    values: dict[Key, list[float]] = {}
    for seed, fold, value in scores:
        if math.isfinite(value):
            values.setdefault((None if average else seed, fold), []).append(float(value))
    return {key: float(np.mean(each)) for key, each in values.items()}


def _of_pairs(
    pairs: Sequence[Score], interval: Interval, left_out: int, confidence: float, one_part: bool
) -> Difference:
    values = tuple(value for _, _, value in pairs)
    method = _paired_words(interval, one_part)
    made = Difference(
        mean=interval.mean, std=interval.std, low=interval.low, high=interval.high, p=None, n=interval.n,
        n_a=len(pairs), n_b=len(pairs), paired=True, values=values,
        method=method + (f"; {left_out} without a partner left out" if left_out else ""),
    )  # fmt: skip
    if interval.n < 2:
        return made
    assert interval.std is not None and interval.mean is not None and interval.error is not None
    if interval.std <= 1e-12 * abs(interval.mean) or interval.std == 0:
        return _without_spread(made)
    made = _tested(made, interval.error, interval.n - 1, confidence)
    independent = math.isclose(interval.error, interval.std / math.sqrt(interval.n))
    if independent:
        t, tail, root = interval.mean / interval.error, (1 - confidence) / 2, math.sqrt(interval.n)
        low, high = (float(nctdtrinc(interval.n - 1, p, t)) / root for p in (1 - tail, tail))
        if math.isfinite(low) and math.isfinite(high):
            made = replace(made, effect_low=low, effect_high=high)
    return made


def _paired_words(interval: Interval, one_part: bool) -> str:
    """`one_part` says that trainings on several parts were all measured on the same one."""
    n = interval.n
    if n < 2:
        return "one pair: no interval"
    if "Nadeau" in interval.method:
        what = "folds" if "folds" in interval.method.partition(":")[0] else "trainings on redrawn splits"
        return f"corrected resampled t over {n} {what}: variation of the data and of training"
    if one_part:
        return f"paired t over {n} overlapping training parts: variation of training, not of the test set"
    return f"paired t over {n} seeds: variation of training alone, not of the data"


def _welch(a: Sequence[float], b: Sequence[float], extra: float, confidence: float) -> Difference:
    """Welch's t test; `extra` is n_test / n_train where the correction of Nadeau and Bengio is due, else 0."""
    n_a, n_b = len(a), len(b)
    mean = float(np.mean(b) - np.mean(a)) if n_a and n_b else None
    made = Difference(
        mean=mean, std=None, low=None, high=None, p=None, n=n_a + n_b, n_a=n_a, n_b=n_b, paired=False,
        method="no value on one side" if mean is None else "one member on a side: no interval",
    )  # fmt: skip
    if mean is None or min(n_a, n_b) < 2:
        return made
    variance_a, variance_b = float(np.var(a, ddof=1)), float(np.var(b, ddof=1))
    of_a, of_b = variance_a * (1 / n_a + extra), variance_b * (1 / n_b + extra)
    pooled = math.sqrt(((n_a - 1) * variance_a + (n_b - 1) * variance_b) / (n_a + n_b - 2))
    covers = "the data and of training" if extra else "training alone, not of the data"
    words = "corrected Welch t" if extra else "Welch t"
    made = replace(made, std=pooled, method=f"{words} over {n_a} and {n_b} unpaired values: variation of {covers}")
    if pooled <= 1e-12 * abs(mean) or pooled == 0:
        return _without_spread(made)
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (n_a - 1) + of_b**2 / (n_b - 1))
    return _tested(made, math.sqrt(of_a + of_b), freedom, confidence)


def _tested(made: Difference, error: float, freedom: float, confidence: float) -> Difference:
    """Fill in interval, p, effect and what could be detected, from a standard error and its degrees of freedom."""
    assert made.mean is not None and made.std is not None
    critical = float(stdtrit(freedom, (1 + confidence) / 2))
    return replace(
        made,
        low=made.mean - critical * error,
        high=made.mean + critical * error,
        p=2 * float(stdtr(freedom, -abs(made.mean) / error)),
        effect=made.mean / made.std,
        detectable=(critical + float(stdtrit(freedom, POWER))) * error,
    )


def _without_spread(made: Difference) -> Difference:
    """All values of a side are equal: nothing to estimate a variance from."""
    words = made.method.partition(":")[0]
    method = f"{words}: the difference never varies, so there is no interval"
    return replace(made, low=None, high=None, p=None, std=0.0, method=method)
