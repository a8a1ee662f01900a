"""The sections of a run whose parts came as Python objects: they name what was given, and build nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from paceline.errors import ConfigError
from paceline.losses import LossConfig
from paceline.models.config import ModelConfig
from paceline.tasks.config import TaskConfig

if TYPE_CHECKING:
    from torch import nn

    from paceline.types import DataSpec, Loss, Task


class GivenTask(TaskConfig):
    """A task that came as a Python object."""

    name: Literal["given"] = "given"

    def build(self, spec: DataSpec, loss: Loss) -> Task:
        raise _only_in_python()


class GivenModel(ModelConfig):
    """A model that came as a Python object; its name is its class."""

    def build(self, spec: DataSpec) -> nn.Module:
        raise _only_in_python()


class GivenLoss(LossConfig):
    """The loss of a given task."""

    name: Literal["given"] = "given"

    def build(self, spec: DataSpec) -> Loss:
        raise _only_in_python()


def _only_in_python() -> ConfigError:
    return ConfigError("this run was made by Trainer in Python", hint="Trainer(...).resume(run, train, val)")
