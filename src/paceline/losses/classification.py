"""Cross-entropy. Shapes: B batch, C classes, K members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from paceline.losses.per_sample import batch_size, count, masked_sum

if TYPE_CHECKING:
    from paceline.types import Batch


def cross_entropy(
    logits: Tensor, y: Tensor, *, label_smoothing: float | Tensor = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy of each sample, not reduced, of shape (...), at least in float32.

    logits: (..., C). y: int64 (...) in 0..C-1. label_smoothing e: the target is (1 - e) on y plus e / C on every class;
    a number, or a tensor (), which under vmap may be (K,) where torch's own function takes none. class_weights: (C,),
    multiplies each class's -log p.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if class_weights is not None:
        class_weights = class_weights.to(logits.dtype)
    if not isinstance(label_smoothing, Tensor):
        flat, labels = logits.reshape(-1, logits.shape[-1]), y.reshape(-1)
        values = F.cross_entropy(flat, labels, class_weights, reduction="none", label_smoothing=label_smoothing)
        return values.reshape(y.shape)
    minus_log_p = -logits.log_softmax(-1)
    if class_weights is not None:
        minus_log_p = minus_log_p * class_weights
    hit = minus_log_p.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return (1.0 - label_smoothing) * hit + label_smoothing * minus_log_p.mean(-1)


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross-entropy over samples of `batch["y"]`, int64 (B,), given logits (B, C).

    label_smoothing: 0 <= e < 1. class_weights: one number per class; the mean then divides by the sum of the samples'
    weights, as torch does.
    """

    label_smoothing: float | Tensor = 0.0
    class_weights: tuple[float, ...] | None = None

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        if self.class_weights is None:
            return {"cross_entropy": count(batch)}
        return {"cross_entropy": masked_sum(self._weights(batch["y"].device)[batch["y"]], batch)}

    def sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        weights = None if self.class_weights is None else self._weights(outputs.device)
        smoothing = self.label_smoothing
        per_sample = cross_entropy(outputs, batch["y"], label_smoothing=smoothing, class_weights=weights)
        assert per_sample.shape == (batch_size(batch),)
        return {"cross_entropy": masked_sum(per_sample, batch)}

    def _weights(self, device: torch.device) -> Tensor:
        return torch.tensor(self.class_weights, dtype=torch.float64, device=device)
