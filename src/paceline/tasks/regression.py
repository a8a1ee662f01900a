"""Regression of one or more numbers per sample, or per step. Shapes: B batch, T time, D outputs, Q quantiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from paceline.errors import ModelError
from paceline.losses.positions import has_steps, match_shape, valid_positions
from paceline.losses.regression import Mse, median_of, quantiles
from paceline.metrics.functional import mean, regression
from paceline.tasks.inputs import call
from paceline.types import Loss, MetricState

if TYPE_CHECKING:
    from paceline.types import Batch


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Numbers per sample or step: outputs of the shape of `y`, (B,), (B, D), (B, T) or (B, T, D), or (B, 1) for (B,).

    Where axis 1 of `y` is that of `mask` (or of sequences `x` without one), loss and metrics count valid steps; every
    step is predicted. inputs: the columns that the model is called with. levels: the quantiles that the loss asks for;
    with several the outputs have a last axis Q, and the prediction is that nearest to the median.

    Metrics: mse, rmse, mae, mape (percent), max_ae, r2; with several levels coverage, the share of targets between the
    first and the last. Raises ModelError if the outputs have another shape than the targets.
    """

    loss: Loss = field(default_factory=Mse)
    inputs: tuple[str, ...] = ("x",)
    levels: tuple[float, ...] = ()

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return self.loss.weights(batch)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs = call(model, batch, self.inputs)
        if not isinstance(outputs, Tensor):
            raise ModelError("a regression model must return a tensor", got=type(outputs).__name__)
        if "y" not in batch:
            return outputs if len(self.levels) > 1 else _squeezed(outputs)
        return quantiles(outputs, batch["y"], self.levels) if len(self.levels) > 1 else match_shape(outputs, batch["y"])

    def loss_sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        return self.loss.sums(outputs, batch)

    def metric_sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, MetricState]:
        outputs, y, valid = outputs.detach(), batch["y"], valid_positions(batch)
        if has_steps(batch):  # every step is a sample of its own
            outputs, y = outputs.flatten(0, 1), y.flatten(0, 1)
            valid = None if valid is None else valid.flatten()
        states: dict[str, MetricState] = {"": regression(self._point(outputs), y, valid)}
        if len(self.levels) > 1:
            inside = (outputs[..., 0] <= y) & (y <= outputs[..., -1])
            states["coverage"] = mean(inside if inside.ndim == 1 else inside.double().flatten(1).mean(1), valid)
        return states

    def predict(self, outputs: Tensor) -> Mapping[str, Tensor]:
        """Return `prediction`, of the shape of the targets, and with several levels `quantile_<level>` for each.

        They are at least float32.
        """
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        if len(self.levels) < 2:
            return {"prediction": _squeezed(outputs)}
        of_levels = {f"quantile_{level:g}": outputs[..., i] for i, level in enumerate(self.levels)}
        return {"prediction": self._point(outputs), **of_levels}

    def _point(self, outputs: Tensor) -> Tensor:
        return outputs[..., median_of(self.levels)] if len(self.levels) > 1 else outputs


def _squeezed(outputs: Tensor) -> Tensor:
    return outputs.squeeze(1) if outputs.ndim == 2 and outputs.shape[1] == 1 else outputs
