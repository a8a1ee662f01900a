"""The models a config can choose for this recipe. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from paceline.errors import DataError
from paceline.models.config import ModelConfig, WindowsConfig
from paceline.types import DataSpec

if TYPE_CHECKING:
    from torch import nn


class SequenceModel(ModelConfig, ABC):
    """A classifier of sequences, of whole ones or of windows."""

    windows: WindowsConfig = WindowsConfig()

    @abstractmethod
    def network(self, spec: DataSpec) -> nn.Module:
        """Return a new classifier, called with x (B, T, F) and a mask (B, T) or None."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Return `network`, in windows where these are on. Raises DataError unless `x` has steps and channels."""
        shape = spec.shapes["x"]
        if len(shape) != 2:
            raise DataError("the model needs sequences (samples, steps, channels)", where="data",
                            got=f"x of shape (samples, {', '.join(map(str, shape))})",
                            hint="x[:, :, None] where the columns are the steps of one channel")  # fmt: skip
        return self.windows.wrap(self.network(spec), steps=shape[0])


class RecurrentModel(SequenceModel, ABC):
    """A stack of recurrent layers and a linear head on the final state; causal unless `bidirectional`.

    dropout: rate between layers and before the head. bidirectional: needs the whole sequence, so for offline use only;
    the head then sees the final states of both directions.
    """

    hidden_size: int = Field(default=256, ge=1)
    num_layers: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.3, ge=0.0, lt=1.0)
    bidirectional: bool = False

    def network(self, spec: DataSpec) -> nn.Module:
        """Return a `RecurrentClassifier` of the kind that the model is named by."""
        from paceline.recipes.pain.model import RecurrentClassifier

        return RecurrentClassifier(
            self.name, spec.n_features, spec.n_classes,
            hidden_size=self.hidden_size, num_layers=self.num_layers,
            dropout=self.dropout, bidirectional=self.bidirectional,
        )  # fmt: skip


class Gru(RecurrentModel):
    """Gated recurrent units (Cho et al., 2014)."""

    name: Literal["gru"] = "gru"


class Lstm(RecurrentModel):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997)."""

    name: Literal["lstm"] = "lstm"


class Rnn(RecurrentModel):
    """Elman's simple recurrent layers (1990), with tanh."""

    name: Literal["rnn"] = "rnn"


class ConvGru(SequenceModel):
    """Convolutions with batch normalisation, a bidirectional GRU, pooling over time, a linear head. For offline use.

    channels: output channels of each convolution block. kernel_size: steps, odd. pooling: `attention`, `mean`, or
    `last` (the final states). dropout: rate after each block, between GRU layers and before the head.
    """

    name: Literal["conv_gru"] = "conv_gru"
    channels: tuple[int, ...] = Field(default=(64, 64), min_length=1)
    kernel_size: int = Field(default=7, ge=1)
    hidden_size: int = Field(default=64, ge=1)
    num_layers: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.3, ge=0.0, lt=1.0)
    pooling: Literal["attention", "mean", "last"] = "attention"

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("the kernel size must be odd, so that a block keeps the number of steps")
        return value

    def network(self, spec: DataSpec) -> nn.Module:
        """Return a `ConvGruClassifier`."""
        from paceline.recipes.pain.model import ConvGruClassifier

        return ConvGruClassifier(
            spec.n_features, spec.n_classes,
            channels=self.channels, kernel_size=self.kernel_size, hidden_size=self.hidden_size,
            num_layers=self.num_layers, dropout=self.dropout, pooling=self.pooling,
        )  # fmt: skip


class Statistics(SequenceModel):
    """An MLP on statistics of each channel and on how they rank: for few samples. For offline use.

    hidden_sizes: units of the hidden layers. bins: by training quantiles of each statistic, 0 for none. dropout: rate
    after each hidden layer. input_dropout: of the statistics and bins.
    """

    name: Literal["statistics"] = "statistics"
    hidden_sizes: tuple[Annotated[int, Field(ge=1)], ...] = (64,)
    bins: int = Field(default=6, ge=0, le=1000)
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    input_dropout: float = Field(default=0.2, ge=0.0, lt=1.0)

    def network(self, spec: DataSpec) -> nn.Module:
        """Return a `StatisticsClassifier`."""
        from paceline.recipes.pain.model import StatisticsClassifier

        return StatisticsClassifier(
            spec.n_features, spec.n_classes,
            hidden_sizes=self.hidden_sizes, bins=self.bins, dropout=self.dropout, input_dropout=self.input_dropout,
        )  # fmt: skip


MODELS: dict[str, type[ModelConfig]] = {
    "conv_gru": ConvGru, "gru": Gru, "lstm": Lstm, "rnn": Rnn, "statistics": Statistics,
}  # fmt: skip
