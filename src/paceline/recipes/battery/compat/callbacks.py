"""Callbacks: a base class, and the usual ones. `relay.py` calls them; epochs count from 1.

`ModelCheckpoint` and `LRScheduler` are settings in the form of a callback: the training itself keeps the best weights
and moves the learning rate.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from paceline.config.tree import Tree
from paceline.errors import ConfigError
from paceline.train.config import lower_is_better

Metrics = Mapping[str, Any]


class BaseCallback:
    """Derive from it and write the methods that are of interest; the others do nothing.

    A callback that sets `self.stop_training = True` ends the training after the epoch it was called for; where several
    seeds train, `metrics["member"]` says which one an epoch is of, and it is that one that ends. An exception in a
    callback ends the training with an error that names it.
    """

    stop_training = False

    def on_train_start(self) -> None:
        """Called once, before the first step."""

    def on_epoch_start(self, epoch: int) -> None:
        """Called before each epoch."""

    def on_epoch_end(self, epoch: int, metrics: Metrics) -> None:
        """Called after each epoch with `member`, `train_loss`, `val_loss`, `val_rmse`, ..., `lr`."""

    def on_train_end(self) -> None:
        """Called once, after the last step; the model has its best weights."""


class EarlyStopping(BaseCallback):
    """Ends the training after `patience` epochs in which a metric was not better by more than `min_delta`.

    The trainer has a patience of its own on `val_loss` (`early_stopping_patience`), which also knows of restarts: this
    is for another metric, or a second rule. mode: `min`, `max`, or `auto`, by the metric's name.
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 20, min_delta: float = 0.0, mode: str = "auto"
    ) -> None:
        if patience < 1:
            raise ConfigError("patience must be at least 1", where="EarlyStopping(patience=...)", got=patience)
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        self._sign = _sign(monitor, mode, "EarlyStopping")
        self._best: dict[str, float] = {}
        self._waited: dict[str, int] = {}

    def on_train_start(self) -> None:
        self.stop_training = False
        self._best.clear()
        self._waited.clear()

    def on_epoch_end(self, epoch: int, metrics: Metrics) -> None:
        value, member = _monitored(metrics, self.monitor, "EarlyStopping"), metrics["member"]
        best = self._best.get(member, -math.inf)
        if self._sign * value > best + self.min_delta or member not in self._best:
            self._best[member], self._waited[member] = self._sign * value, 0
        else:
            self._waited[member] += 1
        self.stop_training = self._waited[member] >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return what was seen so far: part of every checkpoint."""
        return {"best": dict(self._best), "waited": dict(self._waited)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._best, self._waited = dict(state["best"]), dict(state["waited"])


class ModelCheckpoint(BaseCallback):
    """Keeps the best weights at `path` as well; `monitor` is what the best is chosen by (one of the validation part).

    The file is that of `checkpoints/best.pt`, written when the monitored metric improves.
    """

    def __init__(self, path: str | Path, monitor: str = "val_loss", mode: str = "auto") -> None:
        self.path, self.monitor = Path(path), monitor
        self.settings: Tree = {"selection": {"metric": monitor, "mode": mode}}
        _sign(monitor, mode, "ModelCheckpoint")


class LRScheduler(BaseCallback):
    """The learning rate's schedule, by the keys of `training.schedule` (docs/config.md), in place of `scheduler_T0`.

    `LRScheduler("cosine", warmup_epochs=5)`, `LRScheduler("plateau", factor=0.5, patience=5)`, `LRScheduler("none")`.
    """

    def __init__(self, name: str = "cosine_with_restarts", **keys: Any) -> None:
        self.settings: Tree = {"schedule": {"name": name, **keys}}


class Progress(BaseCallback):
    """Prints a line every `every` epochs."""

    def __init__(self, every: int = 1, file: TextIO | None = None) -> None:
        self.every, self._file = max(1, every), file

    def on_epoch_end(self, epoch: int, metrics: Metrics) -> None:
        if epoch % self.every == 0:
            values = [f"{k} {v:.4g}" for k, v in metrics.items() if isinstance(v, (int, float)) and math.isfinite(v)]
            (self._file or sys.stdout).write(f"{metrics['member']} epoch {epoch}: {', '.join(values)}\n")


def _sign(monitor: str, mode: str, who: str) -> float:
    if mode not in ("auto", "min", "max"):
        raise ConfigError("there is no such mode", where=f"{who}(mode=...)", got=mode, hint="auto, min, max")
    if mode == "auto":
        return -1.0 if lower_is_better(monitor) else 1.0
    return 1.0 if mode == "max" else -1.0


def _monitored(metrics: Metrics, monitor: str, who: str) -> float:
    if monitor not in metrics:
        raise ConfigError("there is no such metric", where=f"{who}(monitor=...)", got=monitor,
                          hint=", ".join(name for name in metrics if name != "member"))  # fmt: skip
    return float(metrics[monitor])
