"""How far a metric moves with the samples it is measured on: bootstrap intervals from stored predictions. No torch.

Shapes: N samples, U units that are drawn (groups, or samples), R resamples, S sums per sample. A resample is a row of
weights, and all resamples are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from paceline.evaluate.predictions import Classes, Floats, Predictions, classes_of, sums_of, values_of

RESAMPLES = 1_000
_CHUNK = 2**23  # weights in memory at once
_MOST_DRAWS = 2 * 10**8  # above, fewer resamples: with so many units their number hardly matters


@dataclass(frozen=True, kw_only=True)
class SampleInterval:
    """A metric with its interval over draws of samples, training held fixed. `p` is for differences: of no difference.

    `low` and `high` are None where the resamples do not vary. `units` are what was drawn: `n_units` samples or groups.
    """

    value: float
    low: float | None
    high: float | None
    n_samples: int
    n_units: int
    units: str
    method: str
    p: float | None = None


def sample_intervals(
    members: Sequence[Predictions],
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, SampleInterval]:
    """Return each metric's mean over members with its interval over draws of the samples.

    The same resamples serve all members. Where the data has groups, they are drawn whole, as samples of one group (a
    patient, a cell) are not independent. The interval is the bias-corrected and accelerated one
    (Efron, Better bootstrap confidence intervals, JASA 82, 171-185, 1987), its quantiles widened for few units
    (Hesterberg, What teachers should know about the bootstrap, The American Statistician 69, 371-386, 2015).
    A class that a resample happens to lack does not count in that resample's macro averages.
    """
    if not members:
        return {}
    draw = _Draw.of(members, resamples, seed)
    found = _replicates(members, draw)
    words = f"bootstrap of {draw.words}: variation of the samples measured on, training held fixed"
    return {name: _interval(each, draw, confidence, words) for name, each in found.items()}


def sample_differences(
    a: Sequence[Predictions],
    b: Sequence[Predictions],
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, SampleInterval]:
    """Return B minus A of each metric, means over members, with its interval and p over draws of the samples.

    Paired: every resample serves both sides. Both must hold the same samples. p is two-sided: twice the smaller share
    of resamples on either side of 0, the observed difference counted.
    """
    draw = _Draw.of([*a, *b], resamples, seed)
    of_a, of_b = _replicates(a, draw), _replicates(b, draw)
    words = f"paired bootstrap of {draw.words}: variation of the samples measured on, training held fixed"
    made = {}
    for name in of_a.keys() & of_b.keys():
        both = _Replicates(*(y - x for x, y in zip(of_a[name], of_b[name], strict=True)))
        made[name] = _interval(both, draw, confidence, words, test=True)
    return {name: made[name] for name in of_a if name in made}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Draw:
    """What is drawn: `unit` (max index + 1,) gives the unit of a sample, -1 for samples outside the part."""

    unit: NDArray[np.int64]
    n_units: int
    n_samples: int
    grouped: bool
    resamples: int
    seed: int

    @classmethod
    def of(cls, members: Sequence[Predictions], resamples: int, seed: int) -> _Draw:
        index, first = np.unique(np.concatenate([member.index for member in members]), return_index=True)
        codes = np.arange(len(index))
        grouped = all(member.group is not None for member in members)
        if grouped:
            known = np.concatenate([np.asarray(member.group) for member in members])
            codes = np.unique(known[first], return_inverse=True)[1]
        unit = np.full(int(index[-1]) + 1, -1, dtype=np.int64)
        unit[index] = codes
        n_units = int(codes.max()) + 1
        return cls(unit=unit, n_units=n_units, n_samples=len(index), grouped=grouped,
                   resamples=min(resamples, max(200, _MOST_DRAWS // n_units)), seed=seed)  # fmt: skip

    @property
    def words(self) -> str:
        if not self.grouped:
            return f"{self.n_samples:,} samples"
        return f"{self.n_units:,} groups with {self.n_samples:,} samples"

    def weights(self) -> Iterator[Floats]:
        """Yield how often each unit is drawn, (rows, U), in chunks: the observed data first, then R resamples."""
        rng = np.random.default_rng(self.seed)
        yield np.ones((1, self.n_units))
        rows = max(1, _CHUNK // self.n_units)
        for start in range(0, self.resamples, rows):
            r = min(rows, self.resamples - start)
            drawn = rng.integers(0, self.n_units, size=(r, self.n_units))
            drawn += np.arange(r)[:, None] * self.n_units
            yield np.bincount(drawn.ravel(), minlength=r * self.n_units).reshape(r, -1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Replicates:
    """A metric: observed (1,), of each resample (R,), and with each unit left out once (U,)."""

    observed: Floats
    resampled: Floats
    without_one: Floats

    def __iter__(self) -> Iterator[Floats]:
        return iter((self.observed, self.resampled, self.without_one))


def _replicates(members: Sequence[Predictions], draw: _Draw) -> dict[str, _Replicates]:
    """Return every metric's mean over members under all weights. A member without weight does not count there."""
    sums = [_unit_sums(member, draw) for member in members]
    classes = [classes_of(each) for each in sums]
    chunks = [_mean_over_members([(w @ s, c) for s, c in zip(sums, classes, strict=True)]) for w in draw.weights()]
    left = _mean_over_members([(s.sum(axis=0) - s, c) for s, c in zip(sums, classes, strict=True)])
    return {
        name: _Replicates(values, np.concatenate([chunk[name] for chunk in chunks[1:]]), left[name])
        for name, values in chunks[0].items()
    }


def _mean_over_members(sums: Sequence[tuple[Floats, Classes]]) -> dict[str, Floats]:
    """Average each metric over members, from each one's sums (R, S) and classes; NaN where none has any sample."""
    total: dict[str, Floats] = {}
    number: dict[str, Floats] = {}
    for each, classes in sums:
        for name, values in values_of(each, classes).items():
            known = np.isfinite(values)
            total[name] = total.get(name, 0.0) + np.where(known, values, 0.0)
            number[name] = number.get(name, 0.0) + known
    with np.errstate(invalid="ignore"):
        return {name: total[name] / number[name] for name in total}


def _unit_sums(member: Predictions, draw: _Draw) -> Floats:
    """Return the sums of the samples of each unit (U, S)."""
    sums, units = sums_of(member), draw.unit[member.index]
    order = np.argsort(units, kind="stable")
    present, starts = np.unique(units[order], return_index=True)
    found = np.zeros((draw.n_units, sums.shape[1]))
    found[present] = np.add.reduceat(sums[order], starts, axis=0)
    return found


def _interval(found: _Replicates, draw: _Draw, confidence: float, words: str, *, test: bool = False) -> SampleInterval:
    value, drawn = float(found.observed[0]), found.resampled[np.isfinite(found.resampled)]
    low = high = p = None
    if draw.n_units < 2:
        words = "one group: no interval over samples"
    elif not len(drawn) or np.ptp(drawn) == 0:
        words += "; every resample gives the same value, so there is no interval"
        p = 1.0 if test and value == 0 else None
    else:
        tail = (1 - confidence) / 2
        low, high = (float(np.quantile(drawn, q)) for q in _quantiles(found, drawn, draw.n_units, tail))
        if test:
            beyond = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
            p = min(1.0, 2 * (int(beyond) + 1) / (len(drawn) + 1))
    units = "groups" if draw.grouped else "samples"
    return SampleInterval(
        value=value, low=low, high=high, n_samples=draw.n_samples, n_units=draw.n_units, units=units, method=words, p=p
    )


def _quantiles(found: _Replicates, drawn: Floats, n_units: int, tail: float) -> tuple[float, float]:
    """Return the shares of the resamples at which the interval ends: BCa, with z widened for few units."""
    z = -float(stdtrit(n_units - 1, tail)) * math.sqrt(n_units / (n_units - 1))
    observed = found.observed[0]
    share = np.mean(drawn < observed) + 0.5 * np.mean(drawn == observed)
    bias = float(ndtri(np.clip(share, 1 / (2 * len(drawn)), 1 - 1 / (2 * len(drawn)))))
    left = found.without_one[np.isfinite(found.without_one)]
    away = left.mean() - left
    spread = float((away**2).sum())
    acceleration = float((away**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0

    def at(score: float) -> float:
        room = 1 - acceleration * (bias + score)
        return float(ndtr(bias + (bias + score) / room)) if room > 0 else float(score > 0)

    return at(-z), at(z)
