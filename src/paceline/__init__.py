"""paceline trains small and medium PyTorch models, alone or many together.

    run = paceline.train("pain", {"model": "gru", "members.seeds": 5})
    run = paceline.Trainer(model, {"training.num_epochs": 20}).fit((x, y), (x_val, y_val))

Names are imported when they are first used, so that `import paceline` is quick.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "ClassificationConfig": "paceline.tasks.config",
    "Control": "paceline.types",
    "DataConfig": "paceline.data.config",
    "DataSpec": "paceline.types",
    "Dataset": "paceline.data.dataset",
    "LossConfig": "paceline.losses.config",
    "ModelConfig": "paceline.models.config",
    "PacelineError": "paceline.errors",
    "PerSample": "paceline.losses.per_sample",
    "Recipe": "paceline.run.recipe",
    "Record": "paceline.types",
    "RegressionConfig": "paceline.tasks.config",
    "Run": "paceline.run.folder",
    "Section": "paceline.config",
    "TaskConfig": "paceline.tasks.config",
    "TrackerConfig": "paceline.track.config",
    "Trainer": "paceline.api.trainer",
    "dataset": "paceline.data.dataset",
    "evaluate": "paceline.api.using",
    "lr_find": "paceline.api.rates",
    "open_run": "paceline.run.folder",
    "predict": "paceline.api.using",
    "prove": "paceline.api.proving",
    "resume": "paceline.api.runs",
    "train": "paceline.api.runs",
}

__all__ = [
    "ClassificationConfig",
    "Control",
    "DataConfig",
    "DataSpec",
    "Dataset",
    "LossConfig",
    "ModelConfig",
    "PacelineError",
    "PerSample",
    "Recipe",
    "Record",
    "RegressionConfig",
    "Run",
    "Section",
    "TaskConfig",
    "TrackerConfig",
    "Trainer",
    "__version__",
    "dataset",
    "evaluate",
    "lr_find",
    "open_run",
    "predict",
    "prove",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'paceline' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    return globals().setdefault(name, value)


class _CallablePackage(ModuleType):
    """`paceline.train` is a package as well as a function: once imported, the package answers calls.

    It also shows the function's signature and documentation: to `inspect`, `help` and editors.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @property
    def _function(self) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(_HOMES[name]), name)

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        return signature(self._function)

    @property
    def __doc__(self) -> str:  # type: ignore[override]  # of the function, not of this class
        from inspect import getdoc

        return f"{self._function.__name__}{self.__signature__}\n\n{getdoc(self._function)}"


class _Face(ModuleType):
    """Makes a sub-package callable when the import system binds it over a function of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face


def _show_hidden(record: logging.LogRecord) -> bool:
    """Write a message's control characters as escapes, before any handler sees it: names in it may be anyone's."""
    from paceline.errors import visible

    record.msg, record.args = visible(record.getMessage()), None
    return True


logging.getLogger(__name__).addFilter(_show_hidden)


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from paceline.api.proving import prove
    from paceline.api.rates import lr_find
    from paceline.api.runs import resume, train
    from paceline.api.trainer import Trainer
    from paceline.api.using import evaluate, predict
    from paceline.config import Section
    from paceline.data.config import DataConfig
    from paceline.data.dataset import Dataset, dataset
    from paceline.errors import PacelineError
    from paceline.losses.config import LossConfig
    from paceline.losses.per_sample import PerSample
    from paceline.models.config import ModelConfig
    from paceline.run.folder import Run, open_run
    from paceline.run.recipe import Recipe
    from paceline.tasks.config import ClassificationConfig, RegressionConfig, TaskConfig
    from paceline.track.config import TrackerConfig
    from paceline.types import Control, DataSpec, Record
