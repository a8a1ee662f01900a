"""Where numeric targets count: once per sample, or once per valid step. Shapes: B batch, T time.

Targets have steps where axis 1 of `y` is that of `mask`, or of `x` (B, T, F) where there is no mask. Then every valid
step counts once, whatever the length of its sequence; further axes are outputs, over which the mean is taken.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paceline.errors import ModelError
from paceline.losses.per_sample import batch_size

if TYPE_CHECKING:
    from paceline.types import Batch


def has_steps(batch: Batch) -> bool:
    """Return whether the targets have the step axis of the samples. Only shapes are looked at."""
    y = batch["y"]
    if y.ndim < 2:  # first of all: this is asked several times in every step of a small model
        return False
    mask, x = batch.get("mask"), batch.get("x")
    if mask is not None:
        return y.shape[:2] == mask.shape
    return x is not None and x.ndim == 3 and y.shape[:2] == x.shape[:2]


def valid_positions(batch: Batch) -> Tensor | None:
    """Return which targets count, bool (B,) or (B, T); None if all do."""
    samples = batch.get("sample_mask")
    if not has_steps(batch):
        return samples
    steps = batch.get("mask")
    if samples is None:
        return steps
    return samples[:, None].expand(batch["y"].shape[:2]) if steps is None else steps & samples[:, None]


def count_positions(batch: Batch) -> float | Tensor:
    """Return how many targets count: a plain number where all do."""
    valid = valid_positions(batch)
    if valid is not None:
        return valid.sum()
    return batch_size(batch) * (batch["y"].shape[1] if has_steps(batch) else 1)


def match_shape(outputs: Tensor, y: Tensor) -> Tensor:
    """Return `outputs` in the shape of `y`: as they are, or without a last axis of size 1.

    Raises ModelError for any other difference: broadcasting (B, 1) against (B,) would compare every sample with every
    other.
    """
    if outputs.shape == y.shape:
        return outputs
    if outputs.shape == (*y.shape, 1):
        return outputs.squeeze(-1)
    raise ModelError(
        "the model's outputs do not have the shape of the targets",
        got=f"outputs {tuple(outputs.shape)}, targets {tuple(y.shape)}",
        hint=f"a model that returns {tuple(y.shape)}",
    )


def where_valid(values: Tensor, batch: Batch) -> Tensor:
    """Return values (B, ...) or (B, T, ...) with 0 where nothing counts, so that nothing there reaches a gradient."""
    valid = valid_positions(batch)
    if valid is None:
        return values
    return torch.where(valid.reshape(*valid.shape, *[1] * (values.ndim - valid.ndim)), values, 0)


def errors(outputs: Tensor, batch: Batch) -> Tensor:
    """Return outputs - targets in the shape of the targets, 0 where nothing counts."""
    return where_valid(match_shape(outputs, batch["y"]) - batch["y"], batch)


def total(values: Tensor, batch: Batch) -> Tensor:
    """Return the sum over samples, or samples and steps, of the mean over any further axes, ()."""
    return values.sum() / math.prod(values.shape[2 if has_steps(batch) else 1 :])
