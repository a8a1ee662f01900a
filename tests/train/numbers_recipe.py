"""A `--use` file: numbers per row or per step, in float64, by networks of the recipe `battery`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from torch import nn

from paceline.data.config import DataConfig
from paceline.data.dataset import Dataset, dataset
from paceline.models.config import ModelConfig
from paceline.recipes.battery.config import Lstm, Mlp
from paceline.run.recipe import Recipe
from paceline.tasks.config import RegressionConfig
from paceline.types import DataSpec


class Rows(DataConfig):
    name: Literal["rows"] = "rows"
    samples: int = 48
    zeros: int = 0

    def load(self) -> Dataset:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(self.samples, 4))
        y = 3 + x[:, 0] - 0.5 * x[:, 1] ** 2 + 0.1 * rng.normal(size=self.samples)
        y[: self.zeros] = 0
        return dataset(x=x, y=y, dtype="float64")


class Steps(DataConfig):
    """Sequences of 3 to 8 steps at uneven times, a target at each."""

    name: Literal["steps"] = "steps"
    samples: int = 36

    def load(self) -> Dataset:
        rng = np.random.default_rng(0)
        t = np.cumsum(rng.uniform(0.5, 2, (self.samples, 8)), axis=1)
        x = rng.normal(size=(self.samples, 8, 3))
        y = 1 - 0.05 * t + 0.1 * x[:, :, 0]
        made = dataset(x=x, y=y, lengths=rng.integers(3, 9, self.samples), dtype="float64")
        return replace(made, columns={**made.columns, "t": t})


class DoubleMlp(ModelConfig):
    name: Literal["mlp"] = "mlp"
    dropout: float = 0.2

    def build(self, spec: DataSpec) -> nn.Module:
        return Mlp(hidden_dims=(8, 5), dropout=self.dropout, linear_skip=True).build(spec).double()


class DoubleLstm(ModelConfig):
    name: Literal["lstm"] = "lstm"
    dropout: float = 0.2

    def build(self, spec: DataSpec) -> nn.Module:
        return Lstm(hidden_size=5, dropout=self.dropout).build(spec).double()


recipe = Recipe(
    name="numbers",
    data={"rows": Rows, "steps": Steps},
    models={"mlp": DoubleMlp, "lstm": DoubleLstm},
    task=RegressionConfig,
    loss="mse",
    defaults={
        "task.inputs": ["x", "mask", "t"],
        "training.num_epochs": 3,
        "training.batch_size": 8,
        "training.learning_rate": 0.01,
        "training.processes": 1,
        "training.compile": False,
        "numerics.threads": 1,
    },
)
