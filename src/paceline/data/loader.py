"""Batches from memory: tensor indexing only, order from (seed, fold, epoch), one gather per block of batches.

K members, B samples in a batch. Every batch of a feed has a leading member axis: (K, B, ...).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from paceline import noise
from paceline.data.buckets import Ints, bucketed, cut, longest, stepwise

if TYPE_CHECKING:
    from paceline.types import Batch, Member

BLOCK_BYTES = 64 * 2**20  # a shuffled copy is made of at most this much at once; its batches are views


class Feed(Protocol):
    """Training batches, addressable by position, so that a resumed run asks for the same ones again."""

    @property
    def steps_per_epoch(self) -> tuple[int, ...]:
        """Optimizer steps in an epoch of each member: accumulation groups, the last one perhaps smaller."""
        ...

    def group(self, step: int) -> list[Batch]:
        """Return the accumulation group of an optimizer step (counted from 0); leaves are (K, B, ...)."""
        ...


def sample_order(member: Member, epoch: int, size: int) -> np.ndarray[Any, Any]:
    """Return a permutation of `size` samples that depends on (seed, fold, epoch) alone."""
    key = noise.key(noise.stream(member.seed, member.fold, "order"), epoch)
    return np.random.Generator(np.random.Philox(key)).permutation(size)


class ArrayFeed:
    """Columns in memory (on the device already) for one member.

    Shuffled anew each epoch, no sample dropped. A block of whole batches is gathered at once; each batch is a view.

    lengths: of every sample, where batches are to end with their longest; `by_length`: and hold samples of similar
    length.
    """

    def __init__(
        self,
        columns: Mapping[str, Tensor],
        member: Member,
        batch_size: int,
        accumulation: int = 1,
        lengths: Ints | None = None,
        *,
        by_length: bool = False,
    ) -> None:
        self._columns, self._member = dict(columns), member
        self._lengths, self._by_length = lengths, by_length
        self._stepwise, self._longest = [] if lengths is None else stepwise(columns), list[int]()
        self._batch_size, self._accumulation = batch_size, accumulation
        first = next(iter(self._columns.values()))
        self._size, self._device = len(first), first.device
        row_bytes = sum(c.element_size() * c[:1].numel() for c in self._columns.values())
        self._block = max(1, BLOCK_BYTES // max(1, row_bytes * batch_size))  # batches
        self._at: tuple[int, int] | None = None  # (epoch, block) that `_views` holds
        self._views: list[Batch] = []
        self._order = torch.empty(0, dtype=torch.int64)

        self._batches = -(-self._size // batch_size)
        self._steps = -(-self._batches // accumulation)

    @property
    def steps_per_epoch(self) -> tuple[int, ...]:
        return (self._steps,)

    def group(self, step: int) -> list[Batch]:
        epoch, index = divmod(step, self._steps)
        if self._accumulation == 1:
            return [self._batch(epoch, index)]
        first = index * self._accumulation
        return [self._batch(epoch, b) for b in range(first, min(first + self._accumulation, self._batches))]

    def _batch(self, epoch: int, index: int) -> Batch:
        block, within = divmod(index, self._block)
        if self._at != (epoch, block):
            self._gather(epoch, block)
        return self._views[within]

    def _gather(self, epoch: int, block: int) -> None:
        if self._at is None or self._at[0] != epoch:
            order = sample_order(self._member, epoch, self._size)
            if self._lengths is not None:
                if self._by_length:
                    order = bucketed(order, epoch, self._batch_size, self._lengths)
                self._longest = longest(self._lengths[order], self._batch_size)
            self._order = torch.from_numpy(order).to(self._device)
        rows = self._order[block * self._block * self._batch_size : (block + 1) * self._block * self._batch_size]
        split = {
            name: torch.split(column.index_select(0, rows).unsqueeze(0), self._batch_size, dim=1)
            for name, column in self._columns.items()
        }
        views = [dict(zip(split, leaves, strict=True)) for leaves in zip(*split.values(), strict=True)]
        ends = self._longest[block * self._block :]
        self._views = views if self._lengths is None else [
            cut(view, self._stepwise, end, axis=2) for view, end in zip(views, ends, strict=False)
        ]  # fmt: skip
        self._at = (epoch, block)


class ArrayPass:
    """One pass over a part, in order, in large batches that are views; leaves are (B, ...).

    lengths: of every sample, where batches are to end with their longest. Several batches are then sorted by length,
    and the column `sample_index` has each sample's place in the part.
    """

    def __init__(self, columns: Mapping[str, Tensor], batch_size: int, lengths: Ints | None = None) -> None:
        self._columns, self._batch_size = dict(columns), batch_size
        self._stepwise, self._longest = list[str](), list[int]()
        if lengths is None:
            return
        self._stepwise = stepwise(columns)
        if len(lengths) > batch_size:
            order = np.argsort(lengths, kind="stable")
            index, lengths = torch.from_numpy(order).to(columns["mask"].device), lengths[order]
            by_length = {name: column.index_select(0, index) for name, column in columns.items()}
            self._columns = by_length | {"sample_index": index}
        self._longest = longest(lengths, batch_size)

    def __iter__(self) -> Iterator[Batch]:
        split = {name: torch.split(column, self._batch_size) for name, column in self._columns.items()}
        for i, leaves in enumerate(zip(*split.values(), strict=True)):
            batch = dict(zip(split, leaves, strict=True))
            yield cut(batch, self._stepwise, self._longest[i]) if self._longest else batch


def take(
    columns: Mapping[str, np.ndarray[Any, Any]],
    rows: Sequence[int] | np.ndarray[Any, Any],
    device: torch.device,
    *,
    pin: bool = False,
) -> dict[str, Tensor]:
    """Return some rows of NumPy columns as tensors on the device; `pin` copies to CUDA through pinned memory."""
    index = np.asarray(rows, dtype=np.int64)
    return {name: upload(np.ascontiguousarray(column[index]), device, pin=pin) for name, column in columns.items()}


def upload(column: np.ndarray[Any, Any], device: torch.device, *, pin: bool) -> Tensor:
    """Return a writable NumPy array as a tensor on the device."""
    tensor = torch.from_numpy(column)
    if pin and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
