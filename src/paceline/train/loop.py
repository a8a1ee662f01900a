"""The loop of every engine, as a generator of records.

    restore > [evaluate if due > select > yield > save if due or stopping > stop? > fetch > step] > final evaluation

`restore` happens when a `Cohort` is built from a state. The consumer of a record writes it down before the generator
moves on, so a saved log offset includes it and a stop applies at that step. Closing the generator never saves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from paceline.train import divergence
from paceline.train.cohort import Status
from paceline.train.control import EvaluationCutError
from paceline.train.flatness import Watch
from paceline.train.selection import exhaustion
from paceline.types import Record

if TYPE_CHECKING:
    from paceline.train.cohort import CohortTraining
    from paceline.train.control import LoopControl
    from paceline.train.saving import Saver
    from paceline.types import Value


def loop(cohort: CohortTraining, saver: Saver, control: LoopControl) -> Iterator[Record]:
    """Train all members of a cohort; yield `train` and `val` records per evaluation, then the final ones."""
    watch = Watch(cohort)
    while True:
        due = cohort.due()
        try:
            found = cohort.engine.evaluate("val", due, control) if due else []
        except EvaluationCutError:  # a resumed run makes it again
            due, found = [], []
        yield from _judged(cohort, due, found, watch)
        cohort.settle(due, control)
        interrupted = bool(control.interrupted)  # read once: a signal may come between any two lines
        ending = interrupted or not cohort.active()
        asked = control.take_save()
        if ending or asked or saver.due(cohort):
            saver.save(cohort, awaited=ending or asked)
        if interrupted:
            return
        if ending:
            break
        cohort.step()
        control.attended = True  # from here on there is something to save; the first step may have taken a compiler
    with suppress(EvaluationCutError):  # all is saved already
        yield from _final(cohort, control)


def _judged(
    cohort: CohortTraining, due: Sequence[int], found: Sequence[dict[str, Value]], watch: Watch
) -> Iterator[Record]:
    """Judge the selection metric of every member evaluated, keep its weights if they are its best."""
    if not due:
        return
    losses = cohort.engine.flush(due)
    watch.notice(cohort, due, losses)
    for k, train, values in zip(due, losses, found, strict=True):
        rate = cohort.rate(k)  # before the schedule has seen this evaluation: a resumed run asks for it anew
        _judge(cohort, k, train, values)
        yield cohort.record(k, "train", train | {"lr": rate})
        yield cohort.record(k, "val", values)


def _judge(cohort: CohortTraining, k: int, train: dict[str, float], values: dict[str, Value]) -> None:
    """Select, and end the member's training where it is over; a smoothed value is added to `values`.

    An epoch whose training loss is not finite counts as without a value, so it is never an improvement.
    """
    training, epoch = cohort.trainees[k].training, cohort.epoch(k)
    name = training.selection.metric.removeprefix("val_")
    raw = _scalar(values[name]) if math.isfinite(train["loss"]) else math.nan
    judgement = cohort.selectors[k].observe(raw, epoch, cohort.at, cohort.schedules[k].epochs_since_restart(epoch))
    if judgement.improved:
        cohort.engine.keep(k)
    cohort.schedules[k].observe(raw, judgement.smoothed, epoch)
    if training.selection.smoothing != "none":
        values[f"{name}_smoothed"] = judgement.smoothed
    failure = divergence.judge(cohort, k, train, values)
    if failure:
        cohort.end(k, Status.FAILED, failure)
    elif judgement.exhausted:
        cohort.end(k, Status.STOPPED, exhaustion(training.early_stopping))
    elif epoch >= training.num_epochs:
        cohort.end(k, Status.FINISHED, f"all {epoch} epochs done")


def _final(cohort: CohortTraining, control: LoopControl) -> Iterator[Record]:
    """Evaluate the last states, then the selected ones, on validation; the selected ones on test if it is open."""
    whole = [k for k, progress in enumerate(cohort.progress) if progress.status is not Status.FAILED]
    if not whole:
        return
    yield from _records(cohort, whole, "val", "last", control)
    cohort.engine.use_best()
    yield from _records(cohort, whole, "val", "best", control)
    if "test" in cohort.engine.parts:
        yield from _records(cohort, whole, "test", "test", control)


def _records(
    cohort: CohortTraining, members: Sequence[int], part: str, split: str, control: LoopControl
) -> Iterator[Record]:
    for k, values in zip(members, cohort.engine.evaluate(part, members, control), strict=True):
        yield cohort.record(k, split, values)


def _scalar(value: Value) -> float:
    assert isinstance(value, (int, float)), "the selection metric is a number"
    return float(value)
