"""The learning rate of one member: a pure function of the position, and for `plateau` a small state.

Rates are asked for one epoch at a time and set before the step they are for.
"""

from __future__ import annotations

import math
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

    def state_dict(self) -> dict[str, Any]:
        return self._plateau.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._plateau.load_state_dict(state)

    def _warmup(self, total: int) -> float:
        if self._config.warmup_ratio:
            return self._config.warmup_ratio * total
        return self._config.warmup_epochs * total / self._horizon.num_epochs

    def _factor(self, position: int, total: int) -> float:
        """Return the factor at a position (epoch or step, counted from 0) of `total`."""
        warmup = self._warmup(total)
        if position < warmup:
            return min(1.0, (position + 1) / warmup)
        if self._config.name == "plateau":
            return self._plateau.factor
        progress = (position - warmup) / max(1.0, total - 1 - warmup)
        return decay(self._config, min(1.0, progress))


def decay(config: ScheduleConfig, progress: float) -> float:
    """Return the factor after the warm-up; `progress` runs from 0 (peak) to 1 (last position).

    cosine: min + (1 - min)(1 + cos(pi progress))/2 (Loshchilov & Hutter 2017, eq. 5); with restarts the same, over
    `num_cycles` equal cycles.
    """
    low = config.min_factor
    match config.name:
        case "linear":
            return low + (1 - low) * (1 - progress)
        case "cosine":
            return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))
        case "cosine_with_restarts":
            within = progress * config.num_cycles % 1.0 if progress < 1 else 1.0
            return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * within))
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
