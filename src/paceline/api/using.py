"""Using a finished run: `evaluate` its selected states on a part, `predict` new input from the run folder alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from paceline.api.runs import PathLike, open_with_recipe
from paceline.checkpoint.files import write_text_atomic
from paceline.data.fingerprint import part_fingerprint
from paceline.data.loader import ArrayPass
from paceline.data.npz import read_npz
from paceline.data.scale import Scaler
from paceline.errors import CheckpointError, DataError, RunError
from paceline.evaluate import passes
from paceline.run.config import RunConfig, resolve
from paceline.run.folder import Run, write_json
from paceline.run.inputs import InMemory
from paceline.run.openings import record_opening
from paceline.run.start import reopen
from paceline.run.summary import intervals
from paceline.train.runtime import autocast, resolve_device, session
from paceline.types import DataSpec

if TYPE_CHECKING:
    from paceline.run.job import Job
    from paceline.run.recipe import Recipe

PREDICT_BATCH = 1024


def evaluate(run: Run | PathLike, part: str = "val", *, use: Sequence[PathLike] = ()) -> dict[str, Any]:
    """Evaluate every member's selected state on `val` or `test` again; write and return `evaluation_<part>.json`.

    An evaluation on test data is put on record. Raises RunError or DataError when the run or its data do not allow it.
    """
    run, recipe = open_with_recipe(run, use)
    if part not in ("val", "test"):
        raise RunError("there is no such part to evaluate on", where="part", got=part, hint="val or test")
    refuse_unfinished(run, run.members)
    prepared = reopen(run, recipe)
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
    output: PathLike | None = None,
    use: Sequence[PathLike] = (),
) -> pd.DataFrame:
    """Predict new input with the selected states of a run, from the run folder alone; one row per sample.

    source: an .npz file or a mapping with `x` (N, T, F) or (N, F), and `lengths` (N,) for variable length, raw as the
        training data was. members: which to use (all by default); with several, probabilities and numeric predictions
        are averaged. output: a CSV to write.

    Columns: `prediction`, and `p_<class>` per class; without classes those that the task predicts, `<name>_<i>` where
    there are several values per sample.
    """
    run, recipe = open_with_recipe(run, use)
    chosen = list(members) or run.members
    refuse_unfinished(run, [member for member in run.members if member in chosen])
    found = [_predict_member(run, recipe, member, source) for member in chosen]
    names = found[0][0]
    table = table_of([arrays for _, arrays in found], names)
    if output is not None:
        write_text_atomic(Path(output), table.to_csv(index_label="sample"))
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
    model = with_weights(job.build_model(), run.best(job.member.id), job.member.id).to(device)
    values = passes.evaluate(model, job.task, job.inputs.part(part, training, device), autocast(training.amp, device))
    metrics = {
        f"{part}_{name}": value if math.isfinite(value) else None  # JSON has no NaN
        for name, value in values.items()
        if not isinstance(value, list)
    }
    member = job.member
    return {"id": member.id, "variant": member.variant, "seed": member.seed, "fold": member.fold, "metrics": metrics}


def _predict_member(
    run: Run, recipe: Recipe, member: str, source: PathLike | Mapping[str, Any]
) -> tuple[list[str], dict[str, np.ndarray[Any, Any]]]:
    best = run.best(member)
    config = resolve(best["config"], recipe)
    spec = DataSpec(
        shapes={name: tuple(shape) for name, shape in best["shapes"].items()},
        classes=tuple(best["classes"]), channels=tuple(best["channels"]), class_counts=tuple(best["class_counts"]),
    )  # fmt: skip
    device = resolve_device(config.device)
    columns = _input_columns(source, spec, best["scaler"])
    model = with_weights(config.model.build(spec), best, member).to(device)
    task = config.task.build(spec, config.loss.build(spec))
    tensors = {name: torch.from_numpy(column).to(device) for name, column in columns.items()}
    batches = ArrayPass(tensors, PREDICT_BATCH)
    return list(spec.classes), passes.predict(model, task, batches, _autocast(config, device))


def _autocast(config: RunConfig, device: torch.device) -> Any:
    return autocast(config.training.amp, device)


def with_weights(model: nn.Module, best: Mapping[str, Any], member: str) -> nn.Module:
    """Load a member's selected weights into a model. Raises CheckpointError where they do not fit."""
    try:
        model.load_state_dict(best["model_state_dict"])
    except (RuntimeError, KeyError) as error:
        raise CheckpointError("the weights do not fit the model", where=f"members/{member}/best.pt",
                              got=str(error).splitlines()[-1].strip()) from None  # fmt: skip
    return model


def _input_columns(
    source: PathLike | Mapping[str, Any], spec: DataSpec, scaler: Mapping[str, Any] | None
) -> dict[str, np.ndarray[Any, Any]]:
    """Return `x` and, where the model knows masks, `mask`: checked and scaled like the training data."""
    from paceline.data.dataset import dataset

    arrays = dict(source) if isinstance(source, Mapping) else dict(read_npz(Path(source)))
    where = "input" if isinstance(source, Mapping) else str(source)
    if "x" not in arrays:
        raise DataError("the input has no array 'x'", where=where, got=", ".join(sorted(arrays)) or "nothing")
    checked = dataset(x=arrays["x"], lengths=arrays.get("lengths"), source=where)
    x, mask = checked.columns["x"], checked.columns.get("mask")
    if x.ndim - 1 != len(spec.shapes["x"]) or x.shape[-1] != spec.n_features:
        raise DataError(
            "the input does not look like the training data",
            where=where,
            got=f"x of shape {x.shape}",
            hint=f"(samples, {', '.join(map(str, spec.shapes['x']))})",
        )
    if scaler is not None:
        x = Scaler.from_dict(scaler).apply(x, mask)
    columns = {"x": np.array(x)}
    if mask is not None or "mask" in spec.shapes:
        columns["mask"] = np.array(mask) if mask is not None else np.ones(x.shape[:2], dtype=bool)
    return columns


def table_of(found: Iterable[Mapping[str, np.ndarray[Any, Any]]], classes: Sequence[str | int]) -> pd.DataFrame:
    """Average over members; return one row per sample. Classes without a name are called by their index."""
    members = list(found)
    if {"prediction", "probability"} <= set(members[0]) and members[0]["probability"].ndim == 2:
        probability = np.mean([arrays["probability"] for arrays in members], axis=0)
        classes = classes or range(probability.shape[1])
        labels = np.array(classes, dtype=object)[probability.argmax(axis=1)]
        return pd.DataFrame({"prediction": labels} | {f"p_{c}": probability[:, i] for i, c in enumerate(classes)})
    columns: dict[str, Any] = {}
    for name in members[0]:
        mean = np.mean([arrays[name] for arrays in members], axis=0)
        flat = mean.reshape(len(mean), -1)
        columns |= {name if flat.shape[1] == 1 else f"{name}_{i}": flat[:, i] for i in range(flat.shape[1])}
    return pd.DataFrame(columns)
