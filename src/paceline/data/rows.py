"""Batches of K members as row numbers of one table: the engine gathers them itself, inside its compiled step.

K members, G micro-batches of an accumulation group, B samples, T steps of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from paceline.data.buckets import bucketed, longest
from paceline.data.loader import sample_order

if TYPE_CHECKING:
    from paceline.types import Batch, Member

BLOCK_STEPS = 512  # row numbers are made for at most this many steps at once
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Shuffled = tuple[Ints, Bools, Ints]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where a member's samples stand in the table."""

    member: Member
    rows: Ints


class RowFeed:
    """Row numbers (K, B) for each micro-batch, each member in its own order, fold and epoch.

    Where members differ in their number of samples, a batch is padded with row 0 and `sample_mask` (K, B) says which
    samples count; a micro-batch that a member does not have is all padding. Where they are equal, nothing is padded
    and the last batch of an epoch is smaller, as for a member alone.

    lengths: of every row of the table, where batches are to end with their longest sample; `steps` () int64, on the
    host, then is the longest of a micro-batch over all members. by_length: batches hold samples of similar length.
    """

    def __init__(
        self, members: Sequence[Rows], batch_size: int, accumulation: int, device: torch.device, *, pad: bool = False,
        lengths: Ints | None = None, by_length: bool = False,
    ) -> None:  # fmt: skip
        self._by_length = by_length
        self._members, self._batch_size, self._accumulation = tuple(members), batch_size, accumulation
        self._device, self._lengths = device, lengths
        sizes = [len(m.rows) for m in members]
        self._batches = [-(-n // batch_size) for n in sizes]
        self._steps = tuple(-(-b // accumulation) for b in self._batches)
        ragged_last = any(n % batch_size or b % accumulation for n, b in zip(sizes, self._batches, strict=True))
        self.padded = len(set(sizes)) > 1 or (pad and ragged_last)
        self._kept: list[tuple[int, Shuffled] | None] = [None] * len(sizes)  # each member's latest epoch
        self._block = (0, 0)  # the steps that the arrays below hold
        self._groups: list[list[Batch]] = []  # one per step of the block; views

    @property
    def steps_per_epoch(self) -> tuple[int, ...]:
        return self._steps

    def group(self, step: int) -> list[Batch]:
        """Return the micro-batches of an optimizer step: `rows` (K, B) int64, `sample_mask` where padded, `steps`."""
        first, last = self._block
        if not first <= step < last:
            self._fill(step)
            first = step
        return self._groups[step - first]

    def _sizes(self, step: int) -> list[int]:
        """Samples of each micro-batch of a step, the same for all members."""
        index, n = step % self._steps[0], len(self._members[0].rows)
        starts = range(index * self._accumulation, min((index + 1) * self._accumulation, self._batches[0]))
        return [min(self._batch_size, n - b * self._batch_size) for b in starts]

    @torch.no_grad()  # thousands of views: torch need not note of which tensor each one is
    def _fill(self, step: int) -> None:
        """Make the row numbers of a block of steps that begins at `step`."""
        shape = (BLOCK_STEPS, self._accumulation, len(self._members), self._batch_size)
        rows = np.empty(shape, dtype=np.int64)
        masks = np.empty(shape if self.padded else 0, dtype=bool)
        ends = np.ones(shape[:2], dtype=np.int64)
        for k in range(len(self._members)):
            done = 0
            while done < BLOCK_STEPS:
                epoch, index = divmod(step + done, self._steps[k])
                own_rows, own_mask, own_ends = self._epoch(k, epoch)
                take = min(BLOCK_STEPS - done, self._steps[k] - index)
                rows[done : done + take, :, k] = own_rows[index : index + take]
                if self.padded:
                    masks[done : done + take, :, k] = own_mask[index : index + take]
                np.maximum(ends[done : done + take], own_ends[index : index + take], out=ends[done : done + take])
                done += take
        self._groups = self._views(step, torch.from_numpy(rows).to(self._device), torch.from_numpy(masks))
        if self._lengths is not None:
            for group, by_step in zip(self._groups, torch.from_numpy(ends).unbind(0), strict=True):
                for batch, end in zip(group, by_step.unbind(0), strict=False):
                    batch["steps"] = end
        self._block = (step, step + BLOCK_STEPS)

    def _views(self, first: int, rows: Tensor, masks: Tensor) -> list[list[Batch]]:
        if self.padded:
            masks = masks.to(self._device)
            return [
                [{"rows": r, "sample_mask": m} for r, m in zip(by_step, mask, strict=True)]
                for by_step, mask in zip(rows.unbind(0), masks.unbind(0), strict=True)
            ]
        return [
            [{"rows": r[:, :size]} for r, size in zip(by_step.unbind(0), self._sizes(first + i), strict=False)]
            for i, by_step in enumerate(rows.unbind(0))
        ]

    def _epoch(self, k: int, epoch: int) -> Shuffled:
        """Return a member's epoch as (steps, G, B) rows and mask, padded with row 0, and the (steps, G) longest."""
        kept = self._kept[k]
        if kept is None or kept[0] != epoch:  # one block of steps ends and the next begins in the same epoch
            kept = self._kept[k] = (epoch, self._shuffled(k, epoch))
        return kept[1]

    def _shuffled(self, k: int, epoch: int) -> Shuffled:
        own = self._members[k]
        order = sample_order(own.member, epoch, len(own.rows))
        if self._lengths is not None and self._by_length:
            order = bucketed(order, epoch, self._batch_size, self._lengths[own.rows])
        ordered = own.rows[order]
        shape = (self._steps[k], self._accumulation, self._batch_size)
        rows, mask = np.zeros(np.prod(shape), dtype=np.int64), np.zeros(np.prod(shape), dtype=bool)
        rows[: len(ordered)], mask[: len(ordered)] = ordered, True
        ends = np.ones(self._steps[k] * self._accumulation, dtype=np.int64)
        if self._lengths is not None:
            found = longest(self._lengths[ordered], self._batch_size)
            ends[: len(found)] = found
        return rows.reshape(shape), mask.reshape(shape), ends.reshape(shape[:2])


class RowPass:
    """One pass over a part of K members, in order, in large batches.

    `rows` is (B,) where all members share the part, else (K, B), padded like a feed's where they differ in size.

    lengths: of every row of the table, where batches are to end with their longest sample (`steps`, as in a feed).
    Several batches are then sorted by length.
    """

    def __init__(
        self,
        parts: Sequence[Ints],
        batch_size: int,
        device: torch.device,
        opened: Callable[[], None] | None = None,
        lengths: Ints | None = None,
    ) -> None:
        self._opened = opened
        self.sizes = tuple(len(part) for part in parts)
        self.shared = all(np.array_equal(part, parts[0]) for part in parts)
        self._batch_size = batch_size
        size = max(self.sizes)
        self._orders: list[Ints] | None = None  # of each member's rows, where they are sorted
        if lengths is not None and size > batch_size:
            self._orders = [np.argsort(lengths[part], kind="stable") for part in parts]
            parts = [part[order] for part, order in zip(parts, self._orders, strict=True)]
        rows, mask = np.zeros((len(parts), size), dtype=np.int64), np.zeros((len(parts), size), dtype=bool)
        for k, part in enumerate(parts):
            rows[k, : len(part)], mask[k, : len(part)] = part, True
        self._ends: list[Tensor] = []
        if lengths is not None:
            found = longest(np.where(mask, lengths[rows], 1).max(axis=0), batch_size)
            self._ends = list(torch.tensor(found).unbind(0))
        self._rows = torch.from_numpy(rows[0] if self.shared else rows).to(device)
        self._mask = torch.from_numpy(mask).to(device) if len(set(self.sizes)) > 1 else None

    def batches(self) -> list[Batch]:
        """Return all batches; they are views. Calls `opened` first, where it was given."""
        if self._opened is not None:
            self._opened()
        axis = self._rows.ndim - 1
        found: list[Batch] = [{"rows": rows} for rows in torch.split(self._rows, self._batch_size, dim=axis)]
        if self._mask is not None:
            masks = torch.split(self._mask, self._batch_size, dim=1)
            found = [batch | {"sample_mask": mask} for batch, mask in zip(found, masks, strict=True)]
        if self._ends:
            found = [batch | {"steps": end} for batch, end in zip(found, self._ends, strict=True)]
        return found

    def in_order(self, member: int, values: Tensor) -> Tensor:
        """Return what the batches gave for a member, padding included, as one row per sample in the part's order."""
        own = values[: self.sizes[member]]
        if self._orders is None:
            return own
        return own[torch.from_numpy(np.argsort(self._orders[member])).to(own.device)]
