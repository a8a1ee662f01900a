"""A network whose output is brought to the unit of the targets. Shapes: whatever the network returns."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rescaled(nn.Module):
    """Returns std * network(*inputs) + mean.

    With mean and standard deviation of the training targets a network starts near them, and weights of usual size reach
    them, whatever their unit. Both are buffers: they are saved with the weights, and members may differ in them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, mean: float, std: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std)))

    def forward(self, *inputs: Tensor | None) -> Tensor:
        out = self.network(*inputs)
        wide = torch.promote_types(
            out.dtype, self.mean.dtype
        )  # bfloat16 has three digits, which a large mean would eat
        return torch.addcmul(self.mean, out.to(wide), self.std)

    def extra_repr(self) -> str:
        return f"mean={float(self.mean):g}, std={float(self.std):g}" if self.mean.device.type != "meta" else ""
