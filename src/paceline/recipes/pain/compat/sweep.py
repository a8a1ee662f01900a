"""A random sweep over the guide's grid, and one table of any results."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paceline.errors import ConfigError
from paceline.recipes.pain.compat import config as flat
from paceline.recipes.pain.compat.experiment import run_experiment
from paceline.recipes.pain.compat.state import Result, checkpoint_path

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

MAX_SWEEP_RUNS = 12
GRID: dict[str, tuple[Any, ...]] = {
    "hidden_size": (192, 256, 320),
    "num_layers": (2, 3),
    "dropout": (0.30, 0.45),
    "bidirectional": (False, True),
    "lr": (1e-3, 2e-3),
}
COLUMNS = (
    "run_name", "fold", "rnn_type", "hidden_size", "num_layers", "dropout", "bidirectional", "lr",
    "best_epoch", "best_f1", "accuracy", "checkpoint", "log_dir",
)  # fmt: skip


def sweep_configs(
    base: Mapping[str, Any] | None = None,
    max_runs: int = MAX_SWEEP_RUNS,
    seed: int = 42,
    grid: Mapping[str, Sequence[Any]] = GRID,
) -> list[flat.Config]:
    """Return up to `max_runs` distinct configs: points of the grid in an order drawn by `seed`, laid over `base`.

    They are named `<run_name of base, or sweep>_00`, `_01`, ... Raises ConfigError for fewer than one run.
    """
    if max_runs < 1:
        raise ConfigError("a sweep has at least one run", where="max_runs", got=max_runs)
    base = dict(base or {})
    name = base.get("run_name") or "sweep"
    points = list(itertools.product(*grid.values()))
    order = np.random.RandomState(seed).permutation(len(points))[:max_runs]
    return [
        flat.prepare_config(f"{name}_{number:02d}", {**base, **dict(zip(grid, points[at], strict=True))})
        for number, at in enumerate(order)
    ]


def run_sweep(
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    base: Mapping[str, Any] | None = None,
    max_runs: int = MAX_SWEEP_RUNS,
    seed: int = 42,
    grid: Mapping[str, Sequence[Any]] = GRID,
    **options: Any,
) -> list[Result]:
    """Train the configs of `sweep_configs` one after another; `options` are those of `run_experiment`."""
    return [run_experiment(config, X, y, **options) for config in sweep_configs(base, max_runs, seed, grid)]


def summary_table(results: Iterable[Result | Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per training, the best macro F1 first.

    results: of `run_experiment`, `fit_model` or `run_sweep`, and summaries of `run_cross_validation`, a row per fold.
    """
    import pandas as pd

    flat_list: list[Result] = []
    for entry in results:
        flat_list += entry["results"] if isinstance(entry, Mapping) else [entry]
    rows = [_row(result) for result in flat_list]
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("best_f1", ascending=False, ignore_index=True)


def _row(result: Result) -> dict[str, Any]:
    state, config = result.best_state, result.best_state["config"]
    fold = re.search(r"fold(\d+)$", state["member"])
    events = result.run.path / "tensorboard" / state["member"]
    return {
        "run_name": state["run_name"],
        "fold": int(fold[1]) if fold else None,
        **{key: flat.value(config, key) for key in COLUMNS[2:8]},
        "best_epoch": state["epoch"],
        "best_f1": state["val_macro_f1"],
        "accuracy": state["val_accuracy"],
        "checkpoint": str(checkpoint_path(result.run, state["run_name"])),
        "log_dir": str(events) if events.is_dir() else None,
    }
