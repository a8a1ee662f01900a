"""The learning rate of one member: a pure function of the position, and for `plateau` a small state.

Rates are asked for one epoch at a time and set before the step they are for.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from paceline.optim.config import ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class Horizon:
    """How long a member trains: epochs, and optimizer steps in each."""

    num_epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        return self.num_epochs * self.steps_per_epoch


class Schedule:
    """Learning rates of one member."""

    def __init__(self, config: ScheduleConfig, base: float, horizon: Horizon, mode: str = "max") -> None:
        self._config, self._base, self._horizon = config, base, horizon
        self._plateau = Plateau(config, mode)
        self._restarts = restarts(config, horizon)

    def rates(self, epoch: int) -> list[float]:
        """Return the learning rate of each optimizer step of an epoch (counted from 0)."""
        steps = self._horizon.steps_per_epoch
        if self._config.interval == "epoch":
            rate = self._base * self._factor(epoch, self._horizon.num_epochs)
            return [rate] * steps
        first = epoch * steps
        return [self._base * self._factor(first + i, self._horizon.steps) for i in range(steps)]

    def observe(self, value: float, smoothed: float, epoch: int) -> None:
        """Take in the selection metric after `epoch` epochs; only `plateau` listens, once the warm-up is over."""
        if self._config.name == "plateau" and epoch > self._warmup(self._horizon.num_epochs):
            self._plateau.observe(value if self._config.observe == "raw" else smoothed)

    def epochs_since_restart(self, epoch: int) -> int | None:
        """Return how many epochs were trained since the last restart, after `epoch` epochs; None before the first."""
        begun = bisect_left(self._restarts, epoch)
        return epoch - self._restarts[begun - 1] if begun else None

    def state_dict(self) -> dict[str, Any]:
        return self._plateau.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._plateau.load_state_dict(state)

    def _warmup(self, total: int) -> float:
        return warmup_of(self._config, self._horizon, total)

    def _factor(self, position: int, total: int) -> float:
        """Return the factor at a position (epoch or step, counted from 0) of `total`."""
        warmup = self._warmup(total)
        if position < warmup:
            return min(1.0, (position + 1) / warmup)
        if self._config.name == "plateau":
            return self._plateau.factor
        if self._config.name == "cosine_with_restarts":
            return decay(self._config, cycle_at(self._config, self._horizon, position, total)[1])
        progress = (position - warmup) / max(1.0, total - 1 - warmup)
        return decay(self._config, min(1.0, progress))


def warmup_of(config: ScheduleConfig, horizon: Horizon, total: int) -> float:
    """Return the positions of the warm-up, of `total` positions of a training."""
    return config.warmup_ratio * total if config.warmup_ratio else config.warmup_epochs * total / horizon.num_epochs


def cycle_at(config: ScheduleConfig, horizon: Horizon, position: int, total: int) -> tuple[int, float]:
    """Return in which cycle of restarts (from 0) a position after the warm-up is, and how far in it, from 0 to 1.

    With `t0`, cycle i has t0 x t_mult^i epochs (Loshchilov & Hutter 2017, section 3), as torch's
    CosineAnnealingWarmRestarts; else the training has `num_cycles` equal ones, and its last position ends the last.
    """
    after = position - warmup_of(config, horizon, total)
    if config.t0 is None:
        progress = min(1.0, after / max(1.0, total - 1 - warmup_of(config, horizon, total))) * config.num_cycles
        return (int(progress), progress % 1.0) if progress < config.num_cycles else (config.num_cycles - 1, 1.0)
    epochs, cycle, length = after * horizon.num_epochs / total, 0, config.t0
    if config.t_mult == 1:
        return int(epochs // length), epochs % length / length
    while epochs >= length:
        epochs, cycle, length = epochs - length, cycle + 1, length * config.t_mult
    return cycle, epochs / length


def restarts(config: ScheduleConfig, horizon: Horizon) -> list[int]:
    """Return the epochs (counted from 0) in which the learning rate goes back to its peak, ascending."""
    if config.name != "cosine_with_restarts":
        return []
    n = 1 if config.interval == "epoch" else horizon.steps_per_epoch
    total = n * horizon.num_epochs
    warmup = warmup_of(config, horizon, total)
    lasts = [(epoch + 1) * n - 1 for epoch in range(horizon.num_epochs)]
    cycles = [cycle_at(config, horizon, last, total)[0] if last >= warmup else 0 for last in lasts]
    return [epoch for epoch in range(1, horizon.num_epochs) if cycles[epoch] > cycles[epoch - 1]]


def decay(config: ScheduleConfig, progress: float) -> float:
    """Return the factor after the warm-up; `progress` runs from 0 (peak) to 1 (last position, or the cycle's end).

    cosine: min + (1 - min)(1 + cos(pi progress))/2 (Loshchilov & Hutter 2017, eq. 5).
    """
    low = config.min_factor
    match config.name:
        case "linear":
            return low + (1 - low) * (1 - progress)
        case "cosine" | "cosine_with_restarts":
            return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))
        case _:
            return 1.0


class Plateau:
    """Lower the factor when a metric stops improving, by the rule of torch's ReduceLROnPlateau (relative threshold)."""

    def __init__(self, config: ScheduleConfig, mode: str) -> None:
        self._config, self._maximise = config, mode == "max"
        self.factor = 1.0
        self._best: float | None = None
        self._bad = self._cooldown = 0

    def observe(self, value: float) -> None:
        if self._improves(value):
            self._best, self._bad = value, 0
        else:
            self._bad += 1
        if self._cooldown > 0:
            self._cooldown, self._bad = self._cooldown - 1, 0
        if self._bad > self._config.patience:
            self.factor = max(self.factor * self._config.factor, self._config.min_factor)
            self._cooldown, self._bad = self._config.cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor, "best": self._best, "bad": self._bad, "cooldown": self._cooldown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.factor, self._best = state["factor"], state["best"]
        self._bad, self._cooldown = state["bad"], state["cooldown"]

    def _improves(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self._best is None:
            return True
        margin = 1 + self._config.threshold if self._maximise else 1 - self._config.threshold
        return value > self._best * margin if self._maximise else value < self._best * margin
