"""The sections that stand for a task. They import no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from paceline.config import Section

if TYPE_CHECKING:
    from paceline.types import DataSpec, Loss, Task


class TaskConfig(Section, ABC):
    """What is learned from the data; `name` is the recipe's."""

    name: str

    @abstractmethod
    def build(self, spec: DataSpec, loss: Loss) -> Task:
        """Return the task for data of this shape, with the chosen loss."""


class ClassificationConfig(TaskConfig):
    """One class per sample. `inputs` are the columns that the model's forward takes, in order."""

    inputs: tuple[str, ...] = ("x",)

    def build(self, spec: DataSpec, loss: Loss) -> Task:
        from paceline.errors import DataError
        from paceline.tasks import Classification

        if not spec.classes:
            raise DataError("classification needs class labels", where="data", got="numeric targets",
                            hint="integer or text labels in y, or a regression task")  # fmt: skip
        return Classification(loss=loss, inputs=self.inputs, n_classes=spec.n_classes)


class RegressionConfig(TaskConfig):
    """Numbers per sample. `inputs` as for classification."""

    inputs: tuple[str, ...] = ("x",)

    def build(self, spec: DataSpec, loss: Loss) -> Task:
        from paceline.tasks import Regression

        return Regression(loss=loss, inputs=self.inputs)
