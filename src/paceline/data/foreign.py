"""A user's own `DataLoader` as a feed.

Its weaker promise: order and augmentation are repeatable only as far as they draw from torch's default generator, from
the loader's own generator, or from workers that start anew each epoch; a resume in mid-epoch reads and drops the
batches before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from paceline import noise
from paceline.errors import DataError

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from paceline.types import Batch, Member


def as_batch(item: Any, device: torch.device) -> Batch:
    """Turn what a loader yields into a batch: a mapping of tensors, or (x, y), or x alone."""
    if isinstance(item, Mapping):
        named = dict(item)
    elif isinstance(item, Tensor):
        named = {"x": item}
    elif isinstance(item, (tuple, list)) and 1 <= len(item) <= 3:
        named = dict(zip(("x", "y", "mask"), item, strict=False))
    else:
        raise DataError(
            "a DataLoader yields something that is not a batch",
            got=type(item).__name__,
            hint="(x, y), (x, y, mask), or a dict of tensors",
        )
    wrong = [name for name, column in named.items() if not isinstance(column, Tensor)]
    if wrong:
        raise DataError(
            "a DataLoader's batch holds something other than tensors",
            where=str(wrong[0]),
            got=type(named[wrong[0]]).__name__,
            hint="turn strings into indices in the dataset",
        )
    return {name: column.to(device, non_blocking=True) for name, column in named.items()}


class ForeignFeed:
    """Training batches from a `DataLoader`, with a leading member axis of 1."""

    def __init__(self, loader: DataLoader[Any], member: Member, device: torch.device, accumulation: int = 1) -> None:
        self._loader, self._member, self._device = loader, member, device
        self._accumulation = accumulation
        self._batches = _length(loader)
        self._steps = -(-self._batches // accumulation)
        self._position: tuple[int, int] | None = None  # (epoch, next batch)
        self._iterator: Iterator[Any] = iter(())

    @property
    def steps_per_epoch(self) -> tuple[int, ...]:
        return (self._steps,)

    def group(self, step: int) -> list[Batch]:
        epoch, index = divmod(step, self._steps)
        first = index * self._accumulation
        if self._position != (epoch, first):
            self._restart(epoch, first)
        last = min(first + self._accumulation, self._batches)
        items = [self._next(epoch, batch) for batch in range(first, last)]
        self._position = (epoch, last)
        return [{name: c.unsqueeze(0) for name, c in as_batch(item, self._device).items()} for item in items]

    def _restart(self, epoch: int, first: int) -> None:
        generator = getattr(self._loader, "generator", None)
        if generator is not None:
            generator.manual_seed(self._key(epoch))
        torch.default_generator.manual_seed(self._key(epoch))  # seeds the workers
        self._iterator = iter(self._loader)
        for batch in range(first):
            self._next(epoch, batch)

    def _next(self, epoch: int, batch: int) -> Any:
        """Fetch one batch; what it draws from torch's generator is its own, whatever the model drew before."""
        torch.default_generator.manual_seed(noise.key(self._key(epoch), batch))
        item = next(self._iterator, None)
        if item is None:
            raise DataError("a DataLoader gave fewer batches than its length", got=f"{batch} of {self._batches}")
        return item

    def _key(self, epoch: int) -> int:
        return noise.key(noise.stream(self._member.seed, self._member.fold, "order"), epoch)


class ForeignPass:
    """One pass over a `DataLoader` for evaluation."""

    def __init__(self, loader: DataLoader[Any], device: torch.device) -> None:
        self._loader, self._device = loader, device
        _length(loader)

    def __iter__(self) -> Iterator[Batch]:
        for item in self._loader:
            yield as_batch(item, self._device)


def _length(loader: DataLoader[Any]) -> int:
    try:
        length = len(loader)
    except TypeError:
        raise DataError("a DataLoader of unknown length cannot be resumed or scheduled", got=type(loader).__name__,
                        hint="a map-style dataset, or a loader with __len__") from None  # fmt: skip
    if length == 0:
        raise DataError("a DataLoader is empty", got=0)
    return length
