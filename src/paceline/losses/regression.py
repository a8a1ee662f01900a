"""Losses of numbers: functions of the error, and what divides their sums.

Shapes: B batch, T time, Q quantiles; outputs and targets are (B, ...) or (B, T, ...) alike. See `positions` for what
counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F  # the name that torch's own documentation uses
from torch import Tensor

from paceline.errors import ModelError
from paceline.losses.positions import (
    count_positions,
    errors,
    has_steps,
    match_shape,
    total,
    valid_positions,
    where_valid,
)

if TYPE_CHECKING:
    from paceline.types import Batch


def huber(error: Tensor, delta: float) -> Tensor:
    """Return e^2 / 2 where |e| <= delta, delta (|e| - delta / 2) beyond (Huber, 1964); torch's `HuberLoss`."""
    size = error.abs()
    return torch.where(size <= delta, 0.5 * error.square(), delta * (size - 0.5 * delta))


def percentage(error: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """Return 100 |e| / max(|y|, epsilon), in percent: of a target nearer to 0 than epsilon, that of epsilon."""
    return 100.0 * error.abs() / y.abs().clamp(min=epsilon)


def pinball(error: Tensor, level: float | Tensor) -> Tensor:
    """Return max(-level e, (1 - level) e), e = output - target: least for the quantile (Koenker and Bassett, 1978)."""
    return torch.maximum(-level * error, (1 - level) * error)


@dataclass(frozen=True)
class Mse:
    """Mean squared error of `batch["y"]`."""

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"mse": count_positions(batch)}

    def sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        return {"mse": squared_sum(outputs, batch)}


def squared_sum(outputs: Tensor, batch: Batch) -> Tensor:
    """Return the sum of squared errors over what counts, ()."""
    if valid_positions(batch) is not None:
        return total(errors(outputs, batch).square(), batch)
    # One kernel instead of four: this runs in every step of a small model.
    y = batch["y"]
    summed = F.mse_loss(match_shape(outputs, y), y, reduction="sum")
    width = 1 if y.ndim == 1 else math.prod(y.shape[2 if has_steps(batch) else 1 :])
    return summed if width == 1 else summed / width


@dataclass(frozen=True)
class Mae:
    """Mean absolute error of `batch["y"]`."""

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"mae": count_positions(batch)}

    def sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        return {"mae": total(errors(outputs, batch).abs(), batch)}


@dataclass(frozen=True, kw_only=True)
class Huber:
    """Mean of `huber`. delta: > 0, in the unit of the targets."""

    delta: float = 1.0

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"huber": count_positions(batch)}

    def sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        return {"huber": total(huber(errors(outputs, batch), self.delta), batch)}


@dataclass(frozen=True, kw_only=True)
class Mape:
    """Mean of `percentage`. floor: targets nearer to 0 count as that far from it; at least epsilon, both > 0."""

    epsilon: float = 1e-8
    floor: float = 0.0
    not_compiled: ClassVar[bool] = True  # a whole step with it, compiled, crashes (torch 2.13, CPU; cause not known)

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"mape": count_positions(batch)}

    def sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        y = where_valid(batch["y"], batch)
        return {"mape": total(percentage(errors(outputs, batch), y, max(self.epsilon, self.floor)), batch)}


@dataclass(frozen=True, kw_only=True)
class Quantile:
    """Mean of `pinball` over samples and levels, each 0 < level < 1, in increasing order.

    With several levels the outputs have one more axis than the targets, of a number per level; with one they have
    their shape.
    """

    levels: tuple[float, ...] = (0.1, 0.5, 0.9)

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"quantile": count_positions(batch)}

    def sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        y = batch["y"]
        if len(self.levels) == 1:
            return {"quantile": total(pinball(errors(outputs, batch), self.levels[0]), batch)}
        error = where_valid(quantiles(outputs, y, self.levels) - y.unsqueeze(-1), batch)
        # One number after another: a tensor made of them here would be copied to the device in every step.
        parts = [total(pinball(error[..., i], level), batch) for i, level in enumerate(self.levels)]
        return {"quantile": torch.stack(parts).mean()}


def quantiles(outputs: Tensor, y: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Return the outputs, of the shape of y and one more axis with a number per level; raises ModelError otherwise."""
    expected = (*y.shape, len(levels))
    if outputs.shape != expected:
        raise ModelError(
            f"the loss asks for {len(levels)} quantiles of each target, which the model does not give",
            got=f"outputs {tuple(outputs.shape)}, not {expected}",
            hint="a model with spec.outputs numbers per target, or one level: loss.levels=[0.5]",
        )
    return outputs


def median_of(levels: tuple[float, ...]) -> int:
    """Return the place of the level that is nearest to one half."""
    return min(range(len(levels)), key=lambda i: math.fabs(levels[i] - 0.5))
