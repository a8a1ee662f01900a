"""Sequences padded in several ways, and models that take padding in several ways.

Shapes: N samples, T steps, F features.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor, nn

from paceline.data.config import DataConfig
from paceline.data.dataset import Dataset
from paceline.models.config import ModelConfig
from paceline.run.recipe import Recipe
from paceline.types import DataSpec

N, T, F = 24, 12, 3


def sequences(*, shortest: int = 2, shift: int = 0) -> dict[str, np.ndarray]:
    """Return columns x (N, T, F), y, mask; `shift` moves everything to later steps, round the end."""
    rng = np.random.default_rng(0)
    mask = np.roll(np.arange(T) < rng.integers(shortest, T + 1, N)[:, None], shift, axis=1)
    x = rng.normal(size=(N, T, F)).astype(np.float32)
    return {"x": np.where(mask[:, :, None], x, 0), "y": np.arange(N) % 2, "mask": mask}


class Padded(DataConfig):
    name: Literal["padded"] = "padded"
    shortest: int = 2
    shift: int = 0

    def load(self) -> Dataset:
        return Dataset(columns=sequences(shortest=self.shortest, shift=self.shift), classes=("a", "b"))


class Model(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.norm = kind, nn.BatchNorm1d(F)
        self.head = nn.Linear(F * T if kind == "flat" else F, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.kind == "flat":
            return self.head(x.flatten(1))
        if self.kind == "plain_mean":
            return self.head(x.mean(1))
        if self.kind == "batch_norm":
            x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.head((x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True))


class Net(ModelConfig):
    name: Literal["net"] = "net"
    kind: Literal["masked_mean", "plain_mean", "batch_norm", "flat"] = "masked_mean"

    def build(self, spec: DataSpec) -> nn.Module:
        return Model(self.kind)


recipe = Recipe(
    name="padding",
    data={"padded": Padded},
    models={"net": Net},
    defaults={"task.inputs": ["x", "mask"], "training.num_epochs": 1, "numerics.threads": 1},
)
