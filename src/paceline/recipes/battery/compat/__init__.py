"""The names of the group's guide over paceline's core: the same calls, one loop. See docs/battery.md.

    from paceline.recipes.battery.compat import MLPModel, Trainer, temperature_split

    train, val = temperature_split(samples, train_temps=[10, 40], val_temps=[25])
    history = Trainer(MLPModel(train[0].feature_dim), {"epochs": 50}).fit(train, val)

Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "BaseCallback": "callbacks",
    "BaseLoss": "registry",
    "DEFAULTS": "config",
    "DualTracker": "tracker",
    "EarlyStopping": "callbacks",
    "HuberLoss": "losses",
    "LGBMModel": "lgbm",
    "LRScheduler": "callbacks",
    "LSTMModel": "models",
    "LossRegistry": "registry",
    "MAELoss": "losses",
    "MLPModel": "models",
    "MSELoss": "losses",
    "ModelCheckpoint": "callbacks",
    "NeuralODEModel": "models",
    "OPTIONS": "config",
    "PercentageLoss": "losses",
    "PhysicsInformedLoss": "losses",
    "Progress": "callbacks",
    "Sample": "samples",
    "Trainer": "trainer",
    "compute_metrics": "metrics",
    "evaluate_by_group": "metrics",
    "leave_one_cell_out": "splits",
    "load_samples": "loading",
    "loco_cv_splits": "splits",
    "print_metrics": "metrics",
    "random_split": "splits",
    "scale_features": "loading",
    "stratified_temperature_split": "splits",
    "temperature_split": "splits",
    "temporal_split": "splits",
    "write_example_cells": "loading",
}

__all__ = [
    "DEFAULTS",
    "OPTIONS",
    "BaseCallback",
    "BaseLoss",
    "DualTracker",
    "EarlyStopping",
    "HuberLoss",
    "LGBMModel",
    "LRScheduler",
    "LSTMModel",
    "LossRegistry",
    "MAELoss",
    "MLPModel",
    "MSELoss",
    "ModelCheckpoint",
    "NeuralODEModel",
    "PercentageLoss",
    "PhysicsInformedLoss",
    "Progress",
    "Sample",
    "Trainer",
    "compute_metrics",
    "evaluate_by_group",
    "leave_one_cell_out",
    "load_samples",
    "loco_cv_splits",
    "print_metrics",
    "random_split",
    "scale_features",
    "stratified_temperature_split",
    "temperature_split",
    "temporal_split",
    "write_example_cells",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(f"{__name__}.{_HOMES[name]}"), name))


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from paceline.recipes.battery.compat.callbacks import (
        BaseCallback,
        EarlyStopping,
        LRScheduler,
        ModelCheckpoint,
        Progress,
    )
    from paceline.recipes.battery.compat.config import DEFAULTS, OPTIONS
    from paceline.recipes.battery.compat.lgbm import LGBMModel
    from paceline.recipes.battery.compat.loading import load_samples, scale_features, write_example_cells
    from paceline.recipes.battery.compat.losses import (
        HuberLoss,
        MAELoss,
        MSELoss,
        PercentageLoss,
        PhysicsInformedLoss,
    )
    from paceline.recipes.battery.compat.metrics import compute_metrics, evaluate_by_group, print_metrics
    from paceline.recipes.battery.compat.models import LSTMModel, MLPModel, NeuralODEModel
    from paceline.recipes.battery.compat.registry import BaseLoss, LossRegistry
    from paceline.recipes.battery.compat.samples import Sample
    from paceline.recipes.battery.compat.splits import (
        leave_one_cell_out,
        loco_cv_splits,
        random_split,
        stratified_temperature_split,
        temperature_split,
        temporal_split,
    )
    from paceline.recipes.battery.compat.tracker import DualTracker
    from paceline.recipes.battery.compat.trainer import Trainer
