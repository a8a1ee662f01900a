"""The loop of every engine, as a generator of records.

    restore > [evaluate if due > select > yield > save if due or stopping > stop? > fetch > step] > final evaluation

`restore` happens when a `Cohort` is built from a state. The consumer of a record writes it down before the generator
moves on, so a saved log offset includes it and a stop applies at that step. Closing the generator never saves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
        for k in due:
            yield from _evaluate(cohort, k)
        cohort.settle(due, control)
        ending = control.interrupted or not cohort.active()
        if ending or saver.due(cohort, control):
            saver.save(cohort)
        if control.interrupted:
            return
        if ending:
            break
        cohort.step()
    for k in range(len(cohort.members)):
        yield from _final(cohort, k)


def _evaluate(cohort: CohortTraining, k: int) -> Iterator[Record]:
    """Evaluate member k, judge its selection metric, keep its weights if they are the best so far."""
    progress, trainee = cohort.progress[k], cohort.trainees[k]
    epoch = cohort.epoch(k)
    train = cohort.meter.flush(k) | {"lr": cohort.rate(k)}
    values = dict(cohort.engine.evaluate(k, trainee.passes["val"]))
    metric = trainee.training.selection.metric
    raw = _scalar(values[metric.removeprefix("val_")])
    judgement = cohort.selectors[k].observe(raw, epoch, cohort.at)
    if judgement.improved:
        cohort.engine.keep(k)
    cohort.schedules[k].observe(raw, judgement.smoothed, epoch)
    if not math.isfinite(train["loss"]):
        progress.end(Status.FAILED, f"the training loss was not finite in epoch {epoch}")
    elif judgement.exhausted:
        progress.end(Status.STOPPED, f"no improvement for {trainee.training.early_stopping.patience} evaluations")
    elif epoch >= trainee.training.num_epochs:
        progress.end(Status.FINISHED, f"all {epoch} epochs done")
    if trainee.training.selection.smoothing != "none":
        values[f"{metric.removeprefix('val_')}_smoothed"] = judgement.smoothed
    yield cohort.record(k, "train", train)
    yield cohort.record(k, "val", values)


def _final(cohort: CohortTraining, k: int) -> Iterator[Record]:
    """Evaluate the last state and then the selected one on validation, and the selected one on test if it is open."""
    if cohort.progress[k].status is Status.FAILED:
        return
    passes = cohort.trainees[k].passes
    yield cohort.record(k, "last", cohort.engine.evaluate(k, passes["val"]))
    cohort.engine.use_best(k)
    yield cohort.record(k, "best", cohort.engine.evaluate(k, passes["val"]))
    if "test" in passes:
        yield cohort.record(k, "test", cohort.engine.evaluate(k, passes["test"]))


def _scalar(value: Value) -> float:
    assert isinstance(value, (int, float)), "the selection metric is a number"
    return float(value)
