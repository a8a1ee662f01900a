"""Networks that predict a number per sample or per step.

Shapes: B batch, T time, F features, H units. Every network is called with x (B, F) or (B, T, F), mask (B, T) (bool,
True on the valid steps, which come first; None if all are) and t, which only a neural ODE looks at. A valid step's
output does not depend on the amount of padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from paceline.models.dropout import Dropout
from paceline.models.mlp import MLP
from paceline.models.pooling import masked_mean
from paceline.models.recurrent import Recurrent, zero_padding
from paceline.types import DataSpec


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is predicted: per step or per sample, numbers of the shape `trailing` (() for one)."""

    steps: bool = False
    trailing: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        return math.prod(self.trailing)


def target_of(spec: DataSpec) -> Target:
    """Return what the data and the loss ask for: per step where `y` has the step axis of sequences `x`."""
    x, y = spec.shapes["x"], spec.shapes.get("y", ())
    steps = len(x) == 2 and y[:1] == x[:1]
    own = y[1:] if steps else y
    return Target(steps=steps, trailing=(*own, spec.outputs) if spec.outputs > 1 else own)


class Head(nn.Module):
    """Dropout and a linear layer: (..., H) -> (..., *trailing), where a trailing () leaves no axis."""

    def __init__(self, units: int, target: Target, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.trailing = target.trailing
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(units, target.width)

    def forward(self, h: Tensor) -> Tensor:
        return shaped(self.linear(self.dropout(h)), self.trailing)


def shaped(out: Tensor, trailing: tuple[int, ...]) -> Tensor:
    """Return (..., width) as (..., *trailing)."""
    return out.reshape(*out.shape[:-1], *trailing)


def xavier(module: nn.Module) -> None:
    """Draw the weights of all linear layers by Glorot and Bengio's uniform rule (2010); biases become 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class MlpNetwork(nn.Module):
    """An MLP on each row or step; on the mean of the valid steps where a sequence has one target."""

    def __init__(
        self,
        n_features: int,
        target: Target,
        *,
        hidden: Sequence[int],
        dropout: float,
        linear_skip: bool = False,
        residual_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.target, self.scale = target, residual_scale
        self.mlp = MLP([n_features, *hidden, target.width], dropout=dropout)
        self.skip = nn.Linear(n_features, target.width, bias=False) if linear_skip else None
        xavier(self)
        if linear_skip:  # training begins with a linear function, so the layers only add what the data ask for
            nn.init.zeros_([layer for layer in self.mlp.modules() if isinstance(layer, nn.Linear)][-1].weight)

    def forward(self, x: Tensor, mask_BT: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        if x.ndim == 3:
            x = zero_padding(x, mask_BT) if self.target.steps else masked_mean(x, mask_BT)
        out: Tensor = self.mlp(x)
        return shaped(out if self.skip is None else self.scale * out + self.skip(x), self.target.trailing)


def as_steps(x: Tensor) -> Tensor:
    """Return rows (B, F) as sequences of one step (B, 1, F), sequences as they are."""
    return x[:, None] if x.ndim == 2 else x


class LstmNetwork(nn.Module):
    """LSTM layers, dropout and a linear head on every step, or on the state after the last valid one."""

    def __init__(self, n_features: int, target: Target, *, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.steps = target.steps
        self.recurrent = Recurrent("lstm", n_features, hidden_size, num_layers=num_layers, dropout=dropout)
        self.head = Head(hidden_size, target, dropout=dropout)

    def forward(self, x: Tensor, mask_BT: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        outputs, state = self.recurrent(as_steps(x), mask_BT)
        out: Tensor = self.head(outputs if self.steps else state)
        return out


class CausalConv(nn.Module):
    """Convolution over the current and the k - 1 steps before, ReLU, dropout: (B, T, F) -> (B, T, channels).

    Before the first step there are zeros.
    """

    def __init__(self, n_features: int, channels: int, *, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.before = kernel_size - 1
        self.conv = nn.Conv1d(n_features, channels, kernel_size)
        self.dropout = Dropout(dropout)

    def forward(self, x_BTF: Tensor) -> Tensor:
        padded = F.pad(x_BTF.transpose(1, 2), (self.before, 0))
        out: Tensor = self.dropout(self.conv(padded).transpose(1, 2).relu())
        return out


class CnnLstmNetwork(nn.Module):
    """Causal convolutions, then as `LstmNetwork`."""

    def __init__(
        self,
        n_features: int,
        target: Target,
        *,
        channels: Sequence[int],
        kernel_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        sizes = pairwise([n_features, *channels])
        self.blocks = nn.Sequential(*(CausalConv(a, b, kernel_size=kernel_size, dropout=dropout) for a, b in sizes))
        self.lstm = LstmNetwork(channels[-1], target, hidden_size=hidden_size, num_layers=num_layers, dropout=dropout)

    def forward(self, x: Tensor, mask_BT: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        out: Tensor = self.lstm(self.blocks(zero_padding(as_steps(x), mask_BT)), mask_BT)
        return out
