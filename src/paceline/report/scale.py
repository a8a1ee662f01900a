"""Scales of a chart: nice ticks, linear and logarithmic positions, thinning of long series. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Maps values in [low, high] to pixels in [start, end]. With `log`, low must be above 0."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Pixel position; values outside the range lie outside the pixels, too."""
        low, high, at = self.low, self.high, value
        if self.log:
            tiny = low * 1e-6  # keeps the logarithm finite where a value is 0; it lies far below the axis
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, tiny))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, target: int, *, whole: bool = False) -> list[float]:
        """About `target` round values inside the range; `whole` keeps to integers."""
        return log_ticks(self.low, self.high, target) if self.log else ticks(self.low, self.high, target, whole=whole)


def ticks(low: float, high: float, target: int, *, whole: bool = False) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten inside [low, high], about `target` of them.

    >>> ticks(0, 10, 5)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    if not high > low:
        return [low]
    step = _round_step((high - low) / max(1, target))
    if whole:
        step = max(1.0, float(round(step)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float, target: int) -> list[float]:
    """Powers of ten inside [low, high]; steps of 1, 3 or 1, 2, 5 where fewer than three fit; linear ticks last."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        found = [f * 10.0**e for e in range(first, last + 1) for f in factors if low <= f * 10.0**e <= high]
        if len(found) >= 3:
            return found[:: math.ceil(len(found) / (2 * target))]
    return [tick for tick in ticks(low, high, target) if tick > 0]


def padded(values: Sequence[float], *, log: bool = False, share: float = 0.05) -> tuple[float, float]:
    """Range of the values with a margin on both sides; a constant series gets room around it."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if log:
        grow = (high / low) ** share if high > low else 2.0
        return low / grow, high * grow
    margin = (high - low) * share or abs(high) * share or 0.5
    return low - margin, high + margin


def wants_log(values: Sequence[float], ratio: float = 20.0) -> bool:
    """True where all values are positive and span more than `ratio`: a linear axis would hide the small ones."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > ratio


def thin(points: Sequence[Point], limit: int = 480) -> list[Point]:
    """Keep the lowest and the highest point of each bucket, so that a long series keeps its spikes."""
    if len(points) <= limit:
        return list(points)
    size = math.ceil(len(points) / (limit // 2))
    kept: list[Point] = [points[0]]
    for start in range(1, len(points) - 1, size):
        bucket = points[start : min(start + size, len(points) - 1)]
        ends = {min(bucket, key=_height), max(bucket, key=_height)}
        kept.extend(sorted(ends))
    return [*kept, points[-1]]


def tick_text(values: Sequence[float]) -> Callable[[float], str]:
    """A formatter that gives all ticks of one axis the same decimals (each its own on a logarithmic axis)."""
    gaps = [b - a for a, b in pairwise(values)]
    even = bool(gaps) and max(gaps) <= 1.001 * min(gaps)
    step = min(gaps) if even else None

    def write(value: float) -> str:
        size = abs(value)
        if size >= 1e6 or 0 < size < 1e-4:
            return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")
        unit = step or size or 1.0
        return f"{value:,.{max(0, -math.floor(math.log10(unit) + 1e-9))}f}".replace("-", "−")

    return write


def _height(point: Point) -> float:
    return point[1]


def _round_step(rough: float) -> float:
    """The one of 1, 2, 5 or 10 times a power of ten that is nearest to `rough`, by ratio."""
    power = 10.0 ** math.floor(math.log10(rough))
    return power * min((1.0, 2.0, 5.0, 10.0), key=lambda factor: abs(math.log(rough / power / factor)))
