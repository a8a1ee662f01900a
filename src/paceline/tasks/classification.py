"""Classification of whole samples. Shapes: B batch, C classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from paceline.errors import ModelError
from paceline.losses.classification import CrossEntropy, cross_entropy
from paceline.metrics.functional import confusion, mean
from paceline.tasks.config import DecisionConfig
from paceline.tasks.inputs import call
from paceline.types import Loss, MetricState

if TYPE_CHECKING:
    from paceline.types import Batch


@dataclass(frozen=True, kw_only=True)
class Classification:
    """One class per sample: logits (B, C) against `y`, int64 (B,).

    inputs: the columns that the model is called with. decision: what is fitted on validation once training is over;
    nothing here depends on it. Metrics: accuracy; f1, precision and recall (macro and per class); confusion; and
    log_loss, which unlike the loss knows no smoothing and no class weights. Raises ModelError if the outputs are not
    logits (B, C).
    """

    n_classes: int
    loss: Loss = field(default_factory=CrossEntropy)
    inputs: tuple[str, ...] = ("x",)
    decision: DecisionConfig = field(default_factory=DecisionConfig)

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return self.loss.weights(batch)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs = call(model, batch, self.inputs)
        expected = (batch[self.inputs[0]].shape[0], self.n_classes)
        if not isinstance(outputs, Tensor) or outputs.shape != expected:
            got: Any = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ModelError(
                "a classifier must return logits of shape (samples, classes)", got=got, hint=f"a tensor {expected}"
            )
        return outputs

    def loss_sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        return self.loss.sums(outputs, batch)

    def metric_sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, MetricState]:
        outputs, y, mask = outputs.detach(), batch["y"], batch.get("sample_mask")
        return {"": confusion(outputs, y, mask), "log_loss": mean(cross_entropy(outputs, y), mask)}

    def predict(self, outputs: Tensor) -> Mapping[str, Tensor]:
        """Return `prediction` int64 (B,) and `probability` (B, C), at least float32."""
        wide = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        return {"prediction": outputs.argmax(-1), "probability": wide.softmax(-1)}
