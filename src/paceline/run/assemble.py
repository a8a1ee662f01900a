"""From the jobs of a cohort to its engine and feed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from paceline.data.loader import upload
from paceline.data.rows import RowFeed, RowPass, Rows
from paceline.errors import ModelError
from paceline.models.norm import MaskedBatchNorm1d
from paceline.models.vectorise import is_recurrent
from paceline.run.inputs import InMemory
from paceline.run.openings import RecordedPass
from paceline.train.engine_cohort import CohortEngine
from paceline.train.engine_eager import EagerEngine
from paceline.train.learner import EngineAndFeed, seeded_model
from paceline.types import Cohort

if TYPE_CHECKING:
    from paceline.run.job import Job

Opened = Callable[[], None]


def assemble(cohort: Cohort, jobs: Sequence[Job], device: torch.device, opened: Opened) -> EngineAndFeed:
    """Return the engine of the plan with the members' models, and the feed of their training parts.

    `opened` is called when a pass over test data begins.
    """
    if cohort.engine == "eager":
        (job,) = jobs
        return _eager(job, device, opened)
    return _cohort(cohort, jobs, device, opened)


def _eager(job: Job, device: torch.device, opened: Opened) -> EngineAndFeed:
    training = job.config.training
    passes = job.inputs.passes(training, device)
    if "test" in passes:
        passes["test"] = RecordedPass(passes["test"], opened)
    model = seeded_model(job.build_model, job.member)
    engine = EagerEngine(model, job.task, training, job.member, passes, device)
    return EngineAndFeed(engine, job.inputs.feed(job.member, training, device))


def _cohort(cohort: Cohort, jobs: Sequence[Job], device: torch.device, opened: Opened) -> EngineAndFeed:
    training = jobs[0].config.training
    inputs = [job.inputs for job in jobs if isinstance(job.inputs, InMemory)]
    assert len(inputs) == len(jobs), "a cohort trains on data in memory"
    table, offsets = _table(inputs, device)
    rows = [Rows(member=j.member, rows=i.split.train + o) for j, i, o in zip(jobs, inputs, offsets, strict=True)]
    models = [seeded_model(job.build_model, job.member) for job in jobs]
    feed = RowFeed(rows, training.batch_size, training.gradient_accumulation_steps, device)
    if feed.padded and "mask" not in table and any(isinstance(m, MaskedBatchNorm1d) for m in models[0].modules()):
        raise ModelError("members with parts of different size cannot pad a batch through batch normalisation",
                         where="training.engine", got="cohort", hint="training.engine=eager")  # fmt: skip
    size = _evaluation_batch(training.evaluate.batch_size, len(jobs), models[0])
    passes = {
        part: RowPass([getattr(i.split, part) + o for i, o in zip(inputs, offsets, strict=True)],
                      size, device, opened if part == "test" else None)
        for part in inputs[0].parts
    }  # fmt: skip
    engine = CohortEngine(
        models, [job.task for job in jobs], [job.config.training for job in jobs], [job.member for job in jobs],
        table, passes, device, compiled=cohort.compile,
    )  # fmt: skip
    return EngineAndFeed(engine, feed)


def _evaluation_batch(wanted: int, members: int, model: nn.Module) -> int:
    """Return the samples per member of an evaluation batch: few enough for the activations of all to stay in the cache.

    16 small MLPs over 2,000 rows: 4.7 ms in batches of 128, 9.8 ms in batches of 1,024. A recurrent model pays per time
    step, so it keeps its large batches.
    """
    return wanted if is_recurrent(model) else min(wanted, max(64, 2048 // members))


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
