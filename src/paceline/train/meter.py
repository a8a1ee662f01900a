"""Sums that wait on the device until an interval ends: carry sums and weights, divide last, synchronise once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from paceline.types import GRAD_NORM


class Meter:
    """Training loss of one member since the last flush, per term, and the norm of its gradients where it is told."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float | Tensor] = {}
        self._norms = self._zero()  # their sum
        self._steps: float | Tensor = 0.0  # over so many steps

    def add(self, sums: Mapping[str, Tensor], weights: Mapping[str, float | Tensor]) -> None:
        """Add one micro-batch: detached sums of shape (), weights alike or plain numbers."""
        for term, value in sums.items():
            if term not in self._sums:
                self._sums[term] = self._zero()
                self._weights[term] = 0.0
            self._sums[term].add_(value)
            self._weights[term] = self._weights[term] + weights[term]

    def add_norm(self, norm: Tensor, made: Tensor | None = None) -> None:
        """Add the norm () of one step's gradient, unless the step is not `made` (bool ())."""
        if made is None:
            self._norms.add_(norm)
            self._steps = self._steps + 1.0
        else:
            self._norms.add_(torch.where(made, norm, 0))
            self._steps = self._steps + made.to(self._norms.dtype)

    def flush(self) -> dict[str, float]:
        """Return the mean losses (`loss`; `loss_<term>` where there are several) and start the next interval.

        With `grad_norm`, the mean over the steps whose norm was told, if there are any.
        """
        means = {term: float(total / self._weights[term]) for term, total in self._sums.items()}
        told = isinstance(self._steps, Tensor) or self._steps > 0
        norm = {GRAD_NORM: float(self._norms / self._steps)} if told else {}
        self._sums, self._weights = {}, {}
        self._norms, self._steps = self._zero(), 0.0
        return mean_losses(means) | norm

    def state_dict(self) -> dict[str, Any]:
        norms = {"sum": self._norms, "steps": self._steps}
        return {"sums": dict(self._sums), "weights": dict(self._weights), "norms": norms}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums = {term: value.to(self._device) for term, value in state["sums"].items()}
        self._weights = {term: self._placed(value) for term, value in state["weights"].items()}
        self._norms, self._steps = (self._placed(state["norms"][name]) for name in ("sum", "steps"))

    def _placed(self, value: Any) -> Any:
        return value.to(self._device) if isinstance(value, Tensor) else value

    def _zero(self) -> Tensor:
        return torch.zeros(1, dtype=torch.float32 if self._device.type == "mps" else torch.float64, device=self._device)


def mean_losses(means: Mapping[str, float]) -> dict[str, float]:
    """Return the loss, and its terms where there are several."""
    terms = {f"loss_{term}": mean for term, mean in means.items()} if len(means) > 1 else {}
    return {"loss": sum(means.values())} | terms
