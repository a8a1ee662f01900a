"""The sections of a run whose parts came as Python objects: they name what was given, and build nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from paceline.data.dataset import Dataset
from paceline.errors import ConfigError
from paceline.losses import LossConfig
from paceline.models.config import ModelConfig
from paceline.run.recipe import GIVEN
from paceline.tasks.config import TaskConfig

if TYPE_CHECKING:
    from torch import nn

    from paceline.run.start import Overrides
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


def with_given(overrides: Overrides, data: Dataset, key: str) -> Overrides:
    """Add the choice of data that came in Python. Raises ConfigError where other data is chosen too."""
    if not isinstance(data, Dataset):
        raise ConfigError("the data is not a data set", where="train(data=...)", got=type(data).__name__,
                          hint="paceline.dataset(x=..., y=...)")  # fmt: skip
    if isinstance(overrides, Mapping):
        chosen = overrides.get("data") if isinstance(overrides.get("data"), str) else None
    else:
        chosen = next((text.partition("=")[2] for text in overrides if text.startswith("data=")), None)
    if chosen not in (None, GIVEN):
        raise ConfigError("data is given twice", where="data", got=chosen, hint="data=... in Python, or its name")
    return {**overrides, key: GIVEN} if isinstance(overrides, Mapping) else [*overrides, f"{key}={GIVEN}"]
