"""The section that stands for a model. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from paceline.config.section import Section
from paceline.types import DataSpec

if TYPE_CHECKING:
    from torch import nn


class ModelConfig(Section, ABC):
    """The widths and rates of one kind of model; a concrete class narrows `name` to a Literal, its registry name."""

    name: str

    @abstractmethod
    def build(self, spec: DataSpec) -> nn.Module:
        """Return a new model for data of this shape, its weights drawn from torch's default generator."""
