"""The names of the group's guide over paceline's core: the same calls, one loop. See docs/pain.md.

    from paceline.recipes.pain.compat import prepare_config, run_experiment

    best_state, history, model, run = run_experiment(prepare_config("GRU_mono_256x2", {}), X, y)

Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "FocalLoss": "losses",
    "GRID": "sweep",
    "MAX_SWEEP_RUNS": "sweep",
    "OPTIONS": "config",
    "Result": "state",
    "base_config": "config",
    "build_criterion": "losses",
    "build_model": "using",
    "create_dataloaders": "loaders",
    "fit_model": "fitting",
    "load_model": "using",
    "predict": "using",
    "prepare_config": "config",
    "run_cross_validation": "experiment",
    "run_experiment": "experiment",
    "run_sweep": "sweep",
    "set_seed": "seeding",
    "summary_table": "sweep",
    "sweep_configs": "sweep",
}

__all__ = [
    "GRID",
    "MAX_SWEEP_RUNS",
    "OPTIONS",
    "FocalLoss",
    "Result",
    "base_config",
    "build_criterion",
    "build_model",
    "create_dataloaders",
    "fit_model",
    "load_model",
    "predict",
    "prepare_config",
    "run_cross_validation",
    "run_experiment",
    "run_sweep",
    "set_seed",
    "summary_table",
    "sweep_configs",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(f"{__name__}.{_HOMES[name]}"), name))


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from paceline.recipes.pain.compat.config import OPTIONS, base_config, prepare_config
    from paceline.recipes.pain.compat.experiment import run_cross_validation, run_experiment
    from paceline.recipes.pain.compat.fitting import fit_model
    from paceline.recipes.pain.compat.loaders import create_dataloaders
    from paceline.recipes.pain.compat.losses import FocalLoss, build_criterion
    from paceline.recipes.pain.compat.seeding import set_seed
    from paceline.recipes.pain.compat.state import Result
    from paceline.recipes.pain.compat.sweep import GRID, MAX_SWEEP_RUNS, run_sweep, summary_table, sweep_configs
    from paceline.recipes.pain.compat.using import build_model, load_model, predict
