"""The sections that stand for a task. They import no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from paceline.config import Section

if TYPE_CHECKING:
    from paceline.types import DataSpec, Loss, Task


class TaskConfig(Section, ABC):
    """What is learned from the data; `name` is the recipe's."""

    name: str

    @abstractmethod
    def build(self, spec: DataSpec, loss: Loss) -> Task:
        """Return the task for data of this shape, with the chosen loss."""


class DecisionConfig(Section):
    """What is fitted after training, on the validation predictions of each member's selected state.

    temperature: `fitted` divides the logits by one number, chosen by log-loss. thresholds: `tuned` weighs the classes'
    probabilities (two classes: a threshold), chosen by the selection metric where that is accuracy, macro F1 or macro
    recall, else by macro F1. See `paceline.evaluate.decisions`.
    """

    temperature: Literal["none", "fitted"] = "none"
    thresholds: Literal["none", "tuned"] = "none"

    @property
    def wanted(self) -> bool:
        return self.temperature != "none" or self.thresholds != "none"


class ClassificationConfig(TaskConfig):
    """One class per sample. `inputs` are the columns that the model's forward takes, in order."""

    inputs: tuple[str, ...] = ("x",)
    decision: DecisionConfig = DecisionConfig()

    def build(self, spec: DataSpec, loss: Loss) -> Task:
        from paceline.errors import ConfigError, DataError
        from paceline.losses.physics import PhysicsInformed
        from paceline.losses.regression import Huber, Mae, Mape, Mse, Quantile
        from paceline.tasks import Classification

        if not spec.classes:
            raise DataError("classification needs class labels", where="data", got="numeric targets",
                            hint="integer or text labels in y, or a regression task")  # fmt: skip
        if isinstance(loss, Mse | Mae | Huber | Mape | Quantile | PhysicsInformed):
            raise ConfigError("the loss is for numbers, and the targets are classes", where="loss",
                              got=type(loss).__name__, hint="loss=cross_entropy or focal")  # fmt: skip
        return Classification(loss=loss, inputs=self.inputs, decision=self.decision, n_classes=spec.n_classes)


class RegressionConfig(TaskConfig):
    """Numbers per sample. `inputs` as for classification."""

    inputs: tuple[str, ...] = ("x",)

    @model_validator(mode="before")
    @classmethod
    def _no_decision(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "decision" in given:
            raise ValueError("temperature and thresholds (task.decision) are for classification, this is a regression")
        return given

    def build(self, spec: DataSpec, loss: Loss) -> Task:
        from paceline.errors import ConfigError
        from paceline.losses.classification import CrossEntropy, Focal
        from paceline.losses.config import levels_of
        from paceline.tasks import Regression

        if isinstance(loss, CrossEntropy | Focal):
            raise ConfigError("the loss is for classes, and the targets are numbers", where="loss",
                              got=type(loss).__name__, hint="loss=mse, mae, huber, quantile")  # fmt: skip
        return Regression(loss=loss, inputs=self.inputs, levels=levels_of(loss))
