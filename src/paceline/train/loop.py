"""The loop of every engine, as a generator of records.

    restore > [evaluate if due > select > yield > save if due or stopping > stop? > fetch > step] > final evaluation

`restore` happens when a `Cohort` is built from a state. The consumer of a record writes it down before the generator
moves on, so a saved log offset includes it and a stop applies at that step. Closing the generator never saves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from paceline.train.cohort import Status
from paceline.types import Record

if TYPE_CHECKING:
    from paceline.train.cohort import CohortTraining
    from paceline.train.control import LoopControl
    from paceline.train.saving import Saver
    from paceline.types import Value


def loop(cohort: CohortTraining, saver: Saver, control: LoopControl) -> Iterator[Record]:
    """Train all members of a cohort; yield `train` and `val` records per evaluation, then the final ones."""
    while True:
        due = cohort.due()
        yield from _evaluate(cohort, due)
        cohort.settle(due, control)
        ending = control.interrupted or not cohort.active()
        if ending or saver.due(cohort, control):
            saver.save(cohort)
        if control.interrupted:
            return
        if ending:
            break
        cohort.step()
    yield from _final(cohort)


def _evaluate(cohort: CohortTraining, due: Sequence[int]) -> Iterator[Record]:
    """Evaluate the members that are due, judge each one's selection metric, keep its weights if they are its best."""
    if not due:
        return
    losses, found = cohort.engine.flush(due), cohort.engine.evaluate("val", due)
    for k, train, values in zip(due, losses, found, strict=True):
        _judge(cohort, k, train["loss"], values)
        yield cohort.record(k, "train", train | {"lr": cohort.rate(k)})
        yield cohort.record(k, "val", values)


def _judge(cohort: CohortTraining, k: int, train_loss: float, values: dict[str, Value]) -> None:
    """Select, and end the member's training where it is over; a smoothed value is added to `values`."""
    training, epoch = cohort.trainees[k].training, cohort.epoch(k)
    name = training.selection.metric.removeprefix("val_")
    raw = _scalar(values[name])
    judgement = cohort.selectors[k].observe(raw, epoch, cohort.at)
    if judgement.improved:
        cohort.engine.keep(k)
    cohort.schedules[k].observe(raw, judgement.smoothed, epoch)
    if training.selection.smoothing != "none":
        values[f"{name}_smoothed"] = judgement.smoothed
    if not math.isfinite(train_loss):
        cohort.end(k, Status.FAILED, f"the training loss was not finite in epoch {epoch}")
    elif judgement.exhausted:
        cohort.end(k, Status.STOPPED, f"no improvement for {training.early_stopping.patience} evaluations")
    elif epoch >= training.num_epochs:
        cohort.end(k, Status.FINISHED, f"all {epoch} epochs done")


def _final(cohort: CohortTraining) -> Iterator[Record]:
    """Evaluate the last states, then the selected ones, on validation; the selected ones on test if it is open."""
    whole = [k for k, progress in enumerate(cohort.progress) if progress.status is not Status.FAILED]
    if not whole:
        return
    yield from _records(cohort, whole, "val", "last")
    cohort.engine.use_best()
    yield from _records(cohort, whole, "val", "best")
    if "test" in cohort.engine.parts:
        yield from _records(cohort, whole, "test", "test")


def _records(cohort: CohortTraining, members: Sequence[int], part: str, split: str) -> Iterator[Record]:
    for k, values in zip(members, cohort.engine.evaluate(part, members), strict=True):
        yield cohort.record(k, split, values)


def _scalar(value: Value) -> float:
    assert isinstance(value, (int, float)), "the selection metric is a number"
    return float(value)
