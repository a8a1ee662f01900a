"""From the records of a training to the calls of callbacks, and back: who stops, and whose exception it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paceline.errors import ConfigError, PacelineError, TrainingError
from paceline.recipes.battery.compat.rule import Rule
from paceline.track.names import canonical_name
from paceline.types import Stateful

if TYPE_CHECKING:
    from paceline.types import Control, Record

HOOKS = ("on_train_start", "on_epoch_start", "on_epoch_end", "on_train_end")
Metrics = dict[str, Any]
Listener = Callable[[int, Metrics], object]


class CallbackError(TrainingError):
    """A callback that raised an exception; `__cause__` is that exception."""


class Relay:
    """A consumer of records that calls callbacks. A member's epoch is its `train` and its `val` record.

    listeners: called with (epoch, metrics) before the callbacks, such as a tracker; where the epoch improved, the run
    has the member's new `best.pt` by then. rule: tells whether the training of a member is over by its own rules, so
    that no epoch is announced that never begins.
    """

    def __init__(self, callbacks: Sequence[Any], listeners: Sequence[Listener], rule: Rule) -> None:
        for callback in callbacks:
            if isinstance(callback, type) or not any(callable(getattr(callback, hook, None)) for hook in HOOKS):
                raise ConfigError("this is no callback: it has none of the methods of one", got=callback,
                                  where="Trainer(callbacks=...)", hint=", ".join(HOOKS))  # fmt: skip
        self._callbacks, self._listeners, self._rule = tuple(callbacks), tuple(listeners), rule
        self._train: dict[str, Mapping[str, Any]] = {}

    def start(self, *, resumed: bool = False) -> None:
        """Before the first step. The epoch in which a training is resumed is not announced again."""
        for callback in self._callbacks:
            callback.stop_training = False  # of an earlier training
            call(callback, "on_train_start")
        if not resumed:
            self._epoch_start(1)

    def end(self) -> None:
        """After the last step."""
        for callback in self._callbacks:
            call(callback, "on_train_end")

    def __call__(self, record: Record, control: Control) -> None:
        """Take one record in; stop its member where a callback says so."""
        if record.split == "train":
            self._train[record.member] = record.values
        if record.split != "val":
            return
        metrics = named(record.member, self._train.pop(record.member, {}), record.values)
        over = self._rule.over(record.epoch, metrics)
        for listener in self._listeners:
            listener(record.epoch, dict(metrics))
        stopping = False
        for callback in self._callbacks:
            call(callback, "on_epoch_end", record.epoch, dict(metrics))
            stopping |= bool(getattr(callback, "stop_training", False))
        if stopping:
            control.stop(record.member)
        elif not over:
            self._epoch_start(record.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the rule, and of callbacks that have one: part of every checkpoint."""
        own = {str(i): c.state_dict() for i, c in enumerate(self._callbacks) if isinstance(c, Stateful)}
        return {"rule": self._rule.state_dict(), "callbacks": own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._rule.load_state_dict(state["rule"])
        for i, callback in enumerate(self._callbacks):
            if isinstance(callback, Stateful) and str(i) in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][str(i)])

    def _epoch_start(self, epoch: int) -> None:
        for callback in self._callbacks:
            call(callback, "on_epoch_start", epoch)


def named(member: str, train: Mapping[str, Any], val: Mapping[str, Any]) -> Metrics:
    """Return an epoch's scalars under the names of the history: `train_loss`, `lr`, `grad_norm`, `val_loss`, ..."""
    found: Metrics = {"member": member}
    for split, values in (("train", train), ("val", val)):
        for name, value in values.items():
            if not isinstance(value, list):
                found[canonical_name(split, name)] = math.nan if value is None else value
    return found


def call(callback: Any, hook: str, *arguments: Any) -> None:
    """Call a hook, if the callback has it. Raises CallbackError naming the callback."""
    method = getattr(callback, hook, None)
    if method is None:
        return
    try:
        method(*arguments)
    except PacelineError:
        raise
    except Exception as error:
        at = f", epoch {arguments[0]}" if arguments else ""
        raise CallbackError(
            f"the callback {type(callback).__name__} failed: {type(error).__name__}: {error}",
            where=f"{type(callback).__name__}.{hook}{at}",
        ) from error
