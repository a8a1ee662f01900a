"""From the samples as they were read to what a model gets: missing values filled, time features added, channels scaled.

Shapes: N samples, T steps, F channels as read, G channels of the model: those read, the time features, the indicators.

Whatever is estimated comes from the training part. A missing value is filled from earlier steps of its own sample, so
that neither another sample nor a later step is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.data.config import DataConfig, TimeFeatures
from paceline.data.dataset import Dataset
from paceline.data.scale import Scaler
from paceline.errors import ConfigError, DataError
from paceline.types import DataSpec

Array = NDArray[Any]
NO_TIME = TimeFeatures()


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How one member's samples are prepared, in training and in prediction alike.

    channels: the names as read, or (). n_channels: F. scaler: of the channels read, None where they stay as they are.
    start: per channel the training mean (`robust`: median) of what is there, which stands for a value that is missing
    before the first; () where missing values are refused. flagged: the channels with an indicator (1 where the value is
    missing).
    longest: steps of the longest training sample, the unit of `elapsed`.
    """

    n_channels: int
    channels: tuple[str, ...] = ()
    scaler: Scaler | None = None
    start: tuple[float, ...] = ()
    flagged: tuple[int, ...] = ()
    time: TimeFeatures = NO_TIME
    longest: int = 1

    @classmethod
    def fit(cls, dataset: Dataset, train_idx: Array, config: DataConfig) -> Preparation:
        """Fit on the training part. Which channels get an indicator is decided over all samples, as a shape is.

        Raises DataError where a channel has no value in the training part, or steps are asked of data without any.
        """
        x, mask = dataset.columns["x"], dataset.columns.get("mask")
        if config.time_features.names() and x.ndim != 3:
            raise ConfigError("time features need sequences (samples, steps, channels)", where="data.time_features",
                              got=f"x of shape {x.shape}")  # fmt: skip
        scaled, missing, robust = config.scale != "none", config.missing == "mask", config.scale == "robust"
        needed = scaled or missing
        fitted = Scaler.fit(x, mask, train_idx, dataset.channels, robust=robust) if needed else None
        made = cls(
            n_channels=x.shape[-1],
            channels=dataset.channels,
            scaler=fitted if scaled else None,
            start=fitted.typical if missing and fitted else (),
            flagged=_with_gaps(x) if missing else (),
            time=config.time_features,
            longest=_longest(x, mask, train_idx),
        )
        names = made.names()
        twice = next((name for name in dataset.channels if names.count(name) > 1), None)
        if twice is not None:
            raise DataError("a channel has the name of one that is added", where=dataset.source, got=twice,
                            hint="rename the channel")  # fmt: skip
        return made

    def apply(self, x: Array, mask: Array | None) -> Array:
        """Return x (N, T, F) or (N, F) as the model gets it (..., G): float32, or float64 for float64; padding is 0.

        Raises `DataError` where the number of channels differs, or a scaled value is not finite.
        """
        if x.shape[-1] != self.n_channels:
            raise DataError(f"the model was trained on {self.n_channels} channels", where="x", got=f"{x.shape[-1]}")
        added = []
        if self.time.names():
            added.append(time_channels(self.time, x.shape[0], x.shape[1], mask, self.longest))
        if self.flagged:
            added.append(np.isnan(x[..., list(self.flagged)]))
        if self.start:
            x = forward_filled(x) if x.ndim == 3 else x
            x = np.where(np.isnan(x), np.array(self.start, dtype=x.dtype), x)
        if self.scaler is not None:
            x = self.scaler.apply(x, mask)
        if not added:
            return x
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)
        out: Array = np.concatenate([part.astype(dtype, copy=False) for part in (x, *added)], axis=-1)
        if mask is not None:
            out[~mask] = 0
        return out

    def names(self) -> tuple[str, ...]:
        """Names of the channels that the model gets; () where the data has none and none is added."""
        added = [*self.time.names(), *(f"{self._name(c)} missing" for c in self.flagged)]
        if not added:
            return self.channels
        return (*(self._name(c) for c in range(self.n_channels)), *added)

    def _name(self, channel: int) -> str:
        return self.channels[channel] if self.channels else f"channel {channel}"

    def spec(self, spec: DataSpec) -> DataSpec:
        """Return what a model may know of the prepared data, from what is known of the data as read."""
        n_added = len(self.time.names()) + len(self.flagged)
        shape = (*spec.shapes["x"][:-1], self.n_channels + n_added)
        return replace(spec, shapes={**spec.shapes, "x": shape}, channels=self.names())

    def unflagged(self, x: Array) -> list[str]:
        """Name the channels of new input that have missing values and had none when the model was trained."""
        return [self._name(c) for c in _with_gaps(x) if c not in self.flagged]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {
            "n_channels": self.n_channels,
            "channels": list(self.channels),
            "scaler": None if self.scaler is None else self.scaler.to_dict(),
            "start": list(self.start),
            "flagged": list(self.flagged),
            "time_features": self.time.model_dump(mode="json"),
            "longest": self.longest,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Preparation:
        """Read what `to_dict` wrote. Raises `DataError` where it is damaged."""
        try:
            made = cls(
                n_channels=int(state["n_channels"]),
                channels=tuple(str(name) for name in state["channels"]),
                scaler=None if state["scaler"] is None else Scaler.from_dict(state["scaler"]),
                start=tuple(float(value) for value in state["start"]),
                flagged=tuple(int(c) for c in state["flagged"]),
                time=TimeFeatures.model_validate(state["time_features"]),
                longest=int(state["longest"]),
            )
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise DataError("the state of the preparation cannot be read", where="preparation",
                            got=repr(error)) from error  # fmt: skip
        n, start = made.n_channels, made.start
        fits = len(made.channels) in (0, n) and len(start) in (0, n) and all(0 <= c < n for c in made.flagged)
        if not fits or made.longest < 1 or (made.scaler is not None and len(made.scaler.mean) != n):
            raise DataError("the state of the preparation does not fit its channels", where="preparation", got=n)
        return made


def forward_filled(x_NTF: Array) -> Array:
    """Return a copy in which a missing value (NaN) is the last one before it of its sample and channel.

    What is missing before the first value stays missing.
    """
    steps = np.arange(x_NTF.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(np.isnan(x_NTF), 0, steps), axis=1)  # 0: there is none before it
    return np.take_along_axis(x_NTF, last, axis=1)


def time_channels(time: TimeFeatures, n: int, n_steps: int, mask: Array | None, longest: int) -> Array:
    """Return the time features (N, T, P) of N samples, in the order of `time.names()`. Values on padding mean nothing.

    For step t of L valid ones: `position` t / (L - 1), 0 for a single step; `elapsed` t / longest; per period p
    sin(2 pi t / p) and cos(2 pi t / p).
    """
    t = np.arange(n_steps, dtype=np.float64)
    own = [t / longest] if time.elapsed else []
    own += [wave(2 * np.pi * t / period) for period in time.periods for wave in (np.sin, np.cos)]
    channels = [np.broadcast_to(feature, (n, n_steps)) for feature in own]
    if time.position:
        lengths = np.full(n, n_steps) if mask is None else mask.sum(axis=1)
        channels.insert(0, t / np.maximum(lengths - 1, 1)[:, None])
    return np.stack(channels, axis=-1)


def _with_gaps(x: Array) -> tuple[int, ...]:
    """The channels that have a missing value anywhere."""
    if x.dtype.kind != "f":
        return ()
    return tuple(np.flatnonzero(np.isnan(x).reshape(-1, x.shape[-1]).any(axis=0)).tolist())


def _longest(x: Array, mask: Array | None, train_idx: Array) -> int:
    """Steps of the longest training sample; 1 without steps."""
    if mask is not None:
        return int(mask[train_idx].sum(axis=1).max())
    return x.shape[1] if x.ndim == 3 else 1
