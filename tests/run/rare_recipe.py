"""A `--use` file with a rare class, and a model that leans towards the other one: there is something to decide."""

from __future__ import annotations

import numpy as np
import torch

import paceline


class Rare(paceline.DataConfig):
    """Two clouds, 80 % and 20 %."""

    samples: int = 400

    def load(self):
        rng = np.random.default_rng(5)
        y = (rng.random(self.samples) < 0.2).astype(int)
        x = rng.normal(size=(self.samples, 4)) + 1.2 * y[:, None]
        return paceline.dataset(x=x.astype(np.float32), y=y, classes=["common", "rare"])


class Linear(paceline.ModelConfig):
    """Linear logits with a fixed head start of the frequent class."""

    def build(self, spec):
        return Leaning(spec.n_features, spec.n_classes)


class Leaning(torch.nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = torch.nn.Linear(n_features, n_classes, bias=False)

    def forward(self, x):
        return 0.5 * self.linear(x) + x.new_tensor([4.0, 0.0])


recipe = paceline.Recipe(
    name="rare",
    data={"rare": Rare},
    models={"linear": Linear},
    defaults={
        "training.num_epochs": 4,
        "training.batch_size": 32,
        "training.learning_rate": 0.03,
        "training.engine": "eager",
        "training.selection.metric": "val_f1_macro",
        "data.split.val_fraction": 0.4,
        "data.split.test_fraction": 0.3,
        "numerics.threads": 1,
    },
)
