"""Cross-entropy and the focal loss. Shapes: B batch, C classes, K members."""

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
    logits = _wide(logits)
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


def focal(
    logits: Tensor,
    y: Tensor,
    *,
    gamma: float | Tensor = 2.0,
    label_smoothing: float | Tensor = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return the focal loss of each sample, not reduced, of shape (...), at least in float32.

    Without smoothing w_y (1 - p_y)^gamma (-log p_y): p is the plain softmax and the weight multiplies afterwards (Lin,
    Goyal, Girshick, He and Dollár, Focal loss for dense object detection, ICCV 2017). With smoothing e every class has
    such a term, by its own p, and its share of the target: sum over c of q_c w_c (1 - p_c)^gamma (-log p_c), q being
    (1 - e) on y plus e / C on every class. gamma = 0 gives `cross_entropy`, smoothed and weighted alike.

    logits: (..., C). y: int64 (...) in 0..C-1. gamma >= 0 and 0 <= label_smoothing < 1: numbers, or tensors (), which
    under vmap may be (K,). class_weights: (C,).
    """
    log_p = _wide(logits).log_softmax(-1)
    smoothed = isinstance(label_smoothing, Tensor) or label_smoothing > 0
    hit = log_p.gather(-1, y.unsqueeze(-1))
    terms = _focal_terms(log_p if smoothed else hit, gamma)
    weights = None if class_weights is None else class_weights.to(terms.dtype)
    if not smoothed:
        return terms.squeeze(-1) if weights is None else terms.squeeze(-1) * weights[y]
    terms = terms if weights is None else terms * weights
    own = terms.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return (1.0 - label_smoothing) * own + label_smoothing * terms.mean(-1)


def _focal_terms(log_p: Tensor, gamma: float | Tensor) -> Tensor:
    """Return (1 - p)^gamma (-log p); 1 - p is kept above 0, where the power has no finite slope for gamma < 1."""
    rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    return -log_p * rest**gamma


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


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


@dataclass(frozen=True, kw_only=True)
class Focal:
    """The focal loss over samples of `batch["y"]`, int64 (B,), given logits (B, C); see `focal`.

    gamma: >= 0. label_smoothing: 0 <= e < 1. class_weights: one number per class. The mean is over samples, weighted
    or not: unlike that of cross-entropy it does not divide by the weights, whose mean should therefore be 1.
    """

    gamma: float | Tensor = 2.0
    label_smoothing: float | Tensor = 0.0
    class_weights: tuple[float, ...] | None = None

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"focal": count(batch)}

    def sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        weights = None
        if self.class_weights is not None:
            dtype = torch.promote_types(outputs.dtype, torch.float32)
            weights = torch.tensor(self.class_weights, dtype=dtype, device=outputs.device)
        per_sample = focal(
            outputs, batch["y"], gamma=self.gamma, label_smoothing=self.label_smoothing, class_weights=weights
        )
        assert per_sample.shape == (batch_size(batch),)
        return {"focal": masked_sum(per_sample, batch)}
