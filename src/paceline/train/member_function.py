"""What is mapped over a cohort: the loss, its gradient, the metrics and the predictions of one member.

K members, B samples, S sites of noise. Parameters and buffers are stacked (K, ...); a batch is row numbers of a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from paceline.data.buckets import cut, stepwise
from paceline.models.keyed import noise_sites
from paceline.optim.stacked import Stacked
from paceline.train.augment import SITE, Augment
from paceline.train.replay import Replay

if TYPE_CHECKING:
    from paceline.types import Batch, Task


class MemberFunction:
    """A module, a task and the table of samples, as functions of stacked parameters and row numbers.

    replayed: passes without gradients are recorded once and run again, see `Replay`.
    """

    def __init__(
        self,
        module: nn.Module,
        task: Task,
        table: Mapping[str, Tensor],
        autocast: AbstractContextManager[Any],
        augment: Augment | None = None,
        *,
        replayed: bool = False,
    ) -> None:
        self._replay = Replay() if replayed else None
        self.module, self._task, self._table, self._autocast = module, task, dict(table), autocast
        self._augment = augment
        self._stepwise = stepwise(table) if "mask" in table else []
        self._modules = [path for path, _ in noise_sites(module)]
        self.sites = self._modules + [SITE] * (augment is not None)

    def terms(self) -> list[str]:
        """The names of the loss terms, from the data alone."""
        first = next(iter(self._table.values()))
        return list(self._task.weights(self._batch(torch.zeros(1, dtype=torch.int64, device=first.device))))

    def plain_weights(self, rows: Tensor) -> dict[str, float] | None:
        """Return the weights of rows (B,) where they are plain numbers, such as the size of the batch, else None."""
        found = self._task.weights(self._batch(rows))
        numbers = {term: float(weight) for term, weight in found.items() if not isinstance(weight, Tensor)}
        return numbers if len(numbers) == len(found) else None

    def gradients(
        self,
        parameters: Stacked,
        buffers: Stacked,
        rows: Tensor,
        mask: Tensor | None,
        keys: Tensor,
        totals: Mapping[str, Any],
        steps: int | None = None,
    ) -> tuple[Stacked, dict[str, Tensor]]:
        """Return the gradients of one micro-batch of every member, and its loss sums (K,) per term.

        Buffers are updated in place. keys: (S, K). totals: the weights to divide by, numbers or (K,). steps: where
        sequences are cut, None for their whole length.
        """
        plain = {t: total for t, total in totals.items() if not isinstance(total, Tensor)}

        def loss(parameters: Stacked, buffers: Stacked, rows: Tensor, mask: Any, keys: Tensor, own: Any) -> Any:
            own_keys = {f"{path}.key": keys[i] for i, path in enumerate(self._modules)}
            batch = self._batch(rows, mask, steps)
            if self._augment is not None:
                batch = self._augment(batch, keys[-1])
            sums = dict(self._task.loss_sums(self._call(parameters, buffers | own_keys, batch), batch))
            return sum(value * _inverse(plain.get(t, own.get(t)), value) for t, value in sums.items()), sums

        tensors = {t: total for t, total in totals.items() if t not in plain}
        dims = (0, 0, 0, None if mask is None else 0, 1, 0)
        mapped = vmap(grad_and_value(loss, has_aux=True), in_dims=dims)
        gradients, (_, sums) = mapped(parameters, buffers, rows, mask, keys, tensors)
        return gradients, sums

    def weigh(self, rows: Tensor, mask: Tensor | None, steps: int | None = None) -> dict[str, Tensor]:
        """Return the weight of each term (K,) in one micro-batch, from the data alone."""

        def own(rows: Tensor, mask: Tensor | None) -> Any:
            weights = self._task.weights(self._batch(rows, mask, steps))
            return {term: torch.as_tensor(weight, dtype=torch.float64) for term, weight in weights.items()}

        found: dict[str, Tensor] = vmap(own, in_dims=(0, None if mask is None else 0))(rows, mask)
        return found

    def _batch(self, rows: Tensor, mask: Tensor | None = None, steps: int | None = None) -> Batch:
        table = self._table if steps is None else cut(self._table, self._stepwise, steps)
        batch = {name: column[rows] for name, column in table.items()}
        if mask is None:
            return batch
        if "mask" in batch:
            batch["mask"] = batch["mask"] & mask.view(-1, *[1] * (batch["mask"].ndim - 1))
        return batch | {"sample_mask": mask}

    def _call(self, parameters: Stacked, buffers: Stacked, batch: Batch) -> Any:
        bound = cast(nn.Module, _Bound(self.module, parameters | buffers))
        return self._task.forward(bound, batch)

    def look(self, weights: tuple[Stacked, Stacked], batch: Batch) -> tuple[Any, Any, Any]:
        """Loss sums, weights and metric states of one batch, each with a leading member axis."""

        steps = _steps(batch)

        def look(parameters: Stacked, buffers: Stacked, rows: Tensor, mask: Tensor | None = None) -> Any:
            inputs = self._batch(rows, mask, steps)
            outputs = self._call(parameters, buffers, inputs)
            over = {t: torch.as_tensor(w, dtype=torch.float64) for t, w in self._task.weights(inputs).items()}
            return dict(self._task.loss_sums(outputs, inputs)), over, dict(self._task.metric_sums(outputs, inputs))

        found: tuple[Any, Any, Any] = self._map(look, weights, batch)
        return found

    def predict(self, weights: tuple[Stacked, Stacked], batch: Batch) -> dict[str, Tensor]:
        """Return the predictions of every member, (K, B, ...)."""

        steps = _steps(batch)

        def own(parameters: Stacked, buffers: Stacked, rows: Tensor, mask: Tensor | None = None) -> Any:
            inputs = self._batch(rows, mask, steps)
            return dict(self._task.predict(self._call(parameters, buffers, inputs)))

        found: dict[str, Tensor] = self._map(own, weights, batch)
        return found

    def _map(self, function: Any, weights: tuple[Stacked, Stacked], batch: Batch) -> Any:
        """Map a function of one member over weights (parameters and buffers) and rows, in evaluation mode."""
        mask = batch.get("sample_mask")
        dims = (0, 0, 0 if batch["rows"].ndim == 2 else None, *[0] * (mask is not None))
        args = (*weights, batch["rows"], *[mask] * (mask is not None))

        def mapped(*args: Any) -> Any:
            self.module.eval()
            try:
                with self._autocast:
                    return vmap(function, in_dims=dims)(*args)
            finally:
                self.module.train()

        members = len(next(iter(weights[0].values())))
        shape = (function.__qualname__, members, batch["rows"].shape, mask is None, _steps(batch))
        with torch.no_grad():
            return mapped(*args) if self._replay is None else self._replay(shape, mapped, *args)


class _Bound:
    """A module that is called with given parameters: what a task's `forward` sees of a member."""

    def __init__(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        self._module, self._tensors = module, dict(tensors)

    def __call__(self, *args: Any) -> Any:
        return functional_call(self._module, self._tensors, args)


def _steps(batch: Batch) -> int | None:
    """Return where a batch's sequences are cut; the number is on the host."""
    return int(batch["steps"]) if "steps" in batch else None


def _inverse(total: Any, like: Tensor) -> Any:
    """Return 1 / W, 0 for an empty batch."""
    if isinstance(total, Tensor):
        return torch.where(total > 0, 1 / total, 0.0).to(like.dtype)
    return 1 / total if total else 0.0
