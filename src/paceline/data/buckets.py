"""Batches of samples of similar length, so that each can be cut at its longest sample.

Shapes: N samples, T steps, B samples in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paceline import noise

if TYPE_CHECKING:
    from torch import Tensor

    from paceline.types import Batch

CHUNK_BATCHES = 50  # samples are sorted by length among this many batches
WORTH_IT = 0.8  # mean length over the longest, below which `auto` cuts batches

Ints = np.ndarray[Any, np.dtype[np.int64]]


def trailing_lengths(mask_NT: np.ndarray[Any, Any]) -> Ints | None:
    """Return the number of valid steps of each sample, int64 (N,); None where padding is not all at the end."""
    lengths = mask_NT.sum(axis=1, dtype=np.int64)
    trailing = mask_NT == (np.arange(mask_NT.shape[1]) < lengths[:, None])
    return lengths if bool(trailing.all()) else None


def bucketed(order: Ints, epoch: int, batch_size: int, lengths: Ints) -> Ints:
    """Return a permutation (N,) rearranged so that whole batches hold samples of similar length.

    Samples are sorted by length within chunks of 50 batches, equal lengths staying in the order given; then the batches
    are shuffled. A smaller last batch is taken out before, at random, and stays last. The shuffling of batches depends
    on the epoch alone, so that all members of a cohort have short batches at the same step.
    """
    whole = len(order) // batch_size * batch_size
    chunk = np.arange(whole) // (CHUNK_BATCHES * batch_size)
    sorted_rows = order[np.lexsort((lengths[order[:whole]], chunk))]
    key = noise.key(noise.stream(0, None, "buckets"), epoch)
    shuffled = np.random.Generator(np.random.Philox(key)).permutation(whole // batch_size)
    return np.concatenate([sorted_rows.reshape(-1, batch_size)[shuffled].ravel(), order[whole:]])


def longest(lengths: Ints, batch_size: int) -> list[int]:
    """Return the longest of each batch of lengths in their order, at least 1."""
    starts = np.arange(0, len(lengths), batch_size)
    return [max(1, int(value)) for value in np.maximum.reduceat(lengths, starts)]


def stepwise(columns: Mapping[str, Tensor]) -> list[str]:
    """Return the columns whose axis 1 has the steps of `mask`."""
    steps = columns["mask"].shape[1]
    return [name for name, column in columns.items() if column.ndim > 1 and column.shape[1] == steps]


def cut(batch: Batch, names: Sequence[str], steps: int, axis: int = 1) -> Batch:
    """Return a batch whose columns `names` end after `steps` steps; views."""
    return batch | {name: batch[name].narrow(axis, 0, steps) for name in names}
