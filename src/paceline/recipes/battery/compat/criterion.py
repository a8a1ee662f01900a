"""Any loss of the registry as a loss of the core, which carries sums and weights.

Shapes: B batch, T time; predictions and targets are (B,) or (B, T) alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paceline.errors import ModelError
from paceline.losses.positions import count_positions, match_shape, valid_positions
from paceline.recipes.battery.compat.losses import core_loss
from paceline.recipes.battery.compat.registry import BaseLoss

if TYPE_CHECKING:
    from paceline.types import Batch, DataSpec, Loss


def loss_of(criterion: BaseLoss, spec: DataSpec) -> Loss:
    """Return a loss that the core trains with.

    The five of the guide with the reduction `mean` become the core's own, in which every valid step counts once. Any
    other is called as it is, see `OfCriterion`. Raises ModelError for parameters that no optimizer would train.
    """
    if any(p.requires_grad for p in criterion.parameters()):
        raise ModelError("the loss has parameters, which are not trained", where="loss_config",
                         got=type(criterion).__name__, hint="a part of the model, or requires_grad=False")  # fmt: skip
    return core_loss(criterion, spec) or OfCriterion(criterion)


@dataclass(frozen=True)
class OfCriterion:
    """A loss that is called with predictions, targets and, where it takes them, `t` and `mask`.

    What it returns is the batch's loss if it is one number, else it is averaged. A loss without `mask` gets the valid
    steps alone where sequences differ in length: all of them in a row, or sample by sample where it takes `t`.
    """

    criterion: BaseLoss

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"loss": count_positions(batch)}

    def sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        n = count_positions(batch)
        return {"loss": self._value(match_shape(outputs, batch["y"]), batch) * n}

    def _value(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the batch's loss, ()."""
        y, valid, taken = batch["y"], valid_positions(batch), _taken(self.criterion)
        given: dict[str, Tensor] = {name: batch[name] for name in taken if name in batch}
        if valid is None or "mask" in given or bool(valid.all()):
            return self._one(self._called(outputs, y, given), valid)
        if not bool(valid.any()):
            return outputs[valid].sum()  # of nothing: 0, with a gradient
        if "t" not in given or valid.ndim == 1:
            return self._one(self._called(outputs[valid], y[valid], {k: v[valid] for k, v in given.items()}), None)
        rows = [row for row in range(len(y)) if bool(valid[row].any())]
        found = []
        for row in rows:
            own, target, t = (column[row][valid[row]][None] for column in (outputs, y, given["t"]))
            found.append(self._one(self._called(own, target, {"t": t}), None))
        if self.criterion.reduction == "sum":
            return torch.stack(found).sum()
        lengths = valid[rows].sum(1).to(outputs.dtype)
        return (torch.stack(found) * lengths).sum() / lengths.sum()

    def _called(self, outputs: Tensor, y: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        found: object = self.criterion(outputs, y, **given)
        if not isinstance(found, Tensor):
            raise ModelError("the loss must return a tensor", where=type(self.criterion).__name__,
                             got=type(found).__name__)  # fmt: skip
        if found.ndim and len(found) not in (len(y), 1):
            raise ModelError("the loss must return one number, or one per sample or step",
                             where=type(self.criterion).__name__, got=f"shape {tuple(found.shape)}")  # fmt: skip
        return found

    def _one(self, found: Tensor, valid: Tensor | None) -> Tensor:
        """Return one number: as it is, or the mean over what counts."""
        if found.ndim == 0:
            return found
        if valid is None or found.shape[: valid.ndim] != valid.shape:
            return found.mean()
        wide = valid.reshape(*valid.shape, *[1] * (found.ndim - valid.ndim)).expand_as(found)
        return torch.where(wide, found, 0).sum() / wide.sum()


def _taken(criterion: BaseLoss) -> frozenset[str]:
    """Return which of `t` and `mask` a loss's forward takes."""
    parameters = inspect.signature(criterion.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return frozenset(("t", "mask"))
    return frozenset(name for name in ("t", "mask") if name in parameters)
