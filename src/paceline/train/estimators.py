"""Estimators as a learner: fitted to the same parts as networks, judged, selected and recorded in the same way.

Shapes: N samples, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from paceline.metrics.state import on_host
from paceline.metrics.state import values as divide
from paceline.train.cohort import Progress, Status, Trainee
from paceline.train.config import EarlyStoppingConfig
from paceline.train.selection import Selector
from paceline.types import Record

if TYPE_CHECKING:
    from paceline.train.control import LoopControl
    from paceline.types import Batch, Estimator, Fitted, Task, Value


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """What one member is fitted with. parts: the prepared columns of `train`, `val`, and of `test` where it is open."""

    estimator: Estimator
    task: Task
    parts: Mapping[str, Batch]
    opened: Callable[[], None]  # called when the test part is looked at


class EstimatorLearner:
    """Fits members one after another. `progress`, `selectors` and `fitted` then say how each ended, and with what."""

    def __init__(self, *, control: LoopControl) -> None:
        self._control = control
        self.members: tuple[str, ...] = ()
        self.progress: list[Progress] = []
        self.selectors: list[Selector] = []
        self.fitted: list[Fitted] = []

    def fit(self, data: Sequence[Fitting], members: Sequence[Trainee]) -> Iterator[Record]:
        """Yield per interval a record of `train` and one of `val`, then `last`, `best` and `test`: member by member.

        A record's step and epoch are the rounds done. Ends early where the control says so.
        """
        self.members = tuple(trainee.member.id for trainee in members)
        self.progress = [Progress() for _ in members]
        self.selectors = [_selector(d.estimator, t) for d, t in zip(data, members, strict=True)]
        for k, (own, trainee) in enumerate(zip(data, members, strict=True)):
            yield from self._member(k, own, trainee)
            if self._control.interrupted:
                return

    def _member(self, k: int, own: Fitting, trainee: Trainee) -> Iterator[Record]:
        member, training = self.members[k], trainee.training
        metric = training.selection.metric.removeprefix("val_")
        x, y, x_val = (own.parts[part][name].numpy() for part, name in (("train", "x"), ("train", "y"), ("val", "x")))
        best: Fitted | None = None
        last: Fitted | None = None
        rounds = own.estimator.fit(x, y, x_val, every=training.evaluate.every_epochs, seed=trainee.member.seed)
        for last, on_train, on_val in rounds:
            train = judged(own.task, on_train, own.parts["train"])
            values = judged(own.task, on_val, own.parts["val"])
            raw = values[metric]
            assert isinstance(raw, (int, float)), "the selection metric is a number"
            judgement = self.selectors[k].observe(float(raw), last.rounds, last.rounds)
            best = last if judgement.improved or best is None else best
            if training.selection.smoothing != "none":
                values[f"{metric}_smoothed"] = judgement.smoothed
            yield _record(member, last, "train", {"loss": train["loss"]})
            yield _record(member, last, "val", values)
            if self._control.interrupted:
                return
            if judgement.exhausted:
                self._end(k, last, Status.STOPPED, f"no improvement for {own.estimator.patience} rounds")
            elif self._control.stops(member):
                self._end(k, last, Status.STOPPED, "stopped by a callback")
            if self.progress[k].status is not Status.TRAINING:
                break
        assert last is not None and best is not None, "an estimator yields at least once"
        if self.progress[k].status is Status.TRAINING:
            self._end(k, last, Status.FINISHED, f"all {last.rounds} rounds done")
        self.fitted.append(best)
        yield from _final(member, own, last, best)

    def _end(self, k: int, last: Fitted, status: Status, reason: str) -> None:
        self.progress[k] = Progress(status=status, reason=reason, ended_at=last.rounds)


def judged(task: Task, prediction: Any, batch: Batch) -> dict[str, Value]:
    """Return `loss` and the task's metrics of predictions (N,) of a whole part."""
    outputs = torch.from_numpy(prediction).to(batch["y"].dtype)
    weights, sums = task.weights(batch), task.loss_sums(outputs, batch)
    loss = sum(float(sums[term] / weights[term]) for term in sums)
    return {"loss": loss, **divide(on_host(task.metric_sums(outputs, batch)))}


def _selector(estimator: Estimator, trainee: Trainee) -> Selector:
    """Patience is the estimator's own, counted in rounds."""
    training, patience = trainee.training, estimator.patience
    enabled = training.early_stopping.enabled and patience is not None
    stopping = EarlyStoppingConfig(
        enabled=enabled, patience=math.ceil((patience or 1) / training.evaluate.every_epochs)
    )
    return Selector(training.selection, stopping)


def _final(member: str, own: Fitting, last: Fitted, best: Fitted) -> Iterator[Record]:
    x_val = own.parts["val"]["x"].numpy()
    for split, fitted in (("last", last), ("best", best)):
        yield _record(member, last, split, judged(own.task, fitted.predict(x_val), own.parts["val"]))
    if "test" in own.parts:
        own.opened()
        on_test = best.predict(own.parts["test"]["x"].numpy())
        yield _record(member, last, "test", judged(own.task, on_test, own.parts["test"]))


def _record(member: str, fitted: Fitted, split: str, values: Mapping[str, Value]) -> Record:
    return Record(member=member, step=fitted.rounds, epoch=fitted.rounds, split=split, values=values)
