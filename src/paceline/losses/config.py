"""The sections that stand for a loss. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, NonNegativeFloat

from paceline.config.section import Section
from paceline.errors import ConfigError
from paceline.types import DataSpec, Loss


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


def doubtful(config: LossConfig) -> str:
    """Return what is probably not meant by these settings, as one line; empty where nothing is."""
    if isinstance(config, FocalConfig) and config.class_weights != "none" and config.gamma > 0:
        return (
            "loss=focal and loss.class_weights=balanced both raise the part of rare classes, and add up: "
            "one of them is usually enough (loss.class_weights=none, or loss=cross_entropy)"
        )
    return ""
