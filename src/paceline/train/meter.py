"""Sums that wait on the device until an interval ends: carry sums and weights, divide last, synchronise once.

K members: every sum is a tensor of shape (K,).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Meter:
    """Training loss of K members since the last flush, per term."""

    def __init__(self, members: int, device: torch.device) -> None:
        self._members, self._device = members, device
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float | Tensor] = {}

    def add(self, sums: Mapping[str, Tensor], weights: Mapping[str, float | Tensor]) -> None:
        """Add one micro-batch: detached sums of shape () or (K,), weights alike or plain numbers."""
        for term, value in sums.items():
            if term not in self._sums:
                self._sums[term] = torch.zeros(self._members, dtype=self._dtype, device=self._device)
                self._weights[term] = 0.0
            self._sums[term].add_(value)
            self._weights[term] = self._weights[term] + weights[term]

    def flush(self, member: int) -> dict[str, float]:
        """Return a member's mean losses (`loss`; `loss_<term>` where there are several) and start its next interval."""
        means = {}
        for term, total in self._sums.items():
            weight = self._weights[term]
            share = weight[member] if isinstance(weight, Tensor) and weight.ndim else weight
            means[term] = float(total[member] / share)
        self._clear(member)
        values = {"loss": sum(means.values())}
        return values | ({f"loss_{term}": mean for term, mean in means.items()} if len(means) > 1 else {})

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self._sums), "weights": dict(self._weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums = {term: value.to(self._device) for term, value in state["sums"].items()}
        self._weights = {
            term: value.to(self._device) if isinstance(value, Tensor) else value
            for term, value in state["weights"].items()
        }

    def _clear(self, member: int) -> None:
        if self._members == 1:
            self._sums, self._weights = {}, {}
            return
        for term, total in self._sums.items():
            total[member] = 0.0
            weight = self._weights[term]
            if not isinstance(weight, Tensor) or not weight.ndim:
                weight = torch.full_like(total, float(weight))
            weight[member] = 0.0
            self._weights[term] = weight
