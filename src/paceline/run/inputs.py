"""What a member trains and is evaluated on: feeds and passes over data in memory, or over a user's own loaders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from paceline.data.buckets import Ints, trailing_lengths
from paceline.data.config import DataConfig
from paceline.data.dataset import Dataset
from paceline.data.foreign import ForeignFeed, ForeignPass
from paceline.data.loader import ArrayFeed, ArrayPass, Feed, take
from paceline.data.oversample import oversampled, repeats
from paceline.data.prepare import Preparation
from paceline.data.split import Split
from paceline.errors import ConfigError
from paceline.train.augment import indices
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

    def feed(
        self, member: Member, training: TrainingConfig, device: torch.device, *, batches: str = "whole"
    ) -> Feed: ...

    def passes(self, training: TrainingConfig, device: torch.device, *, batches: str = "whole") -> Passes:
        """The parts to evaluate on: `val`, and `test` where it may be opened."""
        ...


@dataclass(frozen=True, kw_only=True)
class InMemory:
    """Parts of one data set, prepared with statistics of the training part; moved to the device whole."""

    dataset: Dataset
    split: Split
    open_test: bool
    preparation: Preparation | None = None  # None: the columns are taken as they are
    pin: bool = False  # copy to CUDA through pinned memory
    ready: np.ndarray[Any, Any] | None = None  # `x` of all samples, prepared, where that was done before

    @property
    def spec(self) -> DataSpec:
        spec = self.dataset.spec(self.split.train)
        return spec if self.preparation is None else self.preparation.spec(spec)

    def trained(self, training: TrainingConfig) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The samples of an epoch: the training part, those of some classes more than once where asked.

        Raises ConfigError for classes that the data does not have.
        """
        rows, config = self.split.train, training.oversample
        if config.factor == 1:
            return rows
        spec = self.dataset.spec(rows)
        if not spec.classes:
            raise ConfigError("oversampling needs class labels", where="training.oversample",
                              got="numeric targets" if "y" in self.dataset.columns else "no labels")  # fmt: skip
        chosen = indices(config.classes, spec.classes, "class", "training.oversample.classes")
        times = repeats(spec.class_counts, config.factor, chosen)
        return oversampled(rows, self.dataset.columns["y"][rows], times)

    def feed(
        self, member: Member, training: TrainingConfig, device: torch.device, *, batches: str = "whole"
    ) -> ArrayFeed:
        rows = self.trained(training)
        columns = take(self.columns(), rows, device, pin=self.pin)
        lengths = None if batches == "whole" else self.lengths(rows)
        return ArrayFeed(columns, member, training.batch_size, training.gradient_accumulation_steps, lengths,
                         by_length=batches == "by_length")  # fmt: skip

    def passes(self, training: TrainingConfig, device: torch.device, *, batches: str = "whole") -> Passes:
        return {name: self.part(name, training, device, batches=batches) for name in self.parts}

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are evaluated."""
        return ("val", "test") if self.open_test and len(self.split.test) else ("val",)

    def part(self, name: str, training: TrainingConfig, device: torch.device, *, batches: str = "whole") -> ArrayPass:
        """One pass over `train`, `val` or `test`, opened or not."""
        rows = getattr(self.split, name)
        columns = take(self.columns(), rows, device, pin=self.pin)
        return ArrayPass(columns, training.evaluate.batch_size, None if batches == "whole" else self.lengths(rows))

    def lengths(self, rows: Ints | None = None) -> Ints | None:
        """Valid steps of some samples, or all; None where there is no mask, or padding stands before valid steps."""
        mask = self.dataset.columns.get("mask")
        return None if mask is None else trailing_lengths(mask if rows is None else mask[rows])

    def columns(self, rows: np.ndarray[Any, Any] | None = None) -> dict[str, np.ndarray[Any, Any]]:
        """Some samples, or all, prepared."""
        chosen = {**self.dataset.columns} if self.ready is None else {**self.dataset.columns, "x": self.ready}
        columns = chosen if rows is None else {name: column[rows] for name, column in chosen.items()}
        if self.ready is None and self.preparation is not None:
            columns["x"] = self.preparation.apply(columns["x"], columns.get("mask"))
        return columns


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A user's own `DataLoader`s."""

    train: DataLoader[Any]
    val: DataLoader[Any]
    test: DataLoader[Any] | None
    spec: DataSpec

    def feed(
        self, member: Member, training: TrainingConfig, device: torch.device, *, batches: str = "whole"
    ) -> ForeignFeed:
        return ForeignFeed(self.train, member, device, training.gradient_accumulation_steps)

    def passes(self, training: TrainingConfig, device: torch.device, *, batches: str = "whole") -> Passes:
        loaders = {"val": self.val} | ({"test": self.test} if self.test is not None else {})
        return {name: ForeignPass(loader, device) for name, loader in loaders.items()}


Ready = tuple[Preparation | None, np.ndarray[Any, Any]]  # the preparation of a split, and the prepared `x`


def split_inputs(dataset: Dataset, split: Split, config: DataConfig, ready: Ready | None = None) -> InMemory:
    """Return the inputs for one split, the preparation fitted on its training part unless that was done before."""
    preparation, x = ready or (None, None)
    if ready is None and "x" in dataset.columns and dataset.columns["x"].ndim > 1:
        preparation = Preparation.fit(dataset, split.train, config)
    pin, open_test = config.loader.pin_memory is True, config.split.open_test
    return InMemory(dataset=dataset, split=split, open_test=open_test, preparation=preparation, pin=pin, ready=x)
