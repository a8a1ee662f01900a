"""Batch normalisation over the valid positions only.

Shapes: B batch, T time, F features; x is (B, T, F) with a mask (B, T), or (B, F) with a mask (B,).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def normalise(
    x: Tensor, mask: Tensor | None, moments: tuple[Tensor, Tensor] | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (x - mean) / sqrt(variance + eps), 0 where not valid, with count (), mean (F,) and variance (F,).

    x: (..., F). mask: (...), or None if all is valid. moments: the mean and variance to use, or None for those of the
    valid positions (biased variance).
    """
    axes = tuple(range(x.ndim - 1))
    if mask is None:
        count = total = x.new_full((), x.numel() // x.shape[-1])
    else:
        count = mask.sum().to(x.dtype)
        total = count.clamp(min=1)
        x = torch.where(mask.unsqueeze(-1), x, 0)
    mean = x.sum(axes) / total if moments is None else moments[0]
    centered = x - mean
    if mask is not None:
        centered = centered * mask.unsqueeze(-1)
    variance = centered.square().sum(axes) / total if moments is None else moments[1]
    return centered * torch.rsqrt(variance + eps), count, mean, variance


class MaskedBatchNorm1d(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, 2015) whose statistics are those of the valid positions.

    forward(x, mask=None): x (B, T, F) with mask (B, T), or (B, F) with mask (B,), True where valid; the result has x's
    shape and is 0 where not valid. Without padding it is torch's BatchNorm1d: the batch's biased variance normalises,
    the unbiased one enters `running_var`. The buffers are updated in place; a batch with fewer than two valid positions
    leaves them as they are. Under `torch.func.grad` pass the buffers as an argument, not as a captured tensor.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        moments = None if self.training else (self.running_mean, self.running_var)
        y, count, mean, variance = normalise(wide, mask, moments, self.eps)
        if self.training:
            self._update(count.detach(), mean.detach(), variance.detach())
        bias = self.bias if mask is None else self.bias * mask.unsqueeze(-1)
        return torch.addcmul(bias, y, self.weight).to(x.dtype)

    def _update(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        unbiased = variance * count / (count - 1).clamp(min=1)
        rate = (count > 1).to(mean.dtype) * self.momentum
        self.running_mean.copy_(self.running_mean + rate * (mean - self.running_mean))
        self.running_var.copy_(self.running_var + rate * (unbiased - self.running_var))

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}, momentum={self.momentum}"
