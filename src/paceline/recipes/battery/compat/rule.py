"""When a member's training is over by its own rules: what the loop will do after an epoch's figures, asked before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from paceline.optim.schedule import Horizon, Schedule
from paceline.train.config import TrainingConfig
from paceline.train.selection import Selector


class Rule:
    """Follows members with the loop's own selector and schedule; `n` is the number of training samples."""

    def __init__(self, training: TrainingConfig, n: int) -> None:
        batches = math.ceil(n / training.batch_size)
        horizon = Horizon(
            num_epochs=training.num_epochs,
            steps_per_epoch=math.ceil(batches / training.gradient_accumulation_steps),
        )
        self._training = training
        self._schedule = Schedule(training.schedule, training.learning_rate, horizon)
        self._selectors: dict[str, Selector] = {}

    def over(self, epoch: int, metrics: Mapping[str, Any]) -> bool:
        """Return whether an epoch is its member's last, unless a callback ends it sooner."""
        config = self._training
        selector = self._selectors.setdefault(metrics["member"], Selector(config.selection, config.early_stopping))
        value = metrics[config.selection.metric] if math.isfinite(metrics["train_loss"]) else math.nan
        judged = selector.observe(float(value), epoch, epoch, self._schedule.epochs_since_restart(epoch))
        return judged.exhausted or epoch >= config.num_epochs

    def state_dict(self) -> dict[str, Any]:
        """Return what was seen so far: part of every checkpoint."""
        return {member: selector.state_dict() for member, selector in self._selectors.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for member, own in state.items():
            self._selectors[member] = Selector(self._training.selection, self._training.early_stopping)
            self._selectors[member].load_state_dict(own)
