"""The sections that stand for a model and its windows. They import no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from paceline.config.section import Section
from paceline.errors import ConfigError
from paceline.types import DataSpec, Estimator

if TYPE_CHECKING:
    from torch import nn


class ModelConfig(Section, ABC):
    """The widths and rates of one kind of model; a concrete class narrows `name` to a Literal, its registry name."""

    name: str

    @abstractmethod
    def build(self, spec: DataSpec) -> nn.Module | Estimator:
        """Return a new model for data of this shape, its weights drawn from torch's default generator."""


class EstimatorConfig(ModelConfig, ABC):
    """A model that is no network: see `paceline.types.Estimator`. Data, splits, record and report are the same.

    Of `training`, only `selection`, `early_stopping.enabled` and `evaluate.every_epochs` (in rounds) concern it.
    """

    @abstractmethod
    def build(self, spec: DataSpec) -> Estimator:
        """Return the estimator for data of this shape."""


class WindowsConfig(Section):
    """Sliding windows over the steps of a sequence; off while `size` is null.

    Training sees one random window of `size` steps per sample and step, evaluation all windows that start `stride`
    steps apart (null: three fifths of the size, rounded up, so 15 for 25), the last one moved back to the end. Their
    logits become one row by `aggregate`.
    """

    size: int | None = Field(default=None, ge=1)
    stride: int | None = Field(default=None, ge=1)
    aggregate: Literal["mean", "max", "logsumexp"] = "mean"

    @model_validator(mode="after")
    def _without_gaps(self) -> WindowsConfig:
        if self.stride is not None and self.size is None:
            raise ValueError("a stride needs a size")
        if self.stride is not None and self.size is not None and self.stride > self.size:
            raise ValueError(f"a stride of {self.stride} leaves out steps between windows of {self.size}")
        return self

    def wrap(self, model: nn.Module, steps: int) -> nn.Module:
        """Return the model, called with windows of sequences of at most `steps` steps where these are on."""
        if self.size is None:
            return model
        if self.size > steps:
            raise ConfigError("a window is longer than the longest sequence", where="model.windows.size",
                              got=self.size, hint=f"at most {steps}")  # fmt: skip
        from paceline.models.windows import Windowed

        stride = -(-3 * self.size // 5) if self.stride is None else self.stride
        return Windowed(model, size=self.size, stride=stride, aggregate=self.aggregate)
