"""Metrics of predictions: those of the core, under the guide's names.

Shapes: N samples; predictions and targets are (N,), (N, 1) or (N, T) alike.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import torch

from paceline.errors import DataError
from paceline.metrics.functional import regression
from paceline.recipes.battery.compat.samples import Sample, described

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

NAMES = ("rmse", "mae", "mape", "r2", "max_ae")


def compute_metrics(y_true: ArrayLike, y_pred: ArrayLike) -> dict[str, float]:
    """Return rmse, mae and max_ae in the unit of y, mape in percent, r2.

    They are over all numbers of both arrays, which must have the same shape; (N, 1) and (N,) are equal. Where y_true is
    constant r2 is 1 for perfect predictions, else 0; where a target is zero, mape is finite and says nothing. Raises
    DataError for other shapes, for no numbers, and for values that are not finite.
    """
    true, predicted = (_flat(y, name) for y, name in ((y_true, "y_true"), (y_pred, "y_pred")))
    if true.shape != predicted.shape:
        raise DataError("targets and predictions have different shapes", where="compute_metrics",
                        got=f"y_true {true.shape}, y_pred {predicted.shape}")  # fmt: skip
    for y, name in ((true, "y_true"), (predicted, "y_pred")):
        if not np.isfinite(y).all():
            raise DataError("a value is not finite", where=name, got=f"row {int(np.argwhere(~np.isfinite(y))[0][0])}")
    state = regression(torch.from_numpy(predicted.ravel()), torch.from_numpy(true.ravel()))
    found: Mapping[str, Any] = state.values("")
    return {name: float(found[name]) for name in NAMES}


def print_metrics(metrics: Mapping[str, float], file: TextIO | None = None) -> None:
    """Print rmse, mae, r2 with four decimals and mape in percent with two."""
    rows = (("RMSE:", "rmse", ".4f", ""), ("MAE:", "mae", ".4f", ""), ("MAPE:", "mape", ".2f", "%"),
            ("R²:", "r2", ".4f", ""))  # fmt: skip
    for label, name, form, unit in rows:
        if name in metrics:
            (file or sys.stdout).write(f"{label:<5} {metrics[name]:{form}}{unit}\n")


def evaluate_by_group(
    samples: Sequence[Sample], predictions: ArrayLike, key: str = "temperature_C"
) -> dict[str, dict[str, float]]:
    """Return the metrics of each group of samples, by the text of its value (`"25"`) under a key of `meta`.

    predictions: (N,), or (N, T) as `Trainer.predict` returns them for sequences; padding is left out. Raises DataError
    for another number of predictions, and naming a sample without the key.
    """
    predicted = np.asarray(predictions, dtype=np.float64)
    if predicted.ndim == 0 or len(predicted) != len(samples):
        raise DataError("there must be one prediction per sample", where="evaluate_by_group",
                        got=f"{len(samples)} samples, predictions {predicted.shape}")  # fmt: skip
    rows: dict[Any, list[int]] = {}
    for i, sample in enumerate(samples):
        if key not in sample.meta:
            raise DataError(f"a sample's meta has no {key}", where=described(sample, f"sample {i}"),
                            hint=", ".join(sample.meta))  # fmt: skip
        rows.setdefault(_label(sample.meta[key]), []).append(i)
    found: dict[str, dict[str, float]] = {}
    for label in sorted(rows, key=_order):
        pairs = [_valid(samples[i], predicted[i]) for i in rows[label]]
        true, own = (np.concatenate(side) for side in zip(*pairs, strict=True))
        found[label] = compute_metrics(true, own)
    return found


def _valid(sample: Sample, predicted: Any) -> tuple[Any, Any]:
    """Return a sample's targets and their predictions, without padding and what its mask excludes."""
    true = _flat(sample.y, "y").ravel()
    own = np.ravel(predicted)[: len(true)]
    if sample.mask is None or sample.seq_len != len(true):
        return true, own
    mask = _flat(sample.mask, "mask").ravel() > 0
    return true[mask], own[mask]


def _flat(values: Any, name: str) -> np.ndarray[Any, Any]:
    """Return float64, the last axis of (N, 1) dropped."""
    array = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if array.dtype.kind not in "biuf" or not array.size:
        raise DataError("metrics need numbers", where=name, got=f"{array.dtype}, {array.size} of them")
    array = array.astype(np.float64)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _label(value: Any) -> str:
    """25 and 25.0 are one group."""
    return f"{value:g}" if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) else str(value)


def _order(label: str) -> tuple[int, float, str]:
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label
