"""Metric states from predictions; every function works under vmap and reads no value back from the device.

Shapes: B batch, C classes, D outputs. `sample_mask` is (B,) bool, False on padded samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paceline.metrics.state import Confusion, Mean, RegressionState

EPSILON = torch.finfo(torch.float64).eps  # the least that an error in percent is of


def mean(values_B: Tensor, sample_mask: Tensor | None = None) -> Mean:
    """Return the state of the mean of one value per sample."""
    values_B = _wide(values_B)
    if sample_mask is None:
        return Mean(values_B.sum(), values_B.new_full((), values_B.shape[0]))
    return Mean(torch.where(sample_mask, values_B, 0).sum(), _wide(sample_mask).sum())


def confusion(logits_BC: Tensor, y_B: Tensor, sample_mask: Tensor | None = None) -> Confusion:
    """Return the confusion counts of the classes with the largest logits."""
    return confusion_counts(logits_BC.argmax(-1), y_B, logits_BC.shape[-1], sample_mask)


def confusion_counts(prediction_B: Tensor, y_B: Tensor, n_classes: int, sample_mask: Tensor | None = None) -> Confusion:
    """Return the confusion counts of predicted against true classes, both int64 in 0..n_classes-1."""
    cell_B = y_B * n_classes + prediction_B
    weight_B = torch.ones_like(cell_B)
    if sample_mask is not None:
        cell_B, weight_B = torch.where(sample_mask, cell_B, 0), sample_mask.long()
    # Integers: exact in any order of addition, which scatter_add does not promise.
    counts = torch.zeros(n_classes * n_classes, dtype=torch.int64, device=y_B.device).scatter_add(0, cell_B, weight_B)
    return Confusion(counts.reshape(n_classes, n_classes))


def regression(prediction: Tensor, y: Tensor, sample_mask: Tensor | None = None) -> RegressionState:
    """Return the state of the errors of predictions of the targets' shape, (B,) or (B, D).

    An error in percent is of max(|y|, 2.2e-16), as scikit-learn has it.
    """
    assert prediction.shape == y.shape, (prediction.shape, y.shape)
    y = _wide(y)
    error = _wide(prediction) - y
    if sample_mask is None:
        weight = torch.ones_like(y)
    else:
        weight = _wide(sample_mask).reshape(-1, *[1] * (y.ndim - 1)).expand_as(y)
        y, error = torch.where(weight > 0, y, 0), torch.where(weight > 0, error, 0)
    count = weight.sum(0)
    center = y.sum(0) / count.clamp(min=1)
    size = error.abs()
    percent = 100.0 * size / y.abs().clamp(min=EPSILON)
    return RegressionState(
        count, center, (weight * (y - center).square()).sum(0), error.square().sum(0), size.sum(0), percent.sum(0),
        size.amax(0),
    )  # fmt: skip


def _wide(x: Tensor) -> Tensor:
    """Return x as float64, so that long sums keep their digits; as float32 on MPS, which has no float64."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)
