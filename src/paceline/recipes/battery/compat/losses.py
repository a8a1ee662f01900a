"""The five losses of the guide as modules, over the core's functions of the error.

Shapes: B batch, T time, D targets; predictions and targets are (B,), (B, T), (B, T, D) or (B, D) alike.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from paceline.config.validate import validate
from paceline.losses import LOSSES
from paceline.losses.physics import increases, neighbours, second_differences
from paceline.losses.positions import match_shape
from paceline.losses.regression import huber, percentage
from paceline.recipes.battery.compat.registry import BaseLoss

if TYPE_CHECKING:
    from paceline.types import DataSpec, Loss


class CoreLoss(BaseLoss):
    """A loss that the core has, under `kind`, with the same parameters. Raises ConfigError for values it refuses."""

    kind: str
    parameter_names: tuple[str, ...] = ()

    def __init__(self, reduction: str, **parameters: float) -> None:
        super().__init__(reduction)
        for name, value in parameters.items():
            setattr(self, name, value)
        self.section()

    def section(self) -> Any:
        """Return the core's section of this loss."""
        own = {name: getattr(self, name) for name in self.parameter_names}
        return validate(LOSSES[self.kind], {"name": self.kind, **own}, "loss")

    def extra_repr(self) -> str:
        own = [f"{name}={getattr(self, name)}" for name in (*self.parameter_names, "reduction")]
        return ", ".join(own)


class Elementwise(CoreLoss):
    """A loss that is a mean over positions of a function of each error."""

    def forward(self, pred: Tensor, target: Tensor, t: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return () for `mean` and `sum`, the shape of the targets for `none`; only valid steps of a mask count."""
        values = self.values(match_shape(pred, target) - target, target)
        if mask is None:
            return self.reduce(values)
        wide = mask.bool().reshape(*mask.shape, *[1] * (values.ndim - mask.ndim)).expand_as(values)
        values = torch.where(wide, values, 0)
        return values.sum() / wide.sum() if self.reduction == "mean" else self.reduce(values)

    @abstractmethod
    def values(self, error: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each error."""


class MSELoss(Elementwise):
    """Mean squared error."""

    kind = "mse"

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def values(self, error: Tensor, target: Tensor) -> Tensor:
        return error.square()


class MAELoss(Elementwise):
    """Mean absolute error, torch's `L1Loss`."""

    kind = "mae"

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def values(self, error: Tensor, target: Tensor) -> Tensor:
        return error.abs()


class HuberLoss(Elementwise):
    """e^2 / 2 up to |e| = delta, delta (|e| - delta / 2) beyond; delta > 0, in the unit of the targets."""

    kind, parameter_names = "huber", ("delta",)
    delta: float

    def __init__(self, delta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction, delta=delta)

    def values(self, error: Tensor, target: Tensor) -> Tensor:
        return huber(error, self.delta)


class PercentageLoss(Elementwise):
    """Mean absolute error in percent of the target; targets nearer to 0 than epsilon count as that far from it.

    Called by itself, a target of zero gives a finite but huge loss. In training, targets below a hundredth of their
    root mean square count as that large (`near_zero` of the core's loss), with a warning where there are any.
    """

    kind, parameter_names = "mape", ("epsilon",)
    epsilon: float

    def __init__(self, epsilon: float = 1e-8, reduction: str = "mean") -> None:
        super().__init__(reduction, epsilon=epsilon)

    def values(self, error: Tensor, target: Tensor) -> Tensor:
        return percentage(error, target, self.epsilon)


class PhysicsInformedLoss(CoreLoss):
    """Mean squared error, a penalty on predictions that rise over time, and one on predictions that bend.

    Time is axis 1 of (B, T) and (B, T, D); (B,) and (B, 1) have none, and no penalty. The rise is the mean increase
    from one step to the next, the bend the mean squared second difference, by `t` (B, T) where steps are uneven. Steps
    that `mask` (B, T) excludes count nowhere; less than two or three steps have no penalty. Both weights are >= 0.
    """

    kind, parameter_names = "physics_informed", ("monotonicity_weight", "smoothness_weight")
    monotonicity_weight: float
    smoothness_weight: float

    def __init__(
        self, monotonicity_weight: float = 0.0, smoothness_weight: float = 0.0, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, monotonicity_weight=monotonicity_weight, smoothness_weight=smoothness_weight)

    def forward(self, pred: Tensor, target: Tensor, t: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return () for `mean` and `sum`, (B,) for `none`."""
        pred = match_shape(pred, target)
        steps = target.ndim > 1 and target.shape[1] > 1
        if mask is None or mask.shape != target.shape[:2]:
            mask = torch.ones(target.shape[: 2 if steps else 1], dtype=torch.bool, device=target.device)
        mask = mask.bool()
        terms = [(1.0, (pred - target).square(), mask)]
        if steps and self.monotonicity_weight:
            terms.append((self.monotonicity_weight, increases(pred), _together(target, mask, 2)))
        if steps and self.smoothness_weight:
            known = t if t is not None and t.ndim == 2 else None
            bends = second_differences(pred, known, mask)
            terms.append((self.smoothness_weight, bends.square(), _together(target, mask, 3)))
        return sum((weight * self._reduced(*term) for weight, *term in terms), torch.zeros((), device=pred.device))

    def _reduced(self, values: Tensor, counts: Tensor) -> Tensor:
        """Reduce one term: the mean or sum over what counts, or each sample's mean."""
        values = values.flatten(counts.ndim).mean(-1) if values.ndim > counts.ndim else values
        values = torch.where(counts, values, 0)
        if self.reduction == "none" and counts.ndim > 1:
            return values.sum(1) / counts.sum(1).clamp(min=1)
        return values.sum() / counts.sum().clamp(min=1) if self.reduction == "mean" else self.reduce(values)


def core_loss(criterion: BaseLoss, spec: DataSpec) -> Loss | None:
    """Return the core's loss for one of the five with the reduction `mean`; None for any other."""
    known: Mapping[type[BaseLoss], str] = {
        kind: kind.kind for kind in (MSELoss, PhysicsInformedLoss, HuberLoss, PercentageLoss, MAELoss)
    }
    if type(criterion) not in known or criterion.reduction != "mean":
        return None
    assert isinstance(criterion, CoreLoss)
    loss: Loss = criterion.section().build(spec)
    return loss


def _together(target: Tensor, mask: Tensor, n: int) -> Tensor:
    """Return where n steps in a row count, (B, T-n+1)."""
    found = neighbours({"y": target, "mask": mask}, n)
    assert found is not None
    return found
