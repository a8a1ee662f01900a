"""Small real parts for the tests of the core: a run of `blobs`, a cohort in training, a task with two loss terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import paceline
from paceline.checkpoint.store import Store, read_state
from paceline.data.loader import ArrayFeed, ArrayPass
from paceline.run.folder import Run
from paceline.train.cohort import Trainee
from paceline.train.config import TrainingConfig
from paceline.train.control import LoopControl
from paceline.train.engine_eager import EagerEngine
from paceline.train.learner import EngineAndFeed, GradientLearner, seeded_model
from paceline.train.saving import Saver
from paceline.types import Member, Record

USE = Path(__file__).with_name("blobs.py")
CPU = torch.device("cpu")
MEMBER = Member(seed=42)


def train(runs: Path, *overrides: str, name: str = "run", **options: Any) -> Run:
    """Train the recipe `blobs` in `runs/<name>`."""
    return paceline.train("blobs", list(overrides), use=[USE], runs=runs, name=name, **options)


def result(run: Run) -> dict[str, Any]:
    """Return what equal trainings have equal: weights and optimizer of every member, histories, the log."""
    found: dict[str, Any] = {"log": (run.path / "log.jsonl").read_text()}
    for member in run.members:
        found[member] = member_result(run, member)
    return found


def member_result(run: Run, member: str) -> dict[str, Any]:
    """Return the part of `result` that is one member's, without its config."""
    folder = run.member_folder(member)
    files = {name: read_state(folder / name) for name in ("best.pt", "latest.pt")}
    for content in files.values():
        content.pop("config")
    return {**files, "history": run.history(member)}


@dataclass(frozen=True)
class TwoTerms:
    """Squared error per sample, and smoothness over the valid pairs of neighbouring outputs: two denominators.

    Batches: x (B, T, F), y (B, T), mask (B, T). The model returns (B, T, 1).
    """

    coefficient: float = 0.1

    def weights(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"error": len(batch["x"]), "smoothness": _pairs(batch).sum()}

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        return model(batch["x"])[..., 0]

    def loss_sums(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mask = batch["mask"]
        error = torch.where(mask, (outputs - batch["y"]).square(), 0).sum(1) / mask.sum(1)
        rough = torch.where(_pairs(batch), outputs.diff(dim=1).square(), 0)
        return {"error": error.sum(), "smoothness": self.coefficient * rough.sum()}

    def metric_sums(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        return {}

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"prediction": outputs}


def _pairs(batch: Mapping[str, Tensor]) -> Tensor:
    return batch["mask"][:, 1:] & batch["mask"][:, :-1]


class Cohort:
    """One member in training, with all its parts real: feed, engine, loop, store."""

    def __init__(
        self,
        folder: Path,
        columns: Mapping[str, Tensor],
        build_model: Any,
        task: Any,
        *,
        member: Member = MEMBER,
        test: Mapping[str, Tensor] | None = None,
        beside: Mapping[str, Any] | None = None,
        **training: Any,
    ) -> None:
        defaults = {"num_epochs": 3, "batch_size": 8, "save": {"every_seconds": None}}
        self.training = TrainingConfig(**{**defaults, **training})
        self.control, self.store = LoopControl(), Store(folder)
        self.saver = Saver(self.store, self.training.save, beside or {}, {})
        feed = ArrayFeed(columns, member, self.training.batch_size, self.training.gradient_accumulation_steps)
        passes = {"val": ArrayPass(columns, 16)} | ({} if test is None else {"test": ArrayPass(test, 16)})
        engine = EagerEngine(seeded_model(build_model, member), task, self.training, member, passes, CPU)
        data, trainees = EngineAndFeed(engine, feed), [Trainee(member=member, training=self.training)]
        learner = GradientLearner(saver=self.saver, control=self.control)
        self.restored = learner.prepare(data, trainees)
        self.state = learner.cohort
        self.records = learner.fit(data, trainees)

    def run(self) -> list[Record]:
        """Train to the end."""
        return list(self.records)

    def weights(self, which: str = "current") -> dict[str, Tensor]:
        """Return copies of the weights."""
        found = self.state.engine.weights(0, which)["model"]
        return {name: value.clone() for name, value in found.items()}


def points(n: int = 20, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Tensor]:
    """Return columns `x` (n, 4) and `y` (n,) of three classes."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return {"x": torch.randn(n, 4, generator=generator, dtype=dtype) + torch.eye(3, 4, dtype=dtype)[y], "y": y}


def splits(records: Sequence[Record]) -> list[str]:
    """Return the splits of some records, in order."""
    return [record.split for record in records]
