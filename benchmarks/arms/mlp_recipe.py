"""The workload of the step benchmark as a recipe, with dropout: `paceline train --use arms/mlp_recipe.py task=mlp`."""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

import paceline
from paceline.data.dataset import Dataset
from paceline.models.dropout import Dropout
from paceline.types import DataSpec


class Smooth(paceline.DataConfig):
    """The 10,000 rows of `arms.workload`, in the same two parts, told apart by their group."""

    def load(self) -> Dataset:
        sys.path.append(str(Path(__file__).resolve().parents[1]))  # a file given by --use is no part of a package
        from arms.workload import N_TRAIN, N_VAL, synthetic

        x, y = synthetic()
        return paceline.dataset(x=x.numpy(), y=y.numpy(), group=["train"] * N_TRAIN + ["val"] * N_VAL)


class Net(paceline.ModelConfig):
    """20-64-32-1 with ReLU, and dropout after the first one."""

    widths: tuple[int, ...] = (64, 32)
    dropout: float = 0.1

    def build(self, spec: DataSpec) -> nn.Module:
        layers, size = [], spec.n_features
        for i, width in enumerate(self.widths):
            layers += [nn.Linear(size, width), nn.ReLU(), *([Dropout(self.dropout)] if i == 0 else [])]
            size = width
        return nn.Sequential(*layers, nn.Linear(size, 1))


recipe = paceline.Recipe(
    name="mlp",
    data={"smooth": Smooth},
    models={"net": Net},
    task=paceline.RegressionConfig,
    loss="mse",
    defaults={
        "data.split.rule": "value",
        "data.split.values.val": ["val"],
        "data.scale": "none",
        "training.num_epochs": 480,
        "training.batch_size": 32,
        "training.learning_rate": 1e-3,
        "training.weight_decay": 0.01,
        "training.schedule.name": "none",
        "training.early_stopping.enabled": False,
        "training.evaluate.batch_size": 500,
        "device": "cpu",
    },
)
