"""Micro-batches that fit into memory: halved, down to one sample, where a step runs out of it.

The gradient is that of the whole batch (a term's sum / its weight over the accumulation group), so that the effective
batch stays. Only what looks at a batch as such changes: statistics of batch normalisation, and the noise of dropout and
augmentation, which is drawn per micro-batch.

Shapes: B samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from paceline.errors import TrainingError

if TYPE_CHECKING:
    from paceline.types import Batch

IN_A_COHORT = "a new run with training.memory_gb=<less> (fewer members at once), or training.engine=eager"
IN_AN_EVALUATION = "a new run with a smaller training.evaluate.batch_size"
_SIGNS = ("out of memory", "allocate memory", "not enough memory")  # in what torch raises, by device


class DeviceMemoryError(TrainingError):
    """A step of which not even one sample fits into the device's memory. Nothing of it was made."""

    def __init__(self, step: int, reason: str) -> None:
        self.step = step
        super().__init__("there is not enough memory for a single sample", where=f"step {step}", got=reason,
                         hint="a smaller model, or shorter samples")  # fmt: skip


class MicroBatches:
    """How many samples a micro-batch may have, by step.

    changes: (step, samples), ascending: what was found before, so that a resumed training makes every step as it was
    made. halved: called with step, samples and reason where they are found to be too many.
    """

    def __init__(
        self,
        changes: Sequence[tuple[int, int]] = (),
        halved: Callable[[int, int, str], None] = lambda step, samples, reason: None,
    ) -> None:
        self._changes, self._halved = list(changes), halved

    def pieces(self, batches: list[Batch], step: int) -> list[Batch]:
        """Return the batches (B, ...) of a group, those with too many samples cut into views."""
        if not self._changes:
            return batches
        most = next((samples for at, samples in reversed(self._changes) if at <= step), None)
        return batches if most is None else [piece for batch in batches for piece in _cut(batch, most)]

    def halve(self, pieces: Sequence[Batch], step: int, reason: str) -> None:
        """Halve the largest of the pieces from this step on. Raises DeviceMemoryError where it is one sample."""
        largest = max(_size(piece) for piece in pieces)
        if largest == 1:
            raise DeviceMemoryError(step, reason)
        self._changes.append((step, largest // 2))
        self._halved(step, largest // 2, reason)


class Statistics:
    """The buffers of a model as they were before a step: a forward pass changes those of normalisation.

    Buffers that no checkpoint holds (keys of noise) are set before every pass and are left out.
    """

    def __init__(self, model: nn.Module) -> None:
        kept = model.state_dict(keep_vars=True)
        self._live: list[Tensor] = [buffer for name, buffer in model.named_buffers() if name in kept]
        self._before = [buffer.clone() for buffer in self._live]

    def remember(self) -> None:
        """Take the buffers as they are now; called in every step."""
        if self._live:
            with torch.no_grad():
                torch._foreach_copy_(self._before, self._live)

    def restore(self) -> None:
        """Bring them back."""
        if self._live:
            with torch.no_grad():
                torch._foreach_copy_(self._live, self._before)


def out_of_memory(error: Exception) -> str | None:
    """Return the reason in one line where an error says that memory ran out, else None."""
    text = str(error).strip()
    found = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in text.lower() for sign in _SIGNS)
    return (text.splitlines()[0] if text else type(error).__name__) if found else None


@contextmanager
def enough_memory(where: str, hint: str) -> Iterator[None]:
    """Raise TrainingError where memory runs out inside, in what cannot be made in smaller pieces."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = out_of_memory(error)
        if reason is None:
            raise
        raise TrainingError("there is not enough memory", where=where, got=reason, hint=hint) from error


def release(device: torch.device) -> None:
    """Give the device's cached memory back: large blocks that no smaller batch fits into tightly."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _cut(batch: Batch, most: int) -> list[Batch]:
    if _size(batch) <= most:
        return [batch]
    split = {name: torch.split(column, most) for name, column in batch.items()}
    return [dict(zip(split, leaves, strict=True)) for leaves in zip(*split.values(), strict=True)]


def _size(batch: Batch) -> int:
    return len(next(iter(batch.values())))
