"""A `--use` file whose recipe trains in a fraction of a second: three clouds of points, a net with dropout."""

from __future__ import annotations

import os
import signal

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
    """Dropout and batch normalisation of torch; its one key is called otherwise than the first model's."""

    width: int = 4

    def build(self, spec):
        return torch.nn.Sequential(
            torch.nn.Linear(spec.n_features, self.width), torch.nn.BatchNorm1d(self.width), torch.nn.Dropout(0.5),
            torch.nn.Linear(self.width, spec.n_classes),
        )  # fmt: skip


class Signalling(paceline.ModelConfig):
    """Sends a signal to its own process in the training step `at`, counted from 1; 0 never does."""

    at: int = 0
    number: int = int(signal.SIGINT)

    def build(self, spec):
        return SignallingNet(spec, self.at, self.number)


class SignallingNet(torch.nn.Module):
    def __init__(self, spec, at, number):
        super().__init__()
        self.linear, self.dropout = torch.nn.Linear(spec.n_features, spec.n_classes), Dropout(0.3)
        self.left, self.number = at, number

    def forward(self, x):
        if self.training:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.number)
        return self.linear(self.dropout(x))


recipe = paceline.Recipe(
    name="blobs",
    data={"blobs": Blobs},
    models={"net": Net, "foreign": Foreign, "signalling": Signalling},
    defaults={
        "training.num_epochs": 3,
        "training.batch_size": 8,
        "training.learning_rate": 0.01,
        "training.engine": "eager",
        "numerics.threads": 1,
    },
)
