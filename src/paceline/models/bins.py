"""Piecewise linear encoding of numbers by quantile bins.

Shapes: B batch, F features, K bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def masked_quantiles(x_BF: Tensor, levels_Q: Tensor, mask_B: Tensor | None = None) -> Tensor:
    """Return quantiles of each feature over the valid rows, (Q, F), interpolated linearly as NumPy does.

    levels_Q: in 0..1. Without a valid row they are infinite.
    """
    if mask_B is None:
        count, rows_BF = x_BF.new_full((), x_BF.shape[0]), x_BF
    else:
        count, rows_BF = mask_B.sum().to(x_BF.dtype), torch.where(mask_B[:, None], x_BF, torch.inf)
    sorted_BF = rows_BF.sort(0).values
    place_Q = levels_Q * (count - 1).clamp(min=0)
    below_QF, above_QF = (
        sorted_BF.gather(0, end.long()[:, None].expand(-1, x_BF.shape[1])) for end in (place_Q.floor(), place_Q.ceil())
    )
    return torch.lerp(below_QF, above_QF, (place_Q - place_Q.floor())[:, None])


class QuantileBins(nn.Module):
    """K numbers per feature: how far it has come through each of K bins, 0 before and 1 after (Gorishniy et al., 2022).

    forward(x_BF, mask_B=None) -> (B, K F), bin by bin. The edges are the quantiles 0, 1/K, ..., 1 of each feature, so
    that what follows sees ranks in steps, and outliers and units matter little. Each training batch moves the edges
    towards its own quantiles, the n-th batch by the larger of 1/n and `momentum`: whole batches give the quantiles of
    the training part exactly. Training and evaluation use the same edges. A batch without valid rows moves nothing.
    """

    running_edges: Tensor
    running_batches: Tensor
    levels: Tensor

    def __init__(self, features: int, bins: int, *, momentum: float = 0.1, narrowest: float = 1e-4) -> None:
        super().__init__()
        self.momentum = momentum
        self.narrowest = narrowest  # width of a bin whose edges coincide, as with tied values: a step
        levels = torch.linspace(0, 1, bins + 1)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("running_edges", levels[:, None].repeat(1, features))
        self.register_buffer("running_batches", torch.zeros(()))

    def forward(self, x_BF: Tensor, mask_B: Tensor | None = None) -> Tensor:
        if self.training:
            self._update(x_BF.detach(), mask_B)
        low_KF, high_KF = self.running_edges[:-1], self.running_edges[1:]
        width_KF = (high_KF - low_KF).clamp(min=self.narrowest)
        passed_BKF = ((x_BF[:, None] - low_KF) / width_KF).clamp(0, 1)
        return passed_BKF.flatten(1)

    def _update(self, x_BF: Tensor, mask_B: Tensor | None) -> None:
        found_QF = masked_quantiles(x_BF.to(self.running_edges.dtype), self.levels, mask_B)
        some = torch.ones((), dtype=torch.bool, device=x_BF.device) if mask_B is None else mask_B.any()
        rate = (1 / (self.running_batches + 1)).clamp(min=self.momentum)
        moved_QF = self.running_edges + rate * (found_QF - self.running_edges)
        self.running_edges.copy_(torch.where(some, moved_QF, self.running_edges))
        self.running_batches.copy_(self.running_batches + some.to(self.running_batches.dtype))

    def extra_repr(self) -> str:
        return f"{self.running_edges.shape[1]}, bins={self.running_edges.shape[0] - 1}, momentum={self.momentum}"
