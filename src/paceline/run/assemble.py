"""From the jobs of a cohort to its engine and feed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from paceline.data.buckets import trailing_lengths
from paceline.data.loader import upload
from paceline.data.rows import RowFeed, RowPass, Rows
from paceline.errors import ModelError
from paceline.models.norm import MaskedBatchNorm1d
from paceline.models.vectorise import is_recurrent
from paceline.run.initial import initial_model
from paceline.run.inputs import InMemory
from paceline.run.openings import RecordedPass
from paceline.train.augment import augment_of
from paceline.train.engine_cohort import CohortEngine
from paceline.train.engine_eager import EagerEngine
from paceline.train.learner import EngineAndFeed
from paceline.train.micro import MicroBatches
from paceline.types import Cohort

if TYPE_CHECKING:
    from paceline.run.job import Job

Opened = Callable[[], None]
Changed = Callable[[Mapping[str, Any]], None]


def assemble(
    cohort: Cohort,
    jobs: Sequence[Job],
    device: torch.device,
    opened: Opened,
    changed: Changed = lambda change: None,
) -> EngineAndFeed:
    """Return the engine of the plan with the members' models, and the feed of their training parts.

    `opened` is called when a pass over test data begins, `changed` with a change of the plan (see `change_plan`).
    """
    if cohort.engine == "eager":
        (job,) = jobs
        return _eager(cohort, job, device, opened, changed)
    return _cohort(cohort, jobs, device, opened, changed)


def _eager(cohort: Cohort, job: Job, device: torch.device, opened: Opened, changed: Changed) -> EngineAndFeed:
    def halved(step: int, samples: int, reason: str) -> None:
        changed({"cohort": cohort.id, "step": step, "micro_batch": samples, "reason": reason})

    training = job.config.training
    passes = job.inputs.passes(training, device, batches=cohort.batches)
    if "test" in passes:
        passes["test"] = RecordedPass(passes["test"], opened)
    augment, micro = augment_of(training.augment, job.inputs.spec), MicroBatches(cohort.micro_batches, halved)
    engine = EagerEngine(
        initial_model(job), job.task, training, job.member, passes, device, augment=augment, micro=micro
    )
    return EngineAndFeed(engine, job.inputs.feed(job.member, training, device, batches=cohort.batches))


def _cohort(
    cohort: Cohort, jobs: Sequence[Job], device: torch.device, opened: Opened, changed: Changed
) -> EngineAndFeed:
    def uncompiled(step: int, reason: str) -> None:
        changed({"cohort": cohort.id, "step": step, "compile": False, "reason": reason})

    training = jobs[0].config.training
    inputs = [job.inputs for job in jobs if isinstance(job.inputs, InMemory)]
    assert len(inputs) == len(jobs), "a cohort trains on data in memory"
    table, offsets = _table(inputs, device)
    rows = [
        Rows(member=j.member, rows=i.trained(j.config.training) + o)
        for j, i, o in zip(jobs, inputs, offsets, strict=True)
    ]
    models = [initial_model(job) for job in jobs]
    cut = cohort.batches != "whole" and "mask" in table
    lengths = trailing_lengths(table["mask"].cpu().numpy()) if cut else None
    feed = RowFeed(
        rows, training.batch_size, training.gradient_accumulation_steps, device, lengths=lengths,
        by_length=cohort.batches == "by_length",
    )  # fmt: skip
    if feed.padded and "mask" not in table and any(isinstance(m, MaskedBatchNorm1d) for m in models[0].modules()):
        table["mask"] = _all_valid(jobs[0], table["x"])  # with it, a padded row is left out of the normalisation
    size = _evaluation_batch(training.evaluate.batch_size, len(jobs), models[0])
    passes = {
        part: RowPass([getattr(i.split, part) + o for i, o in zip(inputs, offsets, strict=True)],
                      size, device, opened if part == "test" else None, lengths)
        for part in inputs[0].parts
    }  # fmt: skip
    engine = CohortEngine(
        models, [job.task for job in jobs], [job.config.training for job in jobs], [job.member for job in jobs],
        table, passes, device, compiled=cohort.compile, uncompiled=uncompiled,
        augment=augment_of(training.augment, inputs[0].spec),
    )  # fmt: skip
    return EngineAndFeed(engine, feed)


def _all_valid(job: Job, x: torch.Tensor) -> torch.Tensor:
    """Return a mask (N, T) that is True everywhere. Raises ModelError where the model is not given one."""
    if x.ndim != 3 or "mask" not in getattr(job.config.task, "inputs", ()):
        raise ModelError("members with parts of different size cannot pad a batch through batch normalisation",
                         where="training.engine", got="cohort", hint="training.engine=eager")  # fmt: skip
    return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)


def _evaluation_batch(wanted: int, members: int, model: nn.Module) -> int:
    """Return the samples per member of an evaluation batch: few enough for the activations of all to stay in the cache.

    16 small MLPs over 2,000 rows: 8.7 ms in batches of 250, 10.2 of 128, 11.3 of 1,000. A recurrent model pays per time
    step, so it keeps its large batches.
    """
    return wanted if is_recurrent(model) else min(wanted, max(64, 4096 // members))


def _table(inputs: Sequence[InMemory], device: torch.device) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Stack the columns of all distinct inputs (one per fold); return them and where each member's begin."""
    distinct = list({id(i): i for i in inputs}.values())
    places = {id(i): n * len(i.dataset) for n, i in enumerate(distinct)}
    columns = [i.columns() for i in distinct]
    joined: dict[str, np.ndarray[Any, Any]] = {
        name: columns[0][name] if len(columns) == 1 else np.concatenate([c[name] for c in columns])
        for name in columns[0]
    }
    table = {name: upload(_writable(column), device, pin=inputs[0].pin) for name, column in joined.items()}
    return table, [places[id(i)] for i in inputs]


def _writable(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a contiguous array that torch may share; a data set's own arrays are read-only."""
    return np.ascontiguousarray(column) if column.flags.writeable else np.array(column, order="C")
