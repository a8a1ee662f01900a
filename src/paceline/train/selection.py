"""Which epoch of a member is kept, and when the member stops.

Improvement is judged on a smoothed series, because the best of many noisy epochs is often luck; the raw best is kept
on record beside it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from paceline.optim.schedule import Horizon, restarts
from paceline.train.config import EarlyStoppingConfig, SelectionConfig, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one evaluation means: the smoothed value, whether it is the best so far, whether patience is used up."""

    smoothed: float
    improved: bool
    exhausted: bool


class Selector:
    """Follow one member's selection metric. `weights` says on record which weights it is of: `raw`, `ema` or `swa`.

    A value that is not finite is never an improvement and leaves the smoothed series as it was. The first evaluation is
    kept whatever its value, so that there is always a state to fall back on.
    """

    def __init__(self, config: SelectionConfig, stopping: EarlyStoppingConfig, *, weights: str = "raw") -> None:
        self._config, self._stopping, self._weights = config, stopping, weights
        self._sign = 1.0 if config.maximise else -1.0
        self._last: list[float] = []  # the last three finite raw values
        self._ema: float | None = None
        self._waited = self._seen = 0
        self._bar = math.nan  # the smoothed value to beat
        self._best = _Best()
        self._raw = _Best()

    def observe(self, value: float, epoch: int, step: int, since_restart: int | None = None) -> Judgement:
        """Judge the metric's value after `epoch` epochs, `since_restart` of them after one of the schedule."""
        self._seen += 1
        finite = math.isfinite(value)
        smoothed = self._smooth(value) if finite else math.nan
        if finite and self._beats(value, self._raw.value, 0.0):
            self._raw = _Best(value=value, smoothed=smoothed, epoch=epoch, step=step)
        rises = finite and self._improves(smoothed)
        improved = self._seen == 1 or (rises and self._stands(value))
        if rises or self._seen == 1:
            self._bar = smoothed
        if improved:
            self._best = _Best(value=value, smoothed=smoothed, epoch=epoch, step=step)
            self._waited = 0
        elif since_restart is None or since_restart > self._stopping.grace_after_restart:
            self._waited += 1
        exhausted = self._stopping.enabled and self._waited >= self._stopping.patience
        return Judgement(smoothed=smoothed, improved=improved, exhausted=exhausted)

    @property
    def never_finite(self) -> bool:
        """Whether no evaluation has had a value yet."""
        return math.isnan(self._raw.value)

    def record(self) -> dict[str, Any]:
        """Return the choice in plain values: which epoch, why, and the raw best beside it."""
        config = self._config
        return {
            "metric": config.metric,
            "mode": "max" if config.maximise else "min",
            "smoothing": config.smoothing,
            "weights": self._weights,
            "epoch": self._best.epoch,
            "step": self._best.step,
            "value": _plain(self._best.value),
            "smoothed": _plain(self._best.smoothed),
            "raw_best_epoch": self._raw.epoch,
            "raw_best_value": _plain(self._raw.value),
            "reason": self._reason(),
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "last": list(self._last),
            "ema": self._ema,
            "waited": self._waited,
            "seen": self._seen,
            "bar": self._bar,
            "best": self._best.to_dict(),
            "raw": self._raw.to_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._last, self._ema = list(state["last"]), state["ema"]
        self._waited, self._seen, self._bar = state["waited"], state["seen"], state["bar"]
        self._best, self._raw = _Best(**state["best"]), _Best(**state["raw"])
        numbers = (*self._last, self._waited, self._seen, self._bar, *asdict(self._best).values(),
                   *asdict(self._raw).values(), 0.0 if self._ema is None else self._ema)  # fmt: skip
        if not all(type(number) in (int, float) for number in numbers):
            raise ValueError("the state of the selection holds something other than numbers")

    def _smooth(self, value: float) -> float:
        """Return the smoothed value."""
        if self._config.smoothing == "none":
            return value
        if self._config.smoothing == "median_ema":
            self._last = [*self._last[-2:], value]
            value = self._median()
        alpha = self._config.ema_alpha
        self._ema = value if self._ema is None else alpha * value + (1 - alpha) * self._ema
        return self._ema

    def _stands(self, value: float) -> bool:
        """Whether the epoch itself is no worse than the median that speaks for it.

        The median lags: after a drop the smoothed series may still rise for an epoch whose weights are already worse.
        """
        if self._config.smoothing != "median_ema":
            return True
        return self._sign * (value - self._median()) >= 0

    def _median(self) -> float:
        """Of the last three values; of two, the worse one, so that a spike never counts."""
        ranked = sorted(self._last, key=lambda v: self._sign * v)
        return ranked[(len(ranked) - 1) // 2]

    def _improves(self, smoothed: float) -> bool:
        best = self._bar
        if math.isnan(best):
            return True
        delta = self._config.min_delta * (abs(best) if self._config.min_delta_mode == "rel" else 1.0)
        return self._beats(smoothed, best, delta) or (self._config.tie == "last" and smoothed == best)

    def _beats(self, value: float, best: float, delta: float) -> bool:
        return math.isnan(best) or self._sign * (value - best) > delta

    def _reason(self) -> str:
        name, best = self._config.metric, self._best
        if math.isnan(best.smoothed):
            return f"{name} was never finite: the first evaluated epoch was kept"
        which = "highest" if self._config.maximise else "lowest"
        series = {"none": name, "ema": f"EMA of {name}", "median_ema": f"EMA of the running median of {name}"}
        text = f"epoch {best.epoch} has the {which} {series[self._config.smoothing]} ({best.smoothed:.4g})"
        if self._raw.epoch != best.epoch:
            text += f"; the raw best was epoch {self._raw.epoch} ({self._raw.value:.4g})"
        return text


def doubt_of_patience(training: TrainingConfig) -> str:
    """Say where patience may end a member right after a restart of the learning rate; empty where it does not."""
    stopping = training.early_stopping
    begun = restarts(training.schedule, Horizon(num_epochs=training.num_epochs, steps_per_epoch=1))
    patience = stopping.patience * training.evaluate.every_epochs
    long = [(a, b - a) for a, b in pairwise([*begun, training.num_epochs]) if b - a > patience]
    if not long or not stopping.enabled or stopping.grace_after_restart:
        return ""
    first, length = long[0]
    return (
        f"training.early_stopping.patience={stopping.patience} may end a training in the {length} epochs after the "
        f"restart of its learning rate at epoch {first + 1}, when its metric is worse for a while; "
        f"training.early_stopping.grace_after_restart={length - patience} does not count the first of them"
    )


def exhaustion(config: EarlyStoppingConfig) -> str:
    """Say why a member whose patience is used up has ended."""
    grace = config.grace_after_restart
    beside = f", the first {grace} epochs after a restart not counted" if grace else ""
    return f"no improvement for {config.patience} evaluations{beside}"


@dataclass(frozen=True, kw_only=True)
class _Best:
    value: float = math.nan
    smoothed: float = math.nan
    epoch: int = 0
    step: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "smoothed": self.smoothed, "epoch": self.epoch, "step": self.step}


def _plain(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
