"""What all tasks share: which columns of a batch a model is called with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paceline.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from paceline.types import Batch


def call(model: nn.Module, batch: Batch, inputs: Sequence[str]) -> Any:
    """Return model(batch[inputs[0]], batch[inputs[1]], ...).

    The first input must be there. Of the others, one that is absent is passed as None, or not at all where nothing
    follows it.
    """
    if inputs[0] not in batch:
        raise ModelError("the batch lacks the model's input", where=inputs[0], got=sorted(batch))
    columns: list[Tensor | None] = [batch.get(name) for name in inputs]
    while columns[-1] is None:
        columns.pop()
    return model(*columns)
