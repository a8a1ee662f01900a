"""What is known of ageing as terms of a loss: predictions over time rarely rise, and bend little.

Shapes: B batch, T time; predictions (B, T) or (B, T, D) for D targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paceline.losses.positions import count_positions, has_steps, match_shape, valid_positions
from paceline.losses.regression import squared_sum

if TYPE_CHECKING:
    from paceline.types import Batch


NONE = 1e-15  # the weight of no pair or triple: lost in any other, and alone it gives 0 / NONE = 0 where 0 / 0 is NaN


def increases(prediction: Tensor) -> Tensor:
    """Return how much each step is above the one before it, 0 where it is not, (B, T-1, ...)."""
    return (prediction[:, 1:] - prediction[:, :-1]).relu()


def second_differences(prediction: Tensor, t_BT: Tensor | None = None, valid_BT: Tensor | None = None) -> Tensor:
    """Return p[i] - 2 p[i+1] + p[i+2], (B, T-2, ...).

    With times it is the second derivative of the parabola through the three points, times the square of the sample's
    mean spacing over its valid steps: for even spacing the same. What it is where a step is not valid means
    nothing, but is finite.
    """
    rise = prediction[:, 1:] - prediction[:, :-1]
    if t_BT is None:
        return rise[:, 1:] - rise[:, :-1]
    gap = t_BT[:, 1:] - t_BT[:, :-1]
    if valid_BT is not None:
        gap = torch.where(valid_BT[:, 1:] & valid_BT[:, :-1], gap, 0)
    known = gap != 0
    mean = gap.sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
    gap = torch.where(known, gap, 1) / torch.where(mean != 0, mean, 1)
    gap = gap.reshape(*gap.shape, *[1] * (prediction.ndim - 2)).to(prediction.dtype)
    slope = rise / gap
    return 2 * (slope[:, 1:] - slope[:, :-1]) / (gap[:, 1:] + gap[:, :-1])


def neighbours(batch: Batch, n: int) -> Tensor | None:
    """Return where n steps in a row count, bool (B, T-n+1); None where all do."""
    valid = valid_positions(batch)
    if valid is None:
        return None
    steps = max(valid.shape[1] - n + 1, 0)
    found = valid[:, :steps]
    for i in range(1, n):
        found = found & valid[:, i : i + steps]
    return found


@dataclass(frozen=True, kw_only=True)
class PhysicsInformed:
    """Mean squared error + monotonicity_weight * mean rise + smoothness_weight * mean squared second difference.

    The means are over the pairs and triples of valid steps in a row; times come from column `t` (B, T) where there is
    one. Without a step axis, or without such a pair or triple, a term is 0. Both weights are >= 0; a term whose weight
    is 0 is left out.
    """

    monotonicity_weight: float = 0.0
    smoothness_weight: float = 0.0

    def weights(self, batch: Batch) -> Mapping[str, float | Tensor]:
        steps = self._steps(batch)
        return {"mse": count_positions(batch)} | {term: _count(batch, n) for term, n in steps.items()}

    def sums(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        terms = {"mse": squared_sum(outputs, batch)}
        if not (wanted := self._steps(batch)):
            return terms
        prediction = match_shape(outputs, batch["y"])
        valid = valid_positions(batch)
        if valid is not None:
            prediction = torch.where(valid.reshape(*valid.shape, *[1] * (prediction.ndim - 2)), prediction, 0)
        if "monotonicity" in wanted:
            terms["monotonicity"] = self.monotonicity_weight * _sum(increases(prediction), neighbours(batch, 2))
        if "smoothness" in wanted:
            t = batch.get("t")
            bends = second_differences(prediction, t if t is not None and t.ndim == 2 else None, valid)
            terms["smoothness"] = self.smoothness_weight * _sum(bends.square(), neighbours(batch, 3))
        return terms

    def _steps(self, batch: Batch) -> dict[str, int]:
        """The terms over time that count, with the steps in a row that each looks at."""
        wanted = {"monotonicity": (self.monotonicity_weight, 2), "smoothness": (self.smoothness_weight, 3)}
        return {term: n for term, (weight, n) in wanted.items() if weight > 0 and has_steps(batch)}


def _count(batch: Batch, n: int) -> float | Tensor:
    found = neighbours(batch, n)
    if found is not None:
        return found.sum().to(torch.float32 if found.device.type == "mps" else torch.float64).clamp(min=NONE)
    samples, steps = batch["y"].shape[:2]
    return max(samples * (steps - n + 1), NONE)


def _sum(values: Tensor, valid_BT: Tensor | None) -> Tensor:
    """Return the sum over samples and steps of the mean over any further axes, ()."""
    values = values.flatten(2).mean(2) if values.ndim > 2 else values
    return values.sum() if valid_BT is None else torch.where(valid_BT, values, 0).sum()
