"""The networks a config can choose for this recipe. Imports no torch.

All are called with x (B, F) or (B, T, F), a mask (B, T) or None, and the times `t` or None; they return a number per
sample, or per step where the targets have one per step.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from paceline.errors import ModelError
from paceline.models.config import ModelConfig
from paceline.types import DataSpec

if TYPE_CHECKING:
    from torch import nn


class BatteryModel(ModelConfig, ABC):
    """A network whose output is brought to the unit of the targets.

    rescale: the output is multiplied by the standard deviation of the training targets and their mean is added, so that
    weights of usual size fit targets of any unit.
    """

    rescale: bool = True

    @abstractmethod
    def network(self, spec: DataSpec) -> nn.Module:
        """Return the network, its output in standard deviations of the training targets."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Return `network`, rescaled unless that is off."""
        if not self.rescale:
            return self.network(spec)
        from paceline.models.rescaled import Rescaled

        return Rescaled(self.network(spec), mean=spec.target_mean, std=spec.target_std)


class Mlp(BatteryModel):
    """Linear layers with ReLU and dropout. Sequences: every step by itself, or the mean of the steps for one target.

    Weights are drawn by Glorot and Bengio's uniform rule (2010), biases are 0. linear_skip: add a linear function of
    the inputs, so that the layers learn what it leaves; their last weights then begin at 0, and what they add is
    multiplied by `residual_scale`: below 1 they depart from the linear function slowly, and less far.
    """

    name: Literal["mlp"] = "mlp"
    hidden_dims: tuple[int, ...] = (64, 32)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    linear_skip: bool = False
    residual_scale: float = Field(default=1.0, gt=0.0)

    @model_validator(mode="after")
    def _widths(self) -> Mlp:
        if any(width < 1 for width in self.hidden_dims):
            raise ValueError("a hidden layer needs at least one unit")
        return self

    def network(self, spec: DataSpec) -> nn.Module:
        """Return an `MlpNetwork`."""
        from paceline.recipes.battery.model import MlpNetwork, target_of

        return MlpNetwork(spec.n_features, target_of(spec), hidden=self.hidden_dims, dropout=self.dropout,
                          linear_skip=self.linear_skip, residual_scale=self.residual_scale)  # fmt: skip


class Lstm(BatteryModel):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997): each step knows itself and those before it.

    dropout: between layers and before the head.
    """

    name: Literal["lstm"] = "lstm"
    hidden_size: int = Field(default=64, ge=1)
    num_layers: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    def network(self, spec: DataSpec) -> nn.Module:
        """Return an `LstmNetwork`."""
        from paceline.recipes.battery.model import LstmNetwork, target_of

        return LstmNetwork(spec.n_features, target_of(spec), hidden_size=self.hidden_size, num_layers=self.num_layers,
                           dropout=self.dropout)  # fmt: skip


class LstmAttn(BatteryModel):
    """An LSTM, self-attention over its steps (Vaswani et al., 2017), layer normalisation, a linear head.

    With both directions, and by its attention in any case, each step knows the whole sequence: for offline use.
    """

    name: Literal["lstm_attn"] = "lstm_attn"
    hidden_size: int = Field(default=64, ge=1)
    num_layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    bidirectional: bool = True

    @model_validator(mode="after")
    def _divisible(self) -> LstmAttn:
        width = self.hidden_size * (2 if self.bidirectional else 1)
        if width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the {width} outputs of the LSTM")
        return self

    def network(self, spec: DataSpec) -> nn.Module:
        """Return an `LstmAttnNetwork`."""
        from paceline.recipes.battery.attention import LstmAttnNetwork
        from paceline.recipes.battery.model import target_of

        return LstmAttnNetwork(
            spec.n_features, target_of(spec), hidden_size=self.hidden_size, num_layers=self.num_layers,
            heads=self.heads, dropout=self.dropout, bidirectional=self.bidirectional,
        )  # fmt: skip


class CnnLstm(BatteryModel):
    """Convolutions over the current and earlier steps, then an LSTM; each step knows itself and those before it.

    channels: outputs of each convolution. kernel_size: steps that each looks at. dropout: after each, between LSTM
    layers and before the head.
    """

    name: Literal["cnn_lstm"] = "cnn_lstm"
    channels: tuple[int, ...] = Field(default=(32, 32), min_length=1)
    kernel_size: int = Field(default=3, ge=1)
    hidden_size: int = Field(default=64, ge=1)
    num_layers: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    def network(self, spec: DataSpec) -> nn.Module:
        """Return a `CnnLstmNetwork`."""
        from paceline.recipes.battery.model import CnnLstmNetwork, target_of

        return CnnLstmNetwork(
            spec.n_features, target_of(spec), channels=self.channels, kernel_size=self.kernel_size,
            hidden_size=self.hidden_size, num_layers=self.num_layers, dropout=self.dropout,
        )  # fmt: skip


class NeuralOde(BatteryModel):
    """A hidden state that follows an ordinary differential equation between the steps (Chen et al., 2018).

    The first step's features give the initial state; on the way to a step its features drive the equation. Every sample
    has its own times `t`, in units of the mean spacing of the training part; without times the steps are 1 apart. Data
    without steps is followed over one unit of time. Solved by Dormand and Prince's method of order 5 with step size
    control (`rtol`, `atol`). adjoint: gradients by solving backwards, in less memory and more time. One member at a
    time: the step size depends on values.
    """

    name: Literal["neural_ode"] = "neural_ode"
    latent_dim: int = Field(default=32, ge=1)
    hidden_size: int = Field(default=64, ge=1)
    rtol: float = Field(default=1e-3, gt=0.0)
    atol: float = Field(default=1e-4, gt=0.0)
    adjoint: bool = False

    def network(self, spec: DataSpec) -> nn.Module:
        """Return a `NeuralOdeNetwork`. Raises ModelError without torchdiffeq."""
        need_solver(self.name)
        from paceline.recipes.battery.model import target_of
        from paceline.recipes.battery.ode import NeuralOdeNetwork

        return NeuralOdeNetwork(
            spec.n_features, target_of(spec), latent=self.latent_dim, hidden=self.hidden_size, rtol=self.rtol,
            atol=self.atol, adjoint=self.adjoint, time_step=spec.time_step, timed="t" in spec.shapes,
        )  # fmt: skip


class Acla(BatteryModel):
    """Attention over features, convolutions over the current and earlier steps, an LSTM, an augmented neural ODE.

    augment: zeros beside the state of the equation (Dupont, Doucet and Teh, 2019). dropout: after each convolution and
    before the head. The rest as in `CnnLstm` and `NeuralOde`.
    """

    name: Literal["acla"] = "acla"
    channels: tuple[int, ...] = Field(default=(32,), min_length=1)
    kernel_size: int = Field(default=3, ge=1)
    hidden_size: int = Field(default=32, ge=1)
    latent_dim: int = Field(default=16, ge=1)
    augment: int = Field(default=4, ge=0)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    rtol: float = Field(default=1e-3, gt=0.0)
    atol: float = Field(default=1e-4, gt=0.0)

    def network(self, spec: DataSpec) -> nn.Module:
        """Return an `AclaNetwork`. Raises ModelError without torchdiffeq."""
        need_solver(self.name)
        from paceline.recipes.battery.acla import AclaNetwork
        from paceline.recipes.battery.model import target_of

        return AclaNetwork(
            spec.n_features, target_of(spec), channels=self.channels, kernel_size=self.kernel_size,
            hidden_size=self.hidden_size, latent=self.latent_dim, augment=self.augment, dropout=self.dropout,
            rtol=self.rtol, atol=self.atol,
        )  # fmt: skip


def need_solver(model: str) -> None:
    """Raise ModelError unless torchdiffeq is installed."""
    if importlib.util.find_spec("torchdiffeq") is None:
        raise ModelError(f"model={model} needs the package torchdiffeq", where="model", hint="pip install torchdiffeq")


MODELS: dict[str, type[ModelConfig]] = {
    "mlp": Mlp, "lstm": Lstm, "lstm_attn": LstmAttn, "cnn_lstm": CnnLstm, "neural_ode": NeuralOde, "acla": Acla
}  # fmt: skip
