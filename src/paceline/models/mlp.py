"""A multilayer perceptron. Shapes: any leading axes, F features last."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from paceline.errors import ModelError
from paceline.models.dropout import Dropout


class MLP(nn.Module):
    """Linear layers of `sizes` (input, hidden..., output), with ReLU and dropout after each but the last.

    forward(x) takes (..., sizes[0]) and returns (..., sizes[-1]).
    """

    def __init__(self, sizes: Sequence[int], *, dropout: float = 0.0) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise ModelError("an MLP needs the sizes of its input and output", got=list(sizes), hint="[20, 64, 1]")
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes[:-1]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out
