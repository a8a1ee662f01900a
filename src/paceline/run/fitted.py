"""Members that are fitted by an algorithm of their own: what is checked before, how they train, what is kept of them.

There is no state between two intervals: a member that was cut off is fitted again from the start, to the same bits.
A member's folder then has the model as text, and `best.pt` without tensors but with the SHA-256 of that text.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from paceline.checkpoint.files import write_bytes_atomic, write_text_atomic
from paceline.checkpoint.store import write_state
from paceline.config.reading import read_text
from paceline.config.suggest import hint
from paceline.errors import CheckpointCorruptError, ConfigError, DataError, ModelError
from paceline.run.inputs import InMemory
from paceline.run.publish import SCHEMA_VERSION, data_part, npz, prediction_arrays, write_history
from paceline.run.recipe import GIVEN
from paceline.train.cohort import Trainee
from paceline.train.estimators import EstimatorLearner, Fitting, judged
from paceline.types import Record

if TYPE_CHECKING:
    from paceline.run.folder import Run
    from paceline.run.job import Job
    from paceline.train.control import LoopControl
    from paceline.types import Batch, Cohort, Estimator, Fitted, Value

LOG = logging.getLogger("paceline")
ENGINE = "estimator"  # of a cohort, in the plan
ROUND_SECONDS = 1.5e-3  # one round with its evaluation, of few rows; measured on one core
CONCERNS = ("training.selection.", "training.early_stopping.enabled", "training.evaluate.every_epochs")
AGAIN = "delete the run's logs/*.done of this member; paceline resume then fits it again"
Rows = Sequence[Mapping[str, Any]]  # lines of a journal


def rehearse_estimator(job: Job) -> None:
    """Raise PacelineError for data, task or metric that the estimator cannot work with; fit it to a few samples."""
    assert job.estimator is not None
    inputs, where = job.inputs, f"model={job.config.model.name}"
    if not isinstance(inputs, InMemory):
        raise ModelError("the model needs all rows at once, and a DataLoader gives batches", where=where,
                         hint="arrays or data of a recipe")  # fmt: skip
    spec = inputs.spec
    if spec.classes or "y" not in spec.shapes:
        raise ModelError("the model predicts numbers, and the targets are classes", where=where,
                         got=f"{len(spec.classes)} classes", hint="another model, or float targets")  # fmt: skip
    if len(spec.shapes["x"]) != 1:
        raise ModelError("the model takes rows (samples, features), and the data are sequences", where=where,
                         got=f"x of shape (samples, {', '.join(map(str, spec.shapes['x']))})",
                         hint="data.form=rows, or model=mlp")  # fmt: skip
    if spec.shapes["y"] != ():
        raise ModelError("the model predicts one number per sample", where=where,
                         got=f"y of shape (samples, {', '.join(map(str, spec.shapes['y']))})",
                         hint="one run per target, or model=mlp")  # fmt: skip
    for part in ("train", *inputs.parts):
        if not len(getattr(inputs.split, part)):
            raise DataError(f"the {part} part is empty", where="data.split")
    _check_metric(job, _rehearsed(job.estimator, job, inputs))


def _rehearsed(estimator: Estimator, job: Job, inputs: InMemory) -> Mapping[str, Value]:
    few = inputs.split.train[:8]
    batch = _batch(inputs, few)
    x, y = batch["x"].numpy(), batch["y"].numpy()
    _, _, found = next(iter(estimator.fit(x, y, x, every=1, seed=job.member.seed)))
    return judged(job.task, found, batch)


def _check_metric(job: Job, values: Mapping[str, Value]) -> None:
    metric = job.config.training.selection.metric
    numbers = [f"val_{name}" for name, value in values.items() if not isinstance(value, list)]
    if metric not in numbers:
        raise ConfigError("the task has no metric of that name", where="training.selection.metric", got=metric,
                          hint=hint(metric, numbers))  # fmt: skip


def without_meaning(job: Job, changed: Sequence[Mapping[str, Any]]) -> str | None:
    """Return a line that names keys the user changed and that do not concern the job's model; None where none is."""
    if job.estimator is None:
        return None
    keys = [row["key"] for row in changed]
    keys = [key for key in keys if key.startswith(("training.", "loss.")) and not key.startswith(CONCERNS)]
    shown = ", ".join(keys[:5]) + ", ..." * (len(keys) > 5)
    return f"model={job.config.model.name} is no network: it takes no notice of {shown}" if keys else None


def seconds(jobs: Sequence[Job]) -> float:
    """Estimate how long the members take one after another."""
    return sum(ROUND_SECONDS * job.estimator.rounds for job in jobs if job.estimator is not None)


def isolated(jobs: Sequence[Job], cohorts: Sequence[Cohort]) -> bool:
    """Whether foreign code of some cohorts belongs into a worker, and a worker can have the data."""
    names = {member for cohort in cohorts for member in cohort.members}
    own = [job for job in jobs if job.member.id in names and job.config.data.name != GIVEN]
    return any(job.estimator is not None and job.estimator.isolated for job in own)


def most_rounds(jobs: Sequence[Job]) -> int:
    """How many rounds the longest of some members may take."""
    return max(job.estimator.rounds for job in jobs if job.estimator is not None)


def fit_jobs(
    jobs: Sequence[Job], control: LoopControl, opened: Callable[[], None]
) -> tuple[EstimatorLearner, Iterator[Record]]:
    """Return the learner of a cohort of estimators, and its records; fitting goes on as they are asked for."""
    learner = EstimatorLearner(control=control)
    data = [_fitting(job, opened) for job in jobs]
    trainees = [Trainee(member=job.member, training=job.config.training) for job in jobs]
    return learner, learner.fit(data, trainees)


def _fitting(job: Job, opened: Callable[[], None]) -> Fitting:
    assert job.estimator is not None and isinstance(job.inputs, InMemory)
    inputs = job.inputs
    parts = {part: _batch(inputs, getattr(inputs.split, part)) for part in ("train", *inputs.parts)}
    return Fitting(estimator=job.estimator, task=job.task, parts=parts, opened=opened)


def _batch(inputs: InMemory, rows: np.ndarray[Any, Any]) -> Batch:
    return {
        name: torch.from_numpy(np.ascontiguousarray(column))
        for name, column in inputs.columns(rows).items()
        if column.dtype.kind in "biuf"
    }


def publish_fitted(folder: Path, job: Job, learner: EstimatorLearner, k: int, rows: Rows) -> None:
    """Write a member's model, `best.pt`, `history.*` and `predictions.npz`."""
    assert job.estimator is not None and isinstance(job.inputs, InMemory)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for row in rows if row["member"] == job.member.id]
    fitted, selection = learner.fitted[k], learner.selectors[k].record()
    text = fitted.to_text()
    write_text_atomic(folder / job.estimator.file, text)
    val = next(row["values"] for row in rows if row["split"] == "best")
    write_state(folder / "best.pt", {
        "schema_version": SCHEMA_VERSION,
        "kind": "best",
        "member": job.member.id,
        "model_state_dict": {},
        "model_file": {"name": job.estimator.file, "sha256": _digest(text)},
        "epoch": selection["epoch"],
        "step": selection["step"],
        "metrics": {f"val_{name}": value for name, value in val.items()},
        "selection": selection,
        "config": job.config.tree(),
        **data_part(job),
    })  # fmt: skip
    write_history(folder, rows)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for part in job.inputs.parts:
        columns = job.inputs.columns(getattr(job.inputs.split, part))
        arrays |= prediction_arrays(job.inputs, part, predicted(fitted, columns))
    write_bytes_atomic(folder / "predictions.npz", npz(arrays))


def predicted(fitted: Fitted, columns: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Return what a network's task would: `prediction` (N,), in the type of the columns."""
    x = columns["x"]
    return {"prediction": np.asarray(fitted.predict(x)).astype(x.dtype)}


def evaluated(job: Job, fitted: Fitted, part: str) -> dict[str, Value]:
    """Return loss and metrics over a part, opened or not."""
    assert isinstance(job.inputs, InMemory)
    batch = _batch(job.inputs, getattr(job.inputs.split, part))
    return judged(job.task, fitted.predict(batch["x"].numpy()), batch)


def read_fitted(run: Run, member: str, best: Mapping[str, Any], estimator: Estimator) -> Fitted:
    """Read a member's model. Raises CheckpointCorruptError unless the text is the one that was written."""
    folder = run.member_folder(member)
    text = check_text(folder, best, estimator.file)
    try:
        return estimator.read(text)
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointCorruptError("the model cannot be read", where=str(folder / estimator.file), got=str(error),
                                     hint=AGAIN) from None  # fmt: skip


def check_text(folder: Path, best: Mapping[str, Any], name: str = "") -> str:
    """Return the text of the model that a `best.pt` in the folder names; nothing where it has tensors itself.

    name: the file that it has to be. Raises CheckpointCorruptError unless the text is the one that was written.
    """
    recorded = best.get("model_file") or {}
    name = name or recorded.get("name", "")
    if not name:
        return ""
    path = folder / name
    if recorded.get("name") != name or path.parent != folder:
        raise CheckpointCorruptError("best.pt is not of this model", where=str(folder), got=recorded.get("name"),
                                     hint=AGAIN)  # fmt: skip
    try:
        text = read_text(path)
    except OSError as error:
        raise CheckpointCorruptError("the model cannot be read", where=str(path), got=str(error), hint=AGAIN) from None
    if recorded.get("sha256") != _digest(text):
        raise CheckpointCorruptError("the model is not what was written (SHA-256)", where=str(path), hint=AGAIN)
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
