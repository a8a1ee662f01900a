"""Stored predictions of a member, and the metrics they give. Needs no torch.

Shapes: N samples, T steps, D outputs, C classes, S sums per sample. A metric is a ratio of sums over samples, so that
weighted samples need one matrix product (see `paceline.evaluate.bootstrap`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.data.npz import DAMAGE, check_size
from paceline.errors import RunError

Array = NDArray[Any]
Floats = NDArray[np.float64]
Classes = tuple[int, int]  # C, and how many of them never occur

_NUMBERS = 3  # sums per sample where numbers are predicted
_TINY = 1e-38  # the smallest probability: what float32 cannot hold is not -inf


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What one member predicted for the samples of one part.

    index: positions in the data set (N,). y: classes (N,) or numbers (N,), (N, D) or (N, T). prediction: like y.
    probability: (N, C) for classes, None for numbers. group: what samples that are not independent share (N,), such as
    a patient; None where the data has no groups. mask: (N, T) the steps that count, where y has one number per step;
    None where all do.
    """

    index: Array
    y: Array
    prediction: Array
    probability: Array | None = None
    group: Array | None = None
    mask: Array | None = None

    def rows(self, keep: Array) -> Predictions:
        """Return some of the samples, by bool (N,) or positions."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        kept: dict[str, Any] = {name: None if array is None else array[keep] for name, array in arrays.items()}
        return Predictions(**kept)


_ARRAYS = tuple(each.name for each in fields(Predictions))


def pooled(members: Iterable[tuple[int, Predictions]]) -> list[Predictions]:
    """Join the folds of each seed, from (seed, predictions) of every member; members on one part stay apart.

    Each of the returned sets has a sample at most once.
    """
    joined: list[Predictions] = []
    by_seed: dict[int, list[Predictions]] = {}
    for seed, found in members:
        by_seed.setdefault(seed, []).append(found)
    for parts in by_seed.values():
        index = np.concatenate([part.index for part in parts])
        joined += [_join(parts)] if len(np.unique(index)) == len(index) else parts
    return joined


def metrics_of(predictions: Predictions) -> dict[str, float]:
    """Return the metrics that predictions can give, by their names in the task, as scikit-learn defines them.

    Classes: accuracy, f1_macro, precision_macro, recall_macro, log_loss. Numbers: mse, rmse, mae.
    """
    sums = sums_of(predictions)
    return {name: float(value) for name, value in values_of(sums.sum(axis=0), classes_of(sums)).items()}


def read_predictions(path: Path, parts: Iterable[str] = ("val", "test")) -> dict[str, Predictions]:
    """Read a member's `predictions.npz`: the parts that hold samples, targets and predictions of a known form.

    No file gives nothing. Raises RunError when the file is damaged, DataError when it unpacks to too much.
    """
    try:
        check_size(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {part: predictions_in(arrays, part) for part in parts}
    except FileNotFoundError:
        return {}
    except (OSError, zipfile.BadZipFile, *DAMAGE) as error:
        raise RunError("the predictions of a member cannot be read", where=str(path), got=str(error)) from None
    return {part: predictions for part, predictions in found.items() if predictions is not None}


def predictions_in(arrays: Mapping[str, Array], part: str) -> Predictions | None:
    """Return one part of the arrays of a `predictions.npz`; None where they do not hold it in a known form."""
    index, y, prediction, probability, group, mask = (
        arrays[n] if (n := f"{part}_{name}") in arrays else None for name in _ARRAYS
    )
    if not all(isinstance(array, np.ndarray) for array in (index, y, prediction)):  # a file in the archive is bytes
        return None
    assert index is not None and y is not None and prediction is not None
    if not len(index) or prediction.shape != y.shape:
        return None
    if len({len(index), len(y), *(len(each) for each in (probability, group) if each is not None)}) > 1:
        return None
    if probability is None:
        numbers = y.dtype.kind in "fiu" and prediction.dtype.kind == "f"
        steps = mask is None or (mask.shape == y.shape and mask.dtype == bool)
        found = Predictions(index=index, y=y, prediction=prediction, group=group, mask=mask)
        return found if numbers and steps else None
    if (
        y.ndim != 1
        or probability.ndim != 2
        or y.dtype.kind not in "iu"
        or not 0 <= y.min() <= y.max() < probability.shape[1]
    ):
        return None
    return Predictions(index=index, y=y, prediction=prediction, probability=probability, group=group)


def _join(parts: Sequence[Predictions]) -> Predictions:
    arrays: dict[str, Any] = {}
    for name in _ARRAYS:
        found = [getattr(part, name) for part in parts]
        arrays[name] = None if found[0] is None else np.concatenate(found)
    return Predictions(**arrays)


def sums_of(member: Predictions) -> Floats:
    """Return what each sample adds to the metrics (N, S).

    Classes: 1, right, negative log probability, and C columns each: hit, true, predicted. Numbers: 1, squared error,
    absolute error, both averaged over outputs; with a mask, the valid steps and the sums over them.
    """
    one = np.ones((len(member.index), 1))
    if member.probability is None:
        error = (member.prediction.astype(np.float64) - member.y).reshape(len(one), -1)
        if member.mask is not None:
            error = np.where(member.mask, error, 0.0)
            each = (member.mask, error**2, np.abs(error))
            return np.stack([values.sum(axis=1, dtype=np.float64) for values in each], axis=1)
        return np.hstack([one, (error**2).mean(axis=1, keepdims=True), np.abs(error).mean(axis=1, keepdims=True)])
    classes = np.arange(member.probability.shape[1])
    true, predicted = member.y[:, None] == classes, member.prediction[:, None] == classes
    chosen = member.probability[np.arange(len(one)), member.y].astype(np.float64)
    loss = -np.log(np.maximum(chosen, _TINY))[:, None]
    right = (member.y == member.prediction)[:, None]
    return np.hstack([one, right, loss, true & predicted, true, predicted]).astype(np.float64)


def classes_of(sums: Floats) -> Classes:
    """Return the number of classes C, and how many of them neither occur nor are predicted in any row of (N, S)."""
    if sums.shape[1] == _NUMBERS:
        return 0, 0
    _, true, predicted = np.split(sums[:, 3:].sum(axis=0), 3)
    return len(true), int(np.count_nonzero(true + predicted == 0))


def values_of(sums: Floats, classes: Classes) -> dict[str, Floats]:
    """Divide sums (..., S) into metrics (...,); NaN where there is no sample."""
    n_classes, absent = classes
    with np.errstate(invalid="ignore", divide="ignore"):
        n = sums[..., 0]
        if not n_classes:
            mse = sums[..., 1] / n
            return {"mse": mse, "rmse": np.sqrt(mse), "mae": sums[..., 2] / n}
        hits, true, predicted = np.split(sums[..., 3:], 3, axis=-1)
        counted = np.count_nonzero(true + predicted, axis=-1) + absent
        return {
            "accuracy": sums[..., 1] / n,
            "f1_macro": _ratio(2 * hits, true + predicted).sum(axis=-1) / counted,
            "precision_macro": _ratio(hits, predicted).sum(axis=-1) / counted,
            "recall_macro": _ratio(hits, true).sum(axis=-1) / counted,
            "log_loss": sums[..., 2] / n,
        }


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return ratio
