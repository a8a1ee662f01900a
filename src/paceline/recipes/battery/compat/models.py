"""The guide's models, made from their sizes: the recipe's networks.

Shapes: B batch, T time, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from paceline.config.validate import validate
from paceline.models.rescaled import Rescaled
from paceline.recipes.battery.config import BatteryModel, Lstm, Mlp, NeuralOde
from paceline.types import DataSpec


class Network(nn.Module):
    """One of the recipe's networks, called with x (B, F) or (B, T, F), a mask (B, T), and times t (B, T).

    It returns (B,) for rows. For sequences it returns a number per step, (B, T), or with per_step=False one per
    sequence, (B,). Its output is multiplied by `std` and `mean` is added, buffers that are 1 and 0 until `scale_to`.
    """

    def __init__(self, section: type[BatteryModel], input_dim: int, per_step: bool, **keys: Any) -> None:
        super().__init__()
        # The steps only say that there is an axis of them: no network's size depends on their number.
        shapes = {"x": (2, input_dim), "y": (2,) if per_step else (), "t": (2,)}
        network = validate(section, keys, "model").network(DataSpec(shapes=shapes))
        self.rescaled = Rescaled(network, mean=0.0, std=1.0)

    @property
    def network(self) -> nn.Module:
        return self.rescaled.network

    @property
    def is_scaled(self) -> bool:
        """Whether the output has a scale: by `scale_to`, or by weights that were loaded."""
        return (float(self.rescaled.mean), float(self.rescaled.std)) != (0.0, 1.0)

    def scale_to(self, mean: float, std: float) -> None:
        """Give the output the unit of targets with this mean and standard deviation, so that it starts near them."""
        self.rescaled.mean.fill_(mean)
        self.rescaled.std.fill_(std)

    def forward(self, x: Tensor, mask: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        out: Tensor = self.rescaled(x, mask, t)
        return out[:, 0] if x.ndim == 2 and out.ndim == 2 else out


class MLPModel(Network):
    """Linear layers with ReLU and dropout; weights by Xavier's uniform rule, biases 0. Steps know only themselves."""

    def __init__(
        self, input_dim: int, hidden_dims: Sequence[int] = (64, 32), dropout: float = 0.1, *, per_step: bool = True
    ) -> None:
        super().__init__(Mlp, input_dim, per_step, hidden_dims=list(hidden_dims), dropout=dropout)


class LSTMModel(Network):
    """LSTM layers and a linear head; a step knows itself and those before it."""

    def __init__(
        self, input_dim: int, hidden_dim: int = 64, num_layers: int = 2, dropout: float = 0.1, *, per_step: bool = True
    ) -> None:
        super().__init__(Lstm, input_dim, per_step, hidden_size=hidden_dim, num_layers=num_layers, dropout=dropout)


class NeuralODEModel(Network):
    """A hidden state that follows a differential equation, each sample on its own times t. Needs torchdiffeq."""

    def __init__(
        self, input_dim: int, latent_dim: int = 32, hidden_dim: int = 64, *, per_step: bool = True, **keys: Any
    ) -> None:
        super().__init__(NeuralOde, input_dim, per_step, latent_dim=latent_dim, hidden_size=hidden_dim, **keys)
