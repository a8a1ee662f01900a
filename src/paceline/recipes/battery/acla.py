"""Attention, convolution, LSTM and an augmented neural ODE, one after another ("ACLA", arXiv 2505.05803).

Shapes: B batch, T time, F features, L latent size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from paceline.models.recurrent import Recurrent, last_valid, zero_padding
from paceline.recipes.battery.model import CausalConv, Head, Target, as_steps
from paceline.recipes.battery.ode import STEP_SIZES, VectorField, advance


class FeatureAttention(nn.Module):
    """Each step's features, weighted by a softmax over them that the step itself decides: (B, T, F) -> (B, T, F)."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.score = nn.Linear(n_features, n_features)

    def forward(self, x_BTF: Tensor) -> Tensor:
        out: Tensor = x_BTF * self.score(x_BTF).softmax(-1) * x_BTF.shape[-1]  # weights of mean 1
        return out


class AclaNetwork(nn.Module):
    """Feature attention, causal convolutions, an LSTM, an augmented neural ODE (Dupont, Doucet and Teh, 2019), a head.

    A linear layer makes the state of an LSTM's output; with `augment` zeros beside it, it follows a learned equation
    over one unit of time. Each step knows itself and those before it.
    """

    not_stacked = STEP_SIZES

    def __init__(
        self,
        n_features: int,
        target: Target,
        *,
        channels: Sequence[int],
        kernel_size: int,
        hidden_size: int,
        latent: int,
        augment: int,
        dropout: float,
        rtol: float,
        atol: float,
    ) -> None:
        super().__init__()
        self.steps, self.augment, self.rtol, self.atol = target.steps, augment, rtol, atol
        self.attention = FeatureAttention(n_features)
        sizes = pairwise([n_features, *channels])
        self.blocks = nn.Sequential(*(CausalConv(a, b, kernel_size=kernel_size, dropout=dropout) for a, b in sizes))
        self.recurrent = Recurrent("lstm", channels[-1], hidden_size)
        self.state = nn.Linear(hidden_size, latent)
        self.field = VectorField(latent + augment, 0, hidden_size)
        self.head = Head(latent + augment, target, dropout=dropout)

    def forward(self, x: Tensor, mask_BT: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        x_BTF = self.attention(zero_padding(as_steps(x), mask_BT))
        outputs, _ = self.recurrent(self.blocks(x_BTF), mask_BT)
        h = outputs if self.steps else last_valid(outputs, mask_BT)
        z = nn.functional.pad(self.state(h), (0, self.augment)).flatten(0, -2)  # samples and steps in one row
        time = torch.ones_like(z[:, 0])
        if self.steps and mask_BT is not None:
            time = torch.where(mask_BT.flatten(), time, 0)
        solved = advance(self.field, z, time, z.new_zeros(len(z), 0), rtol=self.rtol, atol=self.atol)
        out: Tensor = self.head(solved.reshape(*h.shape[:-1], -1))
        return out
