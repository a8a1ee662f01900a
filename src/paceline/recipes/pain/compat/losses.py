"""The criteria of the guide, and any criterion as a loss of paceline.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from paceline.errors import ModelError
from paceline.losses.classification import CrossEntropy, Focal, focal
from paceline.losses.config import balanced_weights
from paceline.losses.per_sample import batch_size
from paceline.recipes.pain.compat.config import ConfigValueError, value

if TYPE_CHECKING:
    from paceline.types import Batch, Loss

LOG = logging.getLogger("paceline")
REDUCTIONS = ("mean", "sum", "none")

Criterion = Callable[[Tensor, Tensor], Tensor]


class FocalLoss(nn.Module):
    """The focal loss (Lin et al., 2017): w_y (1 - p_y)^gamma (-log p_y), p the plain softmax of the logits.

    alpha: (C,) weights by class, or None; they move with the module. gamma: >= 0; 0 gives cross-entropy. reduction:
    `mean` over samples, `sum`, or `none` (B,). label_smoothing: the target of every class, as in cross-entropy.

    Raises ConfigValueError (a ValueError) for anything else.
    """

    alpha: Tensor | None

    def __init__(
        self,
        alpha: Tensor | Sequence[float] | None = None,
        gamma: float = 2.0,
        reduction: str = "mean",
        *,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        weights = None if alpha is None else torch.as_tensor(alpha, dtype=torch.float32)
        if weights is not None and weights.ndim != 1:
            raise ConfigValueError("alpha must have one weight per class", where="alpha", got=alpha)
        if not gamma >= 0:
            raise ConfigValueError("gamma must not be negative", where="gamma", got=gamma)
        if not 0 <= label_smoothing < 1:
            raise ConfigValueError("label smoothing must be in [0, 1)", where="label_smoothing", got=label_smoothing)
        if reduction not in REDUCTIONS:
            raise ConfigValueError("there is no such reduction", where="reduction", got=reduction,
                                   hint=", ".join(REDUCTIONS))  # fmt: skip
        self.register_buffer("alpha", weights)
        self.gamma, self.reduction, self.label_smoothing = float(gamma), reduction, float(label_smoothing)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return () for `mean` and `sum`, (B,) for `none`; logits (B, C), targets int64 (B,)."""
        loss = focal(logits, targets, gamma=self.gamma, label_smoothing=self.label_smoothing, class_weights=self.alpha)
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" else loss.sum()


def build_criterion(config: Mapping[str, Any], class_counts: Sequence[int] | None = None) -> nn.Module:
    """Return a `FocalLoss` if `use_focal_loss`, else `nn.CrossEntropyLoss`; both smoothed by `label_smoothing`.

    With `use_class_weights` and `class_counts` (of the training part, by class index) each class is weighted by
    total / count, scaled to a mean of 1; a class without samples has the weight 1. Weights without counts, and weights
    beside the focal loss, are warnings.
    """
    weighted, is_focal = bool(value(config, "use_class_weights")), bool(value(config, "use_focal_loss"))
    if weighted and class_counts is None:
        LOG.warning("use_class_weights needs class_counts: the classes are not weighted")
    if weighted and is_focal:
        LOG.warning("use_class_weights and use_focal_loss both raise rare classes, and add up: use one of them")
    weights = None
    if weighted and class_counts is not None:
        weights = torch.tensor(balanced_weights([int(count) for count in class_counts]), dtype=torch.float32)
    smoothing = float(value(config, "label_smoothing"))
    if is_focal:
        return FocalLoss(alpha=weights, gamma=value(config, "focal_gamma"), label_smoothing=smoothing)
    return nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)


def loss_of(criterion: Criterion, device: torch.device) -> Loss:
    """Return a criterion as a loss of paceline, which carries sums and weights.

    Cross-entropy and `FocalLoss` with the reduction `mean` become paceline's own. Any other criterion(logits, targets)
    is used as it is: what it returns is the batch's loss if it is one number, and is averaged over samples if it is
    (B,). Raises ModelError for parameters that no optimizer would train.
    """
    if isinstance(criterion, nn.Module) and any(p.requires_grad for p in criterion.parameters()):
        raise ModelError("the criterion has parameters, which are not trained", where="criterion",
                         got=type(criterion).__name__, hint="a part of the model, or requires_grad=False")  # fmt: skip
    if type(criterion) is nn.CrossEntropyLoss and criterion.reduction == "mean" and criterion.ignore_index < 0:
        return CrossEntropy(label_smoothing=criterion.label_smoothing, class_weights=_plain(criterion.weight))
    if type(criterion) is FocalLoss and criterion.reduction == "mean":
        return Focal(
            gamma=criterion.gamma, label_smoothing=criterion.label_smoothing, class_weights=_plain(criterion.alpha)
        )
    if isinstance(criterion, nn.Module):
        criterion = criterion.to(device)
    if not callable(criterion):
        raise ModelError("the criterion cannot be called", where="criterion", got=type(criterion).__name__,
                         hint="build_criterion(config, class_counts)")  # fmt: skip
    return OfBatch(criterion)


@dataclass(frozen=True)
class OfBatch:
    """Any criterion: the gradient of a step is that of its value, an epoch's loss the mean over samples."""

    criterion: Criterion

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"loss": batch_size(batch)}

    def sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        found = self.criterion(outputs, batch["y"])
        if found.ndim == 0:
            return {"loss": found * batch_size(batch)}
        if found.shape == (batch_size(batch),):
            return {"loss": found.sum()}
        raise ModelError("the criterion must return one number, or one per sample", where="criterion",
                         got=f"shape {tuple(found.shape)}")  # fmt: skip


def _plain(weights: Tensor | None) -> tuple[float, ...] | None:
    return None if weights is None else tuple(weights.tolist())
