"""Scaling with statistics of the training part alone.

Shapes: N samples, T steps, F features (channels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paceline.errors import DataError

Array = NDArray[Any]

NORMAL_RANGE = 1.3489795003921634  # the interquartile range of a standard normal distribution


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """Per channel: subtract `mean`, divide by `std`. `constant` lists the channels that never vary; their std is 1.

    Heavy tails are compressed before that, where `median` and `spread` are given: asinh((x - median) / spread), linear
    near the median and logarithmic far from it. mean and std are those of the compressed values then.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    constant: tuple[int, ...] = ()
    median: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls, x: Array, mask: Array | None, train_idx: Array, channels: Sequence[str] = (), *, robust: bool = False
    ) -> Scaler:
        """Fit on the valid steps of the training part: x (N, T, F) or (N, F), mask (N, T) or None.

        Sums run in float64. The standard deviation is that of the population (divisor n), as in scikit-learn. Missing
        values (NaN) don't count; a channel without any value is a `DataError`. channels: names (F,) for messages.
        robust: compress first; the spread is the interquartile range over 1.349, which is the standard deviation of a
        normal channel, or where that is 0 the channel's own standard deviation.
        """
        part = x[train_idx]
        rows_SF = part.reshape(-1, part.shape[-1]) if mask is None else part[mask[train_idx]]
        if not len(rows_SF):
            raise DataError("the training part has no valid step to fit the scaler on", where="data.scale")
        low, high = np.fmin.reduce(rows_SF, axis=0), np.fmax.reduce(rows_SF, axis=0)
        if np.isnan(low).any():
            channel = _shown(int(np.isnan(low).argmax()), channels)
            raise DataError("a channel has no value in the training part", where="data.scale", got=channel,
                            hint="leave the channel out")  # fmt: skip
        gaps = np.isnan(rows_SF).any()
        mean_of, std_of = (np.nanmean, np.nanstd) if gaps else (np.mean, np.std)
        constant = low == high  # exact, where a computed deviation would be rounding noise
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.where(constant, low, mean_of(rows_SF, axis=0, dtype=np.float64))
            std = np.where(constant, 1.0, std_of(rows_SF, axis=0, dtype=np.float64))
        std[std == 0] = 1.0  # a spread below float64's resolution
        if not np.isfinite(std).all():
            channel = _shown(int(np.flatnonzero(~np.isfinite(std))[0]), channels)
            raise DataError("the values of a channel are too large to scale", where="data.scale", got=channel)
        made = cls(
            mean=tuple(float(m) for m in mean),
            std=tuple(float(s) for s in std),
            constant=tuple(int(c) for c in np.flatnonzero(constant)),
        )
        return _compressing(rows_SF, made) if robust else made

    @property
    def typical(self) -> tuple[float, ...]:
        """The value of each channel, as read, that stands in its middle."""
        return self.median or self.mean

    def apply(self, x: Array, mask: Array | None) -> Array:
        """Return the scaled copy of x (N, T, F) or (N, F): float32, or float64 for float64. Padding becomes 0.

        Raises `DataError` where the channels differ from those fitted, or a scaled value is not finite.
        """
        if x.shape[-1] != len(self.mean):
            raise DataError(f"the scaler was fitted on {len(self.mean)} channels", where="x", got=f"{x.shape[-1]}")
        with np.errstate(over="ignore"):
            scaled = (_compressed(x, self.median, self.spread) - np.array(self.mean)) / np.array(self.std)
            if mask is not None:
                scaled[~mask] = 0
            out: Array = scaled.astype(x.dtype if x.dtype == np.float64 else np.float32)
        finite = np.isfinite(out)
        if not finite.all():
            place = np.unravel_index(int(finite.argmin()), finite.shape)
            fix = "data.scale=none, or drop the channel"
            raise DataError(
                "a scaled value is too large", where="x", got=f"channel {place[-1]}, sample {place[0]}", hint=fix
            )
        return out

    def to_dict(self) -> dict[str, list[Any]]:
        """Plain lists, for a checkpoint."""
        robust = {"median": list(self.median), "spread": list(self.spread)} if self.median else {}
        return {"mean": list(self.mean), "std": list(self.std), "constant": list(self.constant), **robust}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Scaler:
        """Read what `to_dict` wrote. Raises `DataError` where it is damaged."""
        try:
            mean = tuple(float(m) for m in state["mean"])
            std = tuple(float(s) for s in state["std"])
            constant = tuple(int(c) for c in state["constant"])
            median, spread = (tuple(float(v) for v in state.get(name, ())) for name in ("median", "spread"))
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise DataError("the scaler's state cannot be read", where="scaler", got=repr(error)) from error
        fits = len(mean) == len(std) and len(median) == len(spread) and len(median) in (0, len(mean))
        if (
            not fits
            or not all(s > 0 for s in (*std, *spread))
            or not np.isfinite((*mean, *std, *median, *spread)).all()
        ):
            raise DataError("the scaler's state is not one mean and one positive std per channel", where="scaler")
        return cls(mean=mean, std=std, constant=constant, median=median, spread=spread)


def _compressing(rows_SF: Array, plain: Scaler) -> Scaler:
    """Return the scaler that compresses first, from that which does not."""
    low, median, high = np.nanquantile(rows_SF.astype(np.float64), (0.25, 0.5, 0.75), axis=0)
    spread = np.where(high > low, (high - low) / NORMAL_RANGE, plain.std)
    rows = _compressed(rows_SF, median, spread)
    std = np.nanstd(rows, axis=0)
    std[list(plain.constant)] = 1.0
    std[std == 0] = 1.0
    return replace(
        plain,
        mean=tuple(float(m) for m in np.nanmean(rows, axis=0)), std=tuple(float(s) for s in std),
        median=tuple(float(m) for m in median), spread=tuple(float(s) for s in spread),
    )  # fmt: skip


def _compressed(x: Array, median: ArrayLike, spread: ArrayLike) -> Array:
    """Return asinh((x - median) / spread); x as it is where there is no median."""
    middle = np.asarray(median, dtype=np.float64)
    if not middle.size:
        return x
    out: Array = np.arcsinh((x - middle) / np.asarray(spread))
    return out


def _shown(channel: int, channels: Sequence[str]) -> str:
    return f"channel {channels[channel]!r}" if channels else f"channel {channel}"
