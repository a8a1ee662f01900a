"""What a member trains and is evaluated on: feeds and passes over data in memory, or over a user's own loaders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from paceline.data.config import DataConfig
from paceline.data.dataset import Dataset
from paceline.data.foreign import ForeignFeed, ForeignPass
from paceline.data.loader import ArrayFeed, ArrayPass, Feed, take
from paceline.data.scale import Scaler
from paceline.data.split import Split
from paceline.train.config import TrainingConfig
from paceline.types import DataSpec, Member

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from paceline.types import Batch

Passes = dict[str, Iterable["Batch"]]


class Inputs(Protocol):
    """The data of one member."""

    @property
    def spec(self) -> DataSpec: ...

    def feed(self, member: Member, training: TrainingConfig, device: torch.device) -> Feed: ...

    def passes(self, training: TrainingConfig, device: torch.device) -> Passes:
        """The parts to evaluate on: `val`, and `test` where it may be opened."""
        ...


@dataclass(frozen=True, kw_only=True)
class InMemory:
    """Parts of one data set, scaled with statistics of the training part; moved to the device whole."""

    dataset: Dataset
    split: Split
    scaler: Scaler | None
    open_test: bool
    pin: bool = False  # copy to CUDA through pinned memory

    @property
    def spec(self) -> DataSpec:
        return self.dataset.spec(self.split.train)

    def feed(self, member: Member, training: TrainingConfig, device: torch.device) -> ArrayFeed:
        columns = take(self.columns(), self.split.train, device, pin=self.pin)
        return ArrayFeed(columns, member, training.batch_size, training.gradient_accumulation_steps)

    def passes(self, training: TrainingConfig, device: torch.device) -> Passes:
        return {name: self.part(name, training, device) for name in self.parts}

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are evaluated."""
        return ("val", "test") if self.open_test and len(self.split.test) else ("val",)

    def part(self, name: str, training: TrainingConfig, device: torch.device) -> ArrayPass:
        """One pass over `train`, `val` or `test`, opened or not."""
        rows = getattr(self.split, name)
        return ArrayPass(take(self.columns(), rows, device, pin=self.pin), training.evaluate.batch_size)

    def columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """All samples, scaled."""
        columns = dict(self.dataset.columns)
        if self.scaler is not None:
            columns["x"] = self.scaler.apply(columns["x"], columns.get("mask"))
        return columns


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A user's own `DataLoader`s."""

    train: DataLoader[Any]
    val: DataLoader[Any]
    test: DataLoader[Any] | None
    spec: DataSpec

    def feed(self, member: Member, training: TrainingConfig, device: torch.device) -> ForeignFeed:
        return ForeignFeed(self.train, member, device, training.gradient_accumulation_steps)

    def passes(self, training: TrainingConfig, device: torch.device) -> Passes:
        loaders = {"val": self.val} | ({"test": self.test} if self.test is not None else {})
        return {name: ForeignPass(loader, device) for name, loader in loaders.items()}


def split_inputs(dataset: Dataset, split: Split, config: DataConfig) -> InMemory:
    """Return the inputs for one split, the scaler fitted on its training part."""
    scaler = None
    if config.scale == "standard":
        scaler = Scaler.fit(dataset.columns["x"], dataset.columns.get("mask"), split.train)
    pin = config.loader.pin_memory is True
    return InMemory(dataset=dataset, split=split, scaler=scaler, open_test=config.split.open_test, pin=pin)
