"""A GRU of width 64 on 80 steps of 64 channels as a recipe: `paceline train --use arms/gru_recipe.py task=waves`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import paceline
from paceline.data.dataset import Dataset
from paceline.models.recurrent import Recurrent
from paceline.types import DataSpec

N_TRAIN, N_VAL = 1_280, 128


class Waves(paceline.DataConfig):
    """Noisy sines, one of four frequencies each."""

    steps: int = 80
    channels: int = 64

    def load(self) -> Dataset:
        rng = np.random.default_rng(0)
        y = rng.integers(0, 4, N_TRAIN + N_VAL)
        phase = rng.uniform(0, 2 * np.pi, (len(y), 1, self.channels))
        angle = np.arange(self.steps)[None, :, None] * (0.2 + 0.05 * y[:, None, None]) + phase
        x = np.sin(angle) + rng.normal(size=angle.shape)
        return paceline.dataset(x=x, y=y, group=["train"] * N_TRAIN + ["val"] * N_VAL)


class Net(nn.Module):
    def __init__(self, n_features: int, n_classes: int, hidden: int) -> None:
        super().__init__()
        self.gru = Recurrent("gru", n_features, hidden)
        self.head = nn.Linear(hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.gru(x)[1])
        return logits


class Gru(paceline.ModelConfig):
    hidden: int = 64

    def build(self, spec: DataSpec) -> torch.nn.Module:
        return Net(spec.n_features, spec.n_classes, self.hidden)


recipe = paceline.Recipe(
    name="waves",
    data={"waves": Waves},
    models={"gru": Gru},
    defaults={
        "data.split.rule": "value",
        "data.split.values.val": ["val"],
        "data.scale": "none",
        "training.num_epochs": 50,
        "training.batch_size": 64,
        "training.schedule.name": "none",
        "training.early_stopping.enabled": False,
        "device": "cpu",
    },
)
