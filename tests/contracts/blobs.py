"""A `--use` file whose recipe trains in a fraction of a second: three blobs of points, a net with dropout."""

from __future__ import annotations

import numpy as np
import torch

import paceline
from paceline.models.dropout import Dropout


class Blobs(paceline.DataConfig):
    """Three clouds in six dimensions; ten groups of samples."""

    samples: int = 45
    shift: float = 0.0  # another value is other data

    def load(self):
        rng = np.random.default_rng(7)
        y = np.arange(self.samples) % 3
        x = rng.normal(size=(self.samples, 6)) + 1.5 * np.eye(3, 6)[y] + self.shift
        return paceline.dataset(x=x, y=y, classes=["a", "b", "c"], group=np.arange(self.samples) // 3 % 10)


class Net(paceline.ModelConfig):
    """Dropout of the package."""

    hidden: int = 5
    dropout: float = 0.3

    def build(self, spec):
        return torch.nn.Sequential(
            torch.nn.Linear(spec.n_features, self.hidden), torch.nn.ReLU(), Dropout(self.dropout),
            torch.nn.Linear(self.hidden, spec.n_classes),
        )  # fmt: skip


class Foreign(paceline.ModelConfig):
    """Dropout and batch normalisation of torch."""

    width: int = 4

    def build(self, spec):
        return torch.nn.Sequential(
            torch.nn.Linear(spec.n_features, self.width), torch.nn.BatchNorm1d(self.width), torch.nn.Dropout(0.5),
            torch.nn.Linear(self.width, spec.n_classes),
        )  # fmt: skip


recipe = paceline.Recipe(
    name="blobs",
    data={"blobs": Blobs},
    models={"net": Net, "foreign": Foreign},
    defaults={
        "training.num_epochs": 3,
        "training.batch_size": 8,
        "training.learning_rate": 0.01,
        "numerics.threads": 1,
    },
)
