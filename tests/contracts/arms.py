"""One member in each engine, behind one face: alone, and as the second of two in a cohort.

Shapes: K members, B samples, T steps, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paceline.data.loader import ArrayPass
from paceline.data.rows import RowPass
from paceline.models.dropout import Dropout
from paceline.train.config import TrainingConfig
from paceline.train.engine_cohort import CohortEngine
from paceline.train.engine_eager import EagerEngine
from paceline.train.learner import seeded_model
from paceline.types import Member
from tests.contracts.tiny import CPU, MEMBER

NEIGHBOUR = Member(seed=7)

Build = Callable[..., nn.Module]
Columns = Mapping[str, Tensor]


class Alone:
    """The eager engine with its member, over some columns. A group is given by the sizes of its batches."""

    place = 0  # of the member in its engine

    def __init__(self, build: Build, task: Any, columns: Columns, member: Member = MEMBER, **training: Any) -> None:
        self.columns = dict(columns)
        config, passes = TrainingConfig(**training), {"val": ArrayPass(columns, 4)}
        self.engine = EagerEngine(seeded_model(build, member), task, config, member, passes, CPU)

    def step(self, sizes: Sequence[int], rate: float, step: int) -> None:
        """Make one step over the first samples, in batches of these sizes."""
        n = sum(sizes)
        parts = {name: torch.split(column[:n], list(sizes)) for name, column in self.columns.items()}
        group = [{name: part[i].unsqueeze(0) for name, part in parts.items()} for i in range(len(sizes))]
        self.engine.step(group, [rate], step)

    def weights(self, which: str = "current") -> dict[str, Tensor]:
        found = self.engine.weights(self.place, which)["model"]
        return {name: value.clone() for name, value in found.items()}

    def loss(self) -> float:
        return self.engine.flush([self.place])[0]["loss"]


class InCohort(Alone):
    """The cohort engine with the member as the second of two."""

    place = 1
    compiled = False

    def __init__(self, build: Build, task: Any, columns: Columns, member: Member = MEMBER, **training: Any) -> None:
        self.columns = dict(columns)
        config, members, n = TrainingConfig(**training), [NEIGHBOUR, member], len(columns["x"])
        self.engine = CohortEngine(
            [seeded_model(build, m) for m in members], [task, task], [config, config], members, dict(columns),
            {"val": RowPass([np.arange(n)] * 2, 4, CPU)}, CPU, compiled=self.compiled, uncompiled=_refuse,
        )  # fmt: skip

    def step(self, sizes: Sequence[int], rate: float, step: int) -> None:
        rows = torch.arange(sum(sizes)).expand(2, -1)
        self.engine.step([{"rows": part} for part in torch.split(rows, list(sizes), dim=1)], [rate, rate], step)


def _refuse(step: int, reason: str) -> None:
    raise AssertionError(f"step {step} could not be compiled: {reason}")


ARMS = {"eager": Alone, "cohort": InCohort}


def classifier(dtype: torch.dtype = torch.float32, dropout: float = 0.0) -> Build:
    return lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), Dropout(dropout), nn.Linear(6, 3)).to(dtype)


def normalised(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), Dropout(0.5), nn.Linear(6, 3)).to(dtype)
