"""A `--use` file of models whose forward pass runs out of memory for more than so many training samples."""

from __future__ import annotations

import os

import torch

import paceline
from paceline.models.dropout import Dropout

LEFT = "HUNGRY_ERRORS_LEFT"  # in the environment: how many are raised yet; unset: always


class Hungry(torch.nn.Module):
    def __init__(self, spec, most, norm, dropout, looked):
        super().__init__()
        self.most, self.looked, self.first = most, looked, torch.nn.Linear(spec.n_features, 4)
        self.norm = torch.nn.BatchNorm1d(4) if norm else torch.nn.Identity()
        self.dropout, self.last = Dropout(dropout), torch.nn.Linear(4, spec.n_classes)

    def forward(self, x):
        hidden = self.norm(self.first(x.double()))  # statistics have moved when memory runs out
        left = int(os.environ.get(LEFT, "1"))
        if self.training and len(x) > self.most and left:
            if LEFT in os.environ:
                os.environ[LEFT] = str(left - 1)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.\nGPU 0 has ...")
        if not self.training and len(x) > self.looked:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.last(self.dropout(hidden))


class HungryConfig(paceline.ModelConfig):
    """most: samples that fit in training. looked: in an evaluation."""

    most: int = 3
    norm: bool = False
    dropout: float = 0.0
    looked: int = 1000

    def build(self, spec):
        return Hungry(spec, self.most, self.norm, self.dropout, self.looked).double()


class Points(paceline.DataConfig):
    def load(self):
        import numpy as np

        rng = np.random.default_rng(5)
        y = np.arange(60) % 3
        return paceline.dataset(x=rng.normal(size=(60, 6)) + np.eye(3, 6)[y], y=y, classes=["a", "b", "c"])


recipe = paceline.Recipe(
    name="hungry",
    data={"points": Points},
    models={"hungry": HungryConfig},
    defaults={
        "training.num_epochs": 3, "training.batch_size": 16, "training.learning_rate": 0.05, "numerics.threads": 1,
        "data.split.val_fraction": 0.2, "training.processes": 1,
    },
)  # fmt: skip
