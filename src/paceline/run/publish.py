"""A member's own files, derived from its trained state and its journal; they can always be derived again."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from paceline.checkpoint.files import write_bytes_atomic, write_text_atomic
from paceline.checkpoint.store import write_state
from paceline.data.csv_text import csv_text
from paceline.run.decide import DECISION, decide
from paceline.run.folder import to_json
from paceline.run.inputs import InMemory, Inputs
from paceline.types import OF_NO_PART, SCALES

if TYPE_CHECKING:
    from paceline.run.folder import Run
    from paceline.run.job import Job
    from paceline.train.cohort import CohortTraining
    from paceline.types import Record

SCHEMA_VERSION = 1
Row = Mapping[str, Any]  # one line of a journal


def publish_member(folder: Path, job: Job, cohort: CohortTraining, k: int, rows: Sequence[Row]) -> None:
    """Write `best.pt`, `latest.pt`, `history.*` of one member; once training is over, predictions and its decision."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for row in rows if row["member"] == job.member.id]
    selection = cohort.selectors[k].record()
    arrays = _predictions(job, cohort, k) if any(row["split"] == "best" for row in rows) else {}
    decision = decide(job, arrays)
    fitted = None if decision is None else decision.to_dict()
    for which, name in (("best", "best.pt"), ("current", "latest.pt")):
        if cohort.at:
            state = _weights_file(job, cohort, k, which, rows, selection)
            write_state(folder / name, state | ({"decision": fitted} if which == "best" else {}))
    write_history(folder, rows)
    if arrays:
        write_bytes_atomic(folder / "predictions.npz", npz(arrays))
    if fitted is not None:
        write_text_atomic(folder / DECISION, to_json(fitted))


def publish_improved(run: Run, jobs: Sequence[Job], cohort: CohortTraining, record: Record) -> None:
    """Write `best.pt` of a record's member where the record is of the epoch that has just become its best."""
    k = cohort.members.index(record.member)
    selection = cohort.selectors[k].record()
    if record.split == "val" and selection["epoch"] == record.epoch:
        row = {"split": "val", "epoch": record.epoch, "values": record.values}
        folder = run.member_folder(record.member)
        folder.mkdir(parents=True, exist_ok=True)
        write_state(folder / "best.pt", _weights_file(jobs[k], cohort, k, "best", [row], selection))


def write_history(folder: Path, rows: Sequence[Row]) -> None:
    """Write `history.json` and `history.csv`: equal-length columns, one entry per evaluation, null where missing."""
    history = history_of(rows)
    write_text_atomic(folder / "history.json", to_json(history))
    write_text_atomic(folder / "history.csv", csv_text(pd.DataFrame(history), index=False))


def history_of(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return the scalars of a member's `train` and `val` records as columns."""
    entries: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row["split"] not in ("train", "val"):
            continue
        entry = entries.setdefault(row["step"], {"epoch": row["epoch"], "step": row["step"]})
        for name, value in row["values"].items():
            if not isinstance(value, list):
                entry[name if name in OF_NO_PART else f"{row['split']}_{name}"] = value
    columns = dict.fromkeys(name for entry in entries.values() for name in entry)
    return {name: [entry.get(name) for entry in entries.values()] for name in columns}


def _weights_file(
    job: Job, cohort: CohortTraining, k: int, which: str, rows: Sequence[Row], selection: Mapping[str, Any]
) -> dict[str, Any]:
    kept = cohort.engine.weights(k, which)
    epoch = selection["epoch"] if which == "best" else cohort.epoch(k)
    last = [row for row in rows if row["split"] in ("val", "best") and row["epoch"] == epoch]
    state: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": "best" if which == "best" else "latest",
        "member": job.member.id,
        "model_state_dict": kept["model"],
        "epoch": epoch,
        "step": selection["step"] if which == "best" else cohort.step_of(k),
        "metrics": {f"val_{name}": value for name, value in last[-1]["values"].items()} if last else {},
        "selection": dict(selection),
        "config": job.config.tree(),
        **data_part(job),
    }
    beside = {"average": "average_state_dict", "optimizer": "optimizer_state_dict"}
    return state | {name: kept[own] for own, name in beside.items() if own in kept}


def data_part(job: Job) -> dict[str, Any]:
    """Return what prediction on raw input needs besides the weights. Index arrays become int64 tensors."""
    spec = job.inputs.spec
    part: dict[str, Any] = {
        "classes": list(spec.classes),
        "class_counts": list(spec.class_counts),
        "channels": list(spec.channels),
        "shapes": {name: list(shape) for name, shape in spec.shapes.items()},
        "scales": {name: getattr(spec, name) for name in SCALES},
        "scaler": None,
        "preparation": None,
        "reading": {},
        "split_idx": None,
    }
    if isinstance(job.inputs, InMemory):
        split, preparation = job.inputs.split, job.inputs.preparation
        part["split_idx"] = {name: torch.from_numpy(getattr(split, name).copy()) for name in ("train", "val", "test")}
        part["preparation"] = None if preparation is None else preparation.to_dict()
        part["scaler"] = part["preparation"] and part["preparation"]["scaler"]
        part["reading"] = dict(job.inputs.dataset.reading)
    return part


def _predictions(job: Job, cohort: CohortTraining, k: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return the selected state's predictions: `val_index`, `val_y`, `val_prediction`, ..., `test_...`."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for part in cohort.engine.parts:
        arrays |= prediction_arrays(job.inputs, part, cohort.engine.predict(part, k))
    return arrays


def prediction_arrays(
    inputs: Inputs, part: str, found: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, np.ndarray[Any, Any]]:
    """Return what was predicted for a part with index, targets and groups beside it, where these are in memory."""
    arrays = {f"{part}_{name}": value for name, value in found.items()}
    if isinstance(inputs, InMemory):
        rows = getattr(inputs.split, part)
        arrays[f"{part}_index"] = rows
        for name, values in (("group", inputs.dataset.group), ("id", inputs.dataset.ids)):
            if values is not None:
                arrays[f"{part}_{name}"] = values[rows]
        y, mask = inputs.dataset.columns.get("y"), inputs.dataset.columns.get("mask")
        if y is not None:
            arrays[f"{part}_y"] = y[rows]
            if mask is not None and y.shape == mask.shape and y.dtype.kind == "f":  # a number for each step
                arrays[f"{part}_mask"] = mask[rows]
    return arrays


def npz(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """Return the content of a compressed archive of arrays."""
    target = io.BytesIO()
    np.savez_compressed(target, allow_pickle=False, **arrays)
    return target.getvalue()
