"""Losses of numbers. Shapes: B batch; outputs and targets are (B,) or (B, ...) alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F  # the name that torch's own documentation uses
from torch import Tensor

from paceline.errors import ModelError
from paceline.losses.per_sample import count, masked_sum

if TYPE_CHECKING:
    from paceline.types import Batch


def match_shape(outputs: Tensor, y: Tensor) -> Tensor:
    """Return `outputs` in the shape of `y`: as they are, or (B, 1) squeezed to (B,).

    Raises ModelError for any other difference: broadcasting (B, 1) against (B,) would compare every sample with every
    other.
    """
    if outputs.shape == y.shape:
        return outputs
    if outputs.shape == (*y.shape, 1) and y.ndim == 1:
        return outputs.squeeze(1)
    raise ModelError(
        "the model's outputs do not have the shape of the targets",
        got=f"outputs {tuple(outputs.shape)}, targets {tuple(y.shape)}",
        hint=f"a model that returns {tuple(y.shape)}",
    )


def per_sample_mean(values: Tensor) -> Tensor:
    """Return the mean over all axes but the first, (B,)."""
    return values if values.ndim == 1 else values.flatten(1).mean(1)


@dataclass(frozen=True)
class Mse:
    """Mean squared error of `batch["y"]`, over samples and any further axes."""

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"mse": count(batch)}

    def sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        outputs, y = match_shape(outputs, batch["y"]), batch["y"]
        if "sample_mask" not in batch:  # one kernel instead of four: this runs in every step of a small model
            total = F.mse_loss(outputs, y, reduction="sum")
            return {"mse": total if y.ndim == 1 else total / y[0].numel()}
        return {"mse": masked_sum(per_sample_mean((outputs - y).square()), batch)}


@dataclass(frozen=True)
class Mae:
    """Mean absolute error of `batch["y"]`, over samples and any further axes."""

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"mae": count(batch)}

    def sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        error = match_shape(outputs, batch["y"]) - batch["y"]
        return {"mae": masked_sum(per_sample_mean(error.abs()), batch)}
