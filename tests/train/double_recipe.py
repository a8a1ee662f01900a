"""A recipe in float64, so that equality can be asked to 1e-9: sequences of unequal length, and plain rows."""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import nn

from paceline.data.config import DataConfig
from paceline.data.dataset import Dataset, dataset
from paceline.models.config import ModelConfig, WindowsConfig
from paceline.models.dropout import Dropout
from paceline.recipes.pain.config import ConvGru, Gru
from paceline.run.recipe import Recipe
from paceline.types import DataSpec


class Sequences(DataConfig):
    name: Literal["sequences"] = "sequences"
    samples: int = 50

    def load(self) -> Dataset:
        rng = np.random.default_rng(0)
        y = np.arange(self.samples) % 3
        x = rng.normal(size=(self.samples, 6, 4)) + y[:, None, None] * 0.4
        return dataset(x=x, y=y, lengths=rng.integers(3, 7, self.samples), dtype="float64")


class Rows(DataConfig):
    name: Literal["rows"] = "rows"
    samples: int = 50

    def load(self) -> Dataset:
        rng = np.random.default_rng(0)
        y = np.arange(self.samples) % 3
        return dataset(x=rng.normal(size=(self.samples, 5)) + y[:, None] * 0.4, y=y, dtype="float64")


class Mlp(ModelConfig):
    name: Literal["mlp"] = "mlp"
    dropout: float = 0.1

    def build(self, spec: DataSpec) -> nn.Module:
        hidden = [nn.Linear(spec.n_features, 8), nn.ReLU(), Dropout(self.dropout)]
        return nn.Sequential(*hidden, nn.Linear(8, spec.n_classes)).double()


class DoubleGru(ModelConfig):
    name: Literal["double_gru"] = "double_gru"
    dropout: float = 0.1
    windows: WindowsConfig = WindowsConfig()

    def build(self, spec: DataSpec) -> nn.Module:
        return Gru(hidden_size=5, num_layers=2, dropout=self.dropout, windows=self.windows).build(spec).double()


class DoubleConvGru(ModelConfig):
    name: Literal["double_conv_gru"] = "double_conv_gru"
    dropout: float = 0.1

    def build(self, spec: DataSpec) -> nn.Module:
        return ConvGru(channels=(6,), kernel_size=3, hidden_size=5, dropout=self.dropout).build(spec).double()


recipe = Recipe(
    name="double",
    data={"rows": Rows, "sequences": Sequences},
    models={"mlp": Mlp, "double_gru": DoubleGru, "double_conv_gru": DoubleConvGru},
    defaults={"training.num_epochs": 6, "training.batch_size": 8, "task.inputs": ["x", "mask"], "numerics.threads": 1},
)
