"""Scaling with statistics of the training part alone.

Shapes: N samples, T steps, F features (channels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.errors import DataError

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """Per channel: subtract `mean`, divide by `std`. `constant` lists the channels that never vary; their std is 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    constant: tuple[int, ...] = ()

    @classmethod
    def fit(cls, x: Array, mask: Array | None, train_idx: Array, channels: Sequence[str] = ()) -> Scaler:
        """Fit on the valid steps of the training part: x (N, T, F) or (N, F), mask (N, T) or None.

        Sums run in float64. The standard deviation is that of the population (divisor n), as in scikit-learn. Missing
        values (NaN) don't count; a channel without any value is a `DataError`. channels: names (F,) for messages.
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
        return cls(
            mean=tuple(float(m) for m in mean),
            std=tuple(float(s) for s in std),
            constant=tuple(int(c) for c in np.flatnonzero(constant)),
        )

    def apply(self, x: Array, mask: Array | None) -> Array:
        """Return the scaled copy of x (N, T, F) or (N, F): float32, or float64 for float64. Padding becomes 0.

        Raises `DataError` where the channels differ from those fitted, or a scaled value is not finite.
        """
        if x.shape[-1] != len(self.mean):
            raise DataError(f"the scaler was fitted on {len(self.mean)} channels", where="x", got=f"{x.shape[-1]}")
        with np.errstate(over="ignore"):
            scaled = (x - np.array(self.mean)) / np.array(self.std)
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
        return {"mean": list(self.mean), "std": list(self.std), "constant": list(self.constant)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Scaler:
        """Read what `to_dict` wrote. Raises `DataError` where it is damaged."""
        try:
            mean = tuple(float(m) for m in state["mean"])
            std = tuple(float(s) for s in state["std"])
            constant = tuple(int(c) for c in state["constant"])
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise DataError("the scaler's state cannot be read", where="scaler", got=repr(error)) from error
        if len(mean) != len(std) or not all(s > 0 for s in std) or not np.isfinite((*mean, *std)).all():
            raise DataError("the scaler's state is not one mean and one positive std per channel", where="scaler")
        return cls(mean=mean, std=std, constant=constant)


def _shown(channel: int, channels: Sequence[str]) -> str:
    return f"channel {channels[channel]!r}" if channels else f"channel {channel}"
