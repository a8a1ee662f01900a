"""A reproducible split and two loaders.

Shapes: N samples, T steps, F channels.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from paceline.data.config import SplitConfig
from paceline.data.dataset import dataset
from paceline.data.split import make_splits
from paceline.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LOG = logging.getLogger("paceline")

Array = np.ndarray[Any, Any]
Loader = DataLoader[tuple[torch.Tensor, ...]]


def create_dataloaders(
    X: ArrayLike,
    y: ArrayLike,
    valid_size: float = 0.1,
    batch_size: int = 64,
    seed: int = 42,
    num_workers: int = 4,
    pin_memory: bool = True,
) -> tuple[Loader, Loader, tuple[Array, Array, Array, Array], tuple[Array, Array]]:
    """Return `train_loader, valid_loader, (X_tr, y_tr, X_val, y_val), (tr_idx, val_idx)`.

    X: (N, T, F) or (N, F) numbers; y: (N,) class indices from 0. The split is stratified and drawn by `seed`: the
    samples are those of scikit-learn's `train_test_split(stratify=y, random_state=seed)`, the indices sorted. Batches
    are float32 inputs and int64 labels; the training order is drawn by a `torch.Generator` of the same seed, validation
    keeps the order of `X_val`, and no sample is dropped.

    num_workers: tensors in memory are fed without workers, so that any number becomes 0, with a line in the log.
    pin_memory: only with CUDA.

    Raises DataError for data that cannot be split so, naming a class that is too small, and ConfigError for a
    `valid_size` outside (0, 1).
    """
    checked = dataset(x=X, y=_labels(y), source="X, y")
    (split,) = make_splits(checked, split_config(valid_size, seed))
    inputs, labels = np.asarray(X), np.asarray(y)
    parts = (inputs[split.train], labels[split.train], inputs[split.val], labels[split.val])
    say_without_workers(num_workers)
    pin = pin_memory and torch.cuda.is_available()
    train = DataLoader(
        _tensors(*parts[:2]), batch_size=batch_size, shuffle=True, drop_last=False, pin_memory=pin,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    valid = DataLoader(_tensors(*parts[2:]), batch_size=batch_size, shuffle=False, drop_last=False, pin_memory=pin)
    return train, valid, parts, (np.array(split.train), np.array(split.val))


def say_without_workers(num_workers: int) -> None:
    """Write a line to the log where workers were asked for: data in memory is fed without."""
    if num_workers:
        LOG.info("the data is in memory: num_workers %d -> 0", num_workers)


def split_config(valid_size: float, seed: int) -> SplitConfig:
    """Return the split of `create_dataloaders` and `run_experiment`. Raises ConfigError."""
    from paceline.config.validate import validate

    return validate(SplitConfig, {"rule": "stratified", "val_fraction": valid_size, "seed": seed}, "data.split")


def _labels(y: ArrayLike) -> Array:
    labels = np.asarray(y)
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or (len(labels) and labels.min() < 0):
        raise DataError("y must be class indices from 0", where="y", got=f"{labels.dtype}, shape {labels.shape}",
                        hint="np.unique(names, return_inverse=True)")  # fmt: skip
    return labels


def _tensors(X: Array, y: Array) -> TensorDataset:
    return TensorDataset(torch.tensor(X).float(), torch.tensor(y).long())
