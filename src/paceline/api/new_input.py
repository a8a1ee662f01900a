"""What `predict` reads and what it gives: new input in the form of the training data, and the table of predictions.

Shapes: N samples, T steps, F channels as read, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paceline.data.config import DataConfig
from paceline.data.dataset import dataset
from paceline.data.prepare import Preparation
from paceline.data.unlabelled import Known, Unlabelled, aligned, from_arrays, read_unlabelled
from paceline.errors import DataError, RunError
from paceline.types import SCALES, DataSpec

LOG = logging.getLogger("paceline")
Columns = dict[str, np.ndarray[Any, Any]]


def read_input(source: str | Path | Mapping[str, Any], best: Mapping[str, Any], section: DataConfig) -> Unlabelled:
    """Read and check input for the model of a weights file; `section` is the run's data source.

    Raises DataError where it is not of the form of the training data.
    """
    preparation = Preparation.from_dict(best["preparation"])
    shape = (*best["shapes"]["x"][:-1], preparation.n_channels)
    known = Known(
        channels=preparation.channels, has_steps=len(shape) == 2, missing=section.missing, reading=best["reading"]
    )
    given = from_arrays(source) if isinstance(source, Mapping) else read_unlabelled(Path(source), section, known)
    given = aligned(given, preparation.channels)
    if given.x.ndim - 1 != len(shape) or given.x.shape[-1] != shape[-1]:
        raise DataError("the input does not look like the training data", where=given.source,
                        got=f"x of shape {given.x.shape}", hint=f"(samples, {', '.join(map(str, shape))})")  # fmt: skip
    return given


def checked_columns(given: Unlabelled, best: Mapping[str, Any], section: DataConfig) -> Columns:
    """Return `x` as read and, where the model knows masks, `mask`; a line names channels that may be missing only now.

    Raises DataError for values that are not finite, or missing where that is refused.
    """
    preparation = Preparation.from_dict(best["preparation"])
    checked = dataset(x=given.x, lengths=given.lengths, channels=preparation.channels or None, ids=given.ids,
                      source=given.source, missing=section.missing)  # fmt: skip
    columns = {name: np.array(column) for name, column in {**given.columns, **checked.columns}.items()}
    if "mask" in best["shapes"] and "mask" not in columns:
        columns["mask"] = np.ones(given.x.shape[:2], dtype=bool)
    new = preparation.unflagged(columns["x"])
    if new:
        LOG.warning("values are missing in channels that were complete in training, and are filled unmarked: %s",
                    ", ".join(new[:5]) + ", ..." * (len(new) > 5))  # fmt: skip
    return columns


def prepared(columns: Columns, best: Mapping[str, Any], source: str) -> Columns:
    """Return the columns as the model of a weights file gets them. Raises DataError for a value that is too large."""
    preparation = Preparation.from_dict(best["preparation"])
    try:
        x = preparation.apply(columns["x"], columns.get("mask"))
    except DataError as error:
        hint = "the units of training; channels are in its order where the input has no names"
        raise DataError(error.what, where=source, got=error.got, hint=hint) from error
    return {**columns, "x": np.array(x)}


def spec_of(best: Mapping[str, Any]) -> DataSpec:
    """Return what the model of a weights file was built for."""
    shapes = {name: tuple(shape) for name, shape in best["shapes"].items()}
    scales = {name: value for name, value in (best.get("scales") or {}).items() if name in SCALES}
    return DataSpec(shapes=shapes, classes=tuple(best["classes"]), channels=tuple(best["channels"]),
                    class_counts=tuple(best["class_counts"]), **scales)  # fmt: skip


def table_of(found: Sequence[Columns], classes: Sequence[str | int]) -> pd.DataFrame:
    """Average over members; return one row per sample. Classes without a name are called by their index.

    Where members have `decided` scores (N, C) of the classes, the largest of their mean is predicted.
    """
    members = list(found)
    if {"prediction", "probability"} <= set(members[0]) and members[0]["probability"].ndim == 2:
        probability = np.mean([arrays["probability"] for arrays in members], axis=0)
        classes = classes or range(probability.shape[1])
        score = np.mean([arrays.get("decided", arrays["probability"]) for arrays in members], axis=0)
        labels = np.array(classes, dtype=object)[score.argmax(axis=1)]
        return pd.DataFrame({"prediction": labels} | {f"p_{c}": probability[:, i] for i, c in enumerate(classes)})
    columns: dict[str, Any] = {}
    for name in members[0]:
        mean = np.mean([arrays[name] for arrays in members], axis=0)
        flat = mean.reshape(len(mean), -1)
        columns |= {name if flat.shape[1] == 1 else f"{name}_{i}": flat[:, i] for i in range(flat.shape[1])}
    return pd.DataFrame(columns)


def by_step(
    found: Mapping[str, Columns], given: Unlabelled, best: Mapping[str, Any]
) -> tuple[Mapping[str, Columns], Unlabelled]:
    """Make each valid step a sample, called `<id>-<time>`, where the model predicts a number for every step.

    Predictions and input of other models are returned as they are.
    """
    shapes = best["shapes"]
    if best["classes"] or "mask" not in shapes or tuple(shapes.get("y", ())) != tuple(shapes["x"][:1]):
        return found, given
    n, steps = given.x.shape[:2]
    lengths = np.full(n, steps) if given.lengths is None else np.asarray(given.lengths)
    valid = np.arange(steps) < lengths[:, None]
    times = given.columns.get("t", np.broadcast_to(np.arange(steps), (n, steps)))
    names = np.arange(n) if given.ids is None else given.ids
    ids = np.array(
        [f"{name}-{time:g}" for name, row, own in zip(names, times, valid, strict=True) for time in row[own]]
    )
    flat = {
        member: {name: values[valid] if values.shape[:2] == valid.shape else values for name, values in arrays.items()}
        for member, arrays in found.items()
    }
    return flat, replace(given, x=given.x[valid], lengths=None, columns={}, ids=ids, id_name="sample")


def shown(
    found: Mapping[str, Columns],
    classes: Sequence[str],
    given: Unlabelled,
    *,
    per_member: bool,
    probabilities: bool | None,
) -> pd.DataFrame:
    """Return the table of predictions: a row per sample, or per member and sample; the index has the samples' ids.

    probabilities: whether the classes' probabilities are shown; None leaves that to the kind of input.
    """
    index = pd.Index(np.arange(len(given.x)) if given.ids is None else given.ids, name=given.id_name)
    if per_member:
        tables = [table_of([arrays], classes).set_axis(index) for arrays in found.values()]
        for member, table in zip(found, tables, strict=True):
            table.insert(0, "member", member)
        table = pd.concat(tables)
    else:
        table = table_of(list(found.values()), classes).set_axis(index)
    if classes and not (given.probabilities if probabilities is None else probabilities):
        table = table[[name for name in ("member", "prediction") if name in table]]
    return table.rename(columns={"prediction": given.label_name})


def check_output(output: Path, source: str | Path | Mapping[str, Any]) -> None:
    """Raise RunError where a table cannot be written to, before anything is computed."""
    if output.is_dir() or not output.parent.is_dir():
        what = "the output is a folder" if output.is_dir() else "the output's folder does not exist"
        raise RunError(what, where=str(output), hint="-o predictions.csv")
    if not isinstance(source, Mapping) and Path(source).exists() and output.exists() and output.samefile(source):
        raise RunError("the output is the input, which would be lost", where=str(output), hint="another -o")
