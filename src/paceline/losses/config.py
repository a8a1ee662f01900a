"""The sections that stand for a loss. Imports no torch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator

from paceline.config.section import Section
from paceline.errors import ConfigError
from paceline.types import DataSpec, Loss

Array = NDArray[Any]


class LossConfig(Section, ABC):
    """The settings of one kind of loss; a concrete class narrows `name` to a Literal, its key in `LOSSES`."""

    name: str

    @abstractmethod
    def build(self, spec: DataSpec) -> Loss:
        """Return the loss for data of this shape."""


class CrossEntropyConfig(LossConfig):
    """Cross-entropy of class logits.

    label_smoothing: share of the target spread evenly over all classes, 0 <= e < 1. class_weights: `balanced` weighs
    each class by its inverse frequency in the training part, scaled to a mean of 1.
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    class_weights: Literal["none", "balanced"] = "none"

    def build(self, spec: DataSpec) -> Loss:
        from paceline.losses.classification import CrossEntropy

        weights = balanced_weights(spec.class_counts) if self.class_weights == "balanced" else None
        return CrossEntropy(label_smoothing=self.label_smoothing, class_weights=weights)


class FocalConfig(LossConfig):
    """The focal loss: cross-entropy in which a sample counts less the better it is classified.

    gamma: how much less, >= 0; 0 is cross-entropy. label_smoothing and class_weights as there; the mean is over samples
    and does not divide by the weights, whose own mean is 1.
    """

    name: Literal["focal"] = "focal"
    gamma: NonNegativeFloat = 2.0
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    class_weights: Literal["none", "balanced"] = "none"

    def build(self, spec: DataSpec) -> Loss:
        from paceline.losses.classification import Focal

        weights = balanced_weights(spec.class_counts) if self.class_weights == "balanced" else None
        return Focal(gamma=self.gamma, label_smoothing=self.label_smoothing, class_weights=weights)


class MseConfig(LossConfig):
    """Mean squared error."""

    name: Literal["mse"] = "mse"

    def build(self, spec: DataSpec) -> Loss:
        from paceline.losses.regression import Mse

        return Mse()


class MaeConfig(LossConfig):
    """Mean absolute error."""

    name: Literal["mae"] = "mae"

    def build(self, spec: DataSpec) -> Loss:
        from paceline.losses.regression import Mae

        return Mae()


class HuberConfig(LossConfig):
    """Squared error below `delta`, in the unit of the targets, absolute beyond: robust to outliers."""

    name: Literal["huber"] = "huber"
    delta: PositiveFloat = 1.0

    def build(self, spec: DataSpec) -> Loss:
        from paceline.losses.regression import Huber

        return Huber(delta=self.delta)


class MapeConfig(LossConfig):
    """Mean absolute error in percent of the target.

    epsilon: a target nearer to 0 counts as that far from it. near_zero: the same as a share of the training targets'
    root mean square, so that no error counts more than 1 / near_zero times a usual one; 0: epsilon alone.
    """

    name: Literal["mape"] = "mape"
    epsilon: PositiveFloat = 1e-8
    near_zero: float = Field(default=0.01, ge=0.0, lt=1.0)

    def build(self, spec: DataSpec) -> Loss:
        from paceline.losses.regression import Mape

        return Mape(epsilon=self.epsilon, floor=self.floor(spec))

    def floor(self, spec: DataSpec) -> float:
        """Return from where on a target is large enough to be divided by."""
        return max(self.epsilon, self.near_zero * math.hypot(spec.target_mean, spec.target_std))


class PhysicsInformedConfig(LossConfig):
    """Mean squared error and two penalties on predictions over the steps of a sequence; see `losses/physics.py`."""

    name: Literal["physics_informed"] = "physics_informed"
    monotonicity_weight: NonNegativeFloat = 0.0
    smoothness_weight: NonNegativeFloat = 0.0

    def build(self, spec: DataSpec) -> Loss:
        from paceline.losses.physics import PhysicsInformed

        return PhysicsInformed(monotonicity_weight=self.monotonicity_weight, smoothness_weight=self.smoothness_weight)


class QuantileConfig(LossConfig):
    """The pinball loss, which is least for the quantiles of the target. The prediction is that nearest to the median.

    levels: in (0, 1), increasing. With several the model gives a number for each.
    """

    name: Literal["quantile"] = "quantile"
    levels: tuple[float, ...] = Field(default=(0.1, 0.5, 0.9), min_length=1)

    @field_validator("levels")
    @classmethod
    def _increasing(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < level < 1 for level in levels) or list(levels) != sorted(set(levels)):
            raise ValueError("levels must lie between 0 and 1 and increase")
        return levels

    def build(self, spec: DataSpec) -> Loss:
        from paceline.losses.regression import Quantile

        return Quantile(levels=self.levels)


def balanced_weights(class_counts: Sequence[int]) -> tuple[float, ...]:
    """Return total / count per class, scaled so that the mean over the classes present is 1.

    The mean of 1 keeps the scale of the loss, and so of clipping, where nothing divides by the weights. A class without
    samples gets 1. Raises ConfigError if there are no counts.
    """
    if not any(class_counts):
        raise ConfigError(
            "balanced class weights need the class counts of the training part",
            where="loss.class_weights", got="balanced", hint="loss.class_weights=none",
        )  # fmt: skip
    inverse = [1.0 / count for count in class_counts if count]
    mean = sum(inverse) / len(inverse)
    return tuple(1.0 / count / mean if count else 1.0 for count in class_counts)


def levels_of(loss: object) -> tuple[float, ...]:
    """Return the quantiles that a loss asks for: its `levels`, () for one without."""
    return tuple(getattr(loss, "levels", ()))


def asked_by(loss: object, spec: DataSpec) -> DataSpec:
    """Return the spec with the numbers per target that the loss asks of the model."""
    return replace(spec, outputs=max(1, len(levels_of(loss))))


def doubtful(config: LossConfig, spec: DataSpec | None = None, targets: Array | None = None) -> str:
    """Return what is probably not meant by these settings, as one line; empty where nothing is.

    targets: the valid ones of the training part, if they are numbers.
    """
    if spec is not None and targets is not None:
        return _doubtful_for(config, spec, targets)
    if isinstance(config, FocalConfig) and config.class_weights != "none" and config.gamma > 0:
        return (
            "loss=focal and loss.class_weights=balanced both raise the part of rare classes, and add up: "
            "one of them is usually enough (loss.class_weights=none, or loss=cross_entropy)"
        )
    return ""


def _doubtful_for(config: LossConfig, spec: DataSpec, targets: Array) -> str:
    if isinstance(config, MapeConfig):
        near = int((np.abs(targets) < config.floor(spec)).sum())
        zeros = f", {int((targets == 0).sum())} of them 0" if (targets == 0).any() else ""
        if near:
            return (
                f"loss=mape: {near} of {targets.size} training targets are nearer to 0 than {config.floor(spec):.3g}"
                f"{zeros}; their errors are in percent of that (loss=mae and loss=huber divide by nothing)"
            )
    if isinstance(config, PhysicsInformedConfig) and config.monotonicity_weight + config.smoothness_weight > 0:
        x, y = spec.shapes.get("x", ()), spec.shapes.get("y", ())
        if len(x) != 2 or y[:1] != x[:1]:
            return (
                "loss=physics_informed: the targets have no steps in time, so that its penalties are 0 and it is mse "
                "(one target per step of a sequence has them)"
            )
    return ""
