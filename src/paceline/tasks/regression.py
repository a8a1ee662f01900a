"""Regression of one or more numbers per sample. Shapes: B batch, D outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from paceline.errors import ModelError
from paceline.losses.regression import Mse, match_shape
from paceline.metrics.functional import regression
from paceline.tasks.inputs import call
from paceline.types import Loss, MetricState

if TYPE_CHECKING:
    from paceline.types import Batch


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Numbers per sample: outputs (B,), (B, 1) or (B, D) against `y` of shape (B,) or (B, D).

    inputs: the columns that the model is called with. Metrics: mse, rmse, mae, r2. Outputs (B, 1) count as (B,). Raises
    ModelError if the outputs have another shape than the targets.
    """

    loss: Loss = field(default_factory=Mse)
    inputs: tuple[str, ...] = ("x",)

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return self.loss.weights(batch)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs = call(model, batch, self.inputs)
        if not isinstance(outputs, Tensor):
            raise ModelError("a regression model must return a tensor", got=type(outputs).__name__)
        return match_shape(outputs, batch["y"]) if "y" in batch else _squeezed(outputs)

    def loss_sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        return self.loss.sums(outputs, batch)

    def metric_sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, MetricState]:
        return {"": regression(outputs.detach(), batch["y"], batch.get("sample_mask"))}

    def predict(self, outputs: Tensor) -> Mapping[str, Tensor]:
        """Return `prediction`, (B,) or (B, D)."""
        return {"prediction": _squeezed(outputs)}


def _squeezed(outputs: Tensor) -> Tensor:
    return outputs.squeeze(1) if outputs.ndim == 2 and outputs.shape[1] == 1 else outputs
