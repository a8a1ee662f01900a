"""Pooling over the valid steps of a sequence.

Shapes: B batch, T time, F features. Masks are (B, T) bool, True where valid. A sample without a valid step gives 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paceline.models.recurrent import last_valid, zero_padding


def masked_mean(x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Return the mean over the valid steps, (B, F)."""
    if mask_BT is None:
        return x_BTF.mean(1)
    count_B1 = mask_BT.sum(1, keepdim=True).clamp(min=1)
    return torch.where(mask_BT[:, :, None], x_BTF, 0).sum(1) / count_B1


def masked_max(x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Return the maximum over the valid steps, (B, F)."""
    if mask_BT is None:
        return x_BTF.amax(1)
    lowest = torch.finfo(x_BTF.dtype).min
    largest = torch.where(mask_BT[:, :, None], x_BTF, lowest).amax(1)
    return torch.where(mask_BT.any(1, keepdim=True), largest, 0)


def masked_statistics(x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Return mean, standard deviation (divisor n), minimum, maximum, last minus first valid step, (B, 5F).

    Statistic by statistic. A channel that does not vary has deviation 0 and passes no gradient through it.
    """
    x = zero_padding(x_BTF, mask_BT)
    mean_BF = masked_mean(x, mask_BT)
    variance_BF = masked_mean((x - mean_BF[:, None]).square(), mask_BT)
    varies = variance_BF > 0
    deviation_BF = torch.where(varies, torch.where(varies, variance_BF, 1).sqrt(), 0)
    change_BF = last_valid(x, mask_BT) - x[:, 0]
    return torch.cat([mean_BF, deviation_BF, -masked_max(-x, mask_BT), masked_max(x, mask_BT), change_BF], 1)


def masked_softmax(scores_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Return the softmax over the valid steps, (B, T), exactly 0 elsewhere."""
    if mask_BT is None:
        return scores_BT.softmax(1)
    lowest = torch.finfo(scores_BT.dtype).min
    return torch.where(mask_BT, torch.where(mask_BT, scores_BT, lowest).softmax(1), 0)


class AttentionPooling(nn.Module):
    """Weighted mean over the valid steps; the weights are a softmax of tanh(x W + b) v (Yang et al., 2016).

    forward(x_BTF, mask_BT=None) -> (B, F).
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        if mask_BT is not None:
            x_BTF = torch.where(mask_BT[:, :, None], x_BTF, 0)
        scores_BT = self.score(torch.tanh(self.hidden(x_BTF))).squeeze(2)
        return (masked_softmax(scores_BT, mask_BT)[:, :, None] * x_BTF).sum(1)
