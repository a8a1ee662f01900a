"""Using a finished run: `evaluate` its selected states on a part, `predict` new input from the run folder alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from paceline.api.new_input import Columns, by_step, check_output, checked_columns, prepared, read_input, shown, spec_of
from paceline.api.runs import PathLike, open_with_recipe
from paceline.checkpoint.files import write_text_atomic
from paceline.data.csv_text import csv_text
from paceline.data.fingerprint import part_fingerprint
from paceline.data.loader import ArrayPass
from paceline.errors import DataError, RunError
from paceline.evaluate import passes
from paceline.losses.config import asked_by
from paceline.models.building import Build, build_shell, within_memory
from paceline.models.config import EstimatorConfig
from paceline.run.config import RunConfig, resolve
from paceline.run.decide import evaluated_after, predicted_after
from paceline.run.fitted import evaluated, predicted, read_fitted
from paceline.run.folder import Run, write_json
from paceline.run.inputs import InMemory
from paceline.run.openings import record_opening
from paceline.run.publish import prediction_arrays
from paceline.run.start import reopen
from paceline.run.summary import intervals
from paceline.train.fitting import Misfits
from paceline.train.runtime import autocast, resolve_device, session

if TYPE_CHECKING:
    from paceline.data.dataset import Dataset
    from paceline.run.job import Job
    from paceline.run.recipe import Recipe

PREDICT_BATCH = 1024


def evaluate(
    run: Run | PathLike, part: str = "val", *, data: Dataset | None = None, use: Sequence[PathLike] = ()
) -> dict[str, Any]:
    """Evaluate every member's selected state on `val` or `test` again; write and return `evaluation_<part>.json`.

    data: again the data set that `train` was given, if it was.

    Beside the raw metrics stand those after the members' fitted temperatures and tuned thresholds. An evaluation on
    test data is put on record. Raises RunError or DataError when the run or its data do not allow it.
    """
    run, recipe = open_with_recipe(run, use)
    if part not in ("val", "test"):
        raise RunError("there is no such part to evaluate on", where="part", got=part, hint="val or test")
    refuse_unfinished(run, run.members)
    prepared = reopen(run, recipe, data)
    split = prepared.splits[0]
    assert prepared.dataset is not None
    if not len(getattr(split, part)):
        raise DataError("the data has no test part", where=str(run.path), hint="data.split.test_fraction=0.2")
    if part == "test":
        mark = part_fingerprint(prepared.dataset, split.test)
        record_opening(run, fingerprint=mark, by="evaluate")
    with session(prepared.config.numerics, prepared.plan.threads):
        rows = [_evaluate_member(run, job, part) for job in prepared.jobs]
    variants = [
        {"name": name, "metrics": intervals(prepared, [row for row in rows if row["variant"] == name])}
        for name in dict.fromkeys(row["variant"] for row in rows)
    ]
    result = {
        "schema_version": 1,
        "run": run.name,
        "part": part,
        "metrics": variants[0]["metrics"],
        "variants": variants if len(variants) > 1 else [],
        "members": rows,
    }
    write_json(run.path / f"evaluation_{part}.json", result)
    return result


def predict(
    run: Run | PathLike,
    source: PathLike | Mapping[str, Any],
    *,
    members: Sequence[str] = (),
    per_member: bool = False,
    probabilities: bool | None = None,
    raw: bool = False,
    output: PathLike | None = None,
    use: Sequence[PathLike] = (),
) -> pd.DataFrame:
    """Predict new input with the selected states of a run, from the run folder alone; one row per sample.

    source: raw as the training data was: a .csv, .npz or .ts file (see `paceline.data.unlabelled`), or a mapping with
        `x` (N, T, F) or (N, F), and `lengths` (N,) for variable length, `channels` (F,), `ids` (N,). Channels with
        names are matched by them.
    members: which to use (all by default); with several, probabilities and numeric predictions are averaged.
        per_member: a row per member and sample instead, with a column `member`.
    probabilities: show those of the classes; None leaves it to the data source (`challenge`: a submission has none).
    raw: leave out the fitted temperatures and tuned thresholds of the members, if they have any.
    output: a CSV to write.

    The index holds the samples' ids. Columns: `prediction`, and `p_<class>` per class; without classes those that the
    task predicts, `<name>_<i>` where there are several values per sample; a row per valid step where the targets have
    one number per step. Probabilities are at each member's fitted
    temperature. With tuned thresholds the class is the largest of the mean of the members' weighted probabilities,
    which are not shown. Raises PacelineError for input that is not of the training data's form; nothing is written.
    """
    run, recipe = open_with_recipe(run, use)
    if output is not None:
        check_output(Path(output), source)
    chosen = list(dict.fromkeys(members)) or run.members
    refuse_unfinished(run, [member for member in run.members if member in chosen])
    first = run.best(chosen[0])
    section = resolve(first["config"], recipe).data
    given = read_input(source, first, section)
    columns = checked_columns(given, first, section)
    found = {member: _predict_member(run, recipe, member, columns, given.source, raw=raw) for member in chosen}
    rows, samples = by_step(found, given, first)
    table = shown(rows, first["classes"], samples, per_member=per_member, probabilities=probabilities)
    if output is not None:
        write_text_atomic(Path(output), csv_text(table))
    return table


def refuse_unfinished(run: Run, members: Sequence[str]) -> None:
    """Raise RunError where a member has no selected weights yet, before any data is looked at."""
    missing = [member for member in members if not (run.member_folder(member) / "best.pt").is_file()]
    if missing:
        raise RunError("the run is not finished: a member has no weights yet", where=str(run.path),
                       got=", ".join(missing[:5]), hint=f"paceline resume {run.path}")  # fmt: skip


def _evaluate_member(run: Run, job: Job, part: str) -> dict[str, Any]:
    assert isinstance(job.inputs, InMemory)
    training, device = job.config.training, resolve_device(job.config.device)
    best = run.best(job.member.id)
    if job.estimator is not None:
        return _line(job, part, evaluated(job, read_fitted(run, job.member.id, best, job.estimator), part))
    model = _fitting(job.build_model, best, job.member.id).to(device)
    batches, precision = job.inputs.part(part, training, device), autocast(training.amp, device)
    values = passes.evaluate(model, job.task, batches, precision)
    if best.get("decision") is not None:
        arrays = prediction_arrays(job.inputs, part, passes.predict(model, job.task, batches, precision))
        values |= evaluated_after(best, arrays, part)
    return _line(job, part, values)


def _line(job: Job, part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a member's line of the evaluation."""
    metrics = {
        f"{part}_{name}": value if math.isfinite(value) else None  # JSON has no NaN
        for name, value in values.items()
        if not isinstance(value, list)
    }
    member = job.member
    return {"id": member.id, "variant": member.variant, "seed": member.seed, "fold": member.fold, "metrics": metrics}


def _predict_member(
    run: Run, recipe: Recipe, member: str, columns: Columns, source: str, *, raw: bool
) -> dict[str, np.ndarray[Any, Any]]:
    best = run.best(member)
    config, spec = resolve(best["config"], recipe), spec_of(best)
    if isinstance(config.model, EstimatorConfig):
        return predicted(read_fitted(run, member, best, config.model.build(spec)), prepared(columns, best, source))
    device, loss = resolve_device(config.device), config.loss.build(spec)
    build = cast("Build", partial(config.model.build, asked_by(loss, spec)))
    model, task = _fitting(build, best, member).to(device), config.task.build(spec, loss)
    tensors = {name: torch.from_numpy(column).to(device) for name, column in prepared(columns, best, source).items()}
    found = passes.predict(model, task, ArrayPass(tensors, PREDICT_BATCH), _autocast(config, device))
    return found if raw else predicted_after(best, found)


def _autocast(config: RunConfig, device: torch.device) -> Any:
    return autocast(config.training.amp, device)


def with_weights(build: Build, best: Mapping[str, Any], member: str) -> nn.Module:
    """Build a model and load a member's selected weights; raises CheckpointMismatchError where they do not fit."""
    saved, where = best.get("model_state_dict"), f"members/{member}/best.pt"
    with within_memory(where):
        model = build()
    try:
        model.load_state_dict(saved)  # type: ignore[arg-type]  # which it says
    except (RuntimeError, TypeError) as error:
        _check_weights(saved, model, where, [str(error).splitlines()[-1].strip()])
    return model


def _fitting(build: Build, best: Mapping[str, Any], member: str) -> nn.Module:
    """As `with_weights`, where the model's size comes from a file: what does not fit never takes any memory."""
    shell = build_shell(build)
    if shell is not None:
        _check_weights(best["model_state_dict"], shell, f"members/{member}/best.pt")
    return with_weights(build, best, member)


def _check_weights(saved: object, model: nn.Module, where: str, otherwise: Sequence[str] = ()) -> None:
    misfits = Misfits()
    misfits.compare(saved, dict(model.state_dict()))
    misfits.changed += [] if misfits.any else otherwise
    misfits.refuse("the weights do not fit the model", where=where)
