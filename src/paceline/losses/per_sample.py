"""A loss from a function that gives one number per sample. Shapes: B batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from paceline.errors import ModelError

if TYPE_CHECKING:
    from paceline.types import Batch


def batch_size(batch: Batch) -> int:
    """Return the number of samples, padded ones included."""
    return next(iter(batch.values())).shape[0]


def count(batch: Batch) -> float | Tensor:
    """Return the number of samples: a plain number, unless `sample_mask` (B,) excludes some."""
    mask = batch.get("sample_mask")
    return batch_size(batch) if mask is None else mask.sum()


def masked_sum(values_B: Tensor, batch: Batch) -> Tensor:
    """Return the sum over the samples that `sample_mask` does not exclude, ()."""
    mask = batch.get("sample_mask")
    return values_B.sum() if mask is None else torch.where(mask, values_B, 0).sum()


@dataclass(frozen=True)
class PerSample:
    """The mean over samples of `function(outputs, batch) -> (B,)`; `term` is its name in logs.

    This is all that a loss of one's own needs:

        def pinball(outputs, batch, q=0.9):
            error = batch["y"] - outputs
            return torch.maximum(q * error, (q - 1) * error)

        loss = PerSample(pinball)

    Raises ModelError if the function does not return one value per sample.
    """

    function: Callable[[Any, Batch], Tensor]
    term: str = "loss"

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {self.term: count(batch)}

    def sums(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:
        values: object = self.function(outputs, batch)
        if not isinstance(values, Tensor) or values.shape != (batch_size(batch),):
            code = getattr(self.function, "__code__", None)
            raise ModelError(
                "a per-sample loss must return one value per sample",
                where=f"{Path(code.co_filename).name}:{code.co_firstlineno}" if code else self.term,
                got=tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__,
                hint=f"a tensor of shape ({batch_size(batch)},)",
            )  # fmt: skip
        return {self.term: masked_sum(values, batch)}
