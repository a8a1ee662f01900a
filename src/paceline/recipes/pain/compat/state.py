"""What the guide promises of a training: its history, its best state, and the file `<run_name>.pt`."""

from __future__ import annotations

import copy
import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from paceline.checkpoint.store import write_state
from paceline.data.prepare import Preparation
from paceline.recipes.pain.compat.config import value
from paceline.run.folder import Run

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

LOG = logging.getLogger("paceline")

# Names of the guide -> names of paceline.
_HISTORY = {
    "epoch": "epoch",
    "train_loss": "train_loss",
    "valid_loss": "val_loss",
    "valid_accuracy": "val_accuracy",
    "valid_precision": "val_precision_macro",
    "valid_recall": "val_recall_macro",
    "valid_f1": "val_f1_macro",
    "lr": "lr",
}


class Result(NamedTuple):
    """What a training gives back.

    best_state: what stands in `<run_name>.pt`. history: lists of equal length, an entry per epoch. model: with the best
    weights. run: the folder with the report, the log and the checkpoints.
    """

    best_state: dict[str, Any]
    history: dict[str, list[Any]]
    model: nn.Module
    run: Run


def checkpoint_path(run: Run, name: str) -> Path:
    """Return where `<run_name>.pt` is."""
    return run.path / f"{name}.pt"


def history_of(run: Run, config: Mapping[str, Any], member: str | None = None) -> dict[str, list[Any]]:
    """Return equal-length lists, an entry per epoch: the names of `_HISTORY` and `valid_f1_ema`; NaN where not finite.

    Accuracy, and precision, recall and F1 as means over the classes, are those of the validation part.
    """
    found = run.history(member)
    history = {name: [math.nan if v is None else v for v in found[own]] for name, own in _HISTORY.items()}
    history["valid_f1_ema"] = ema(history["valid_f1"], value(config, "ema_alpha"))
    return history


def ema(series: Sequence[float], alpha: float) -> list[float]:
    """Return the exponential moving average: first the value itself, then alpha x value + (1 - alpha) x ema.

    A value that is not finite leaves it as it was.
    """
    smoothed: list[float] = []
    last: float | None = None
    for found in series:
        if math.isfinite(found):
            last = found if last is None else alpha * found + (1 - alpha) * last
        smoothed.append(math.nan if last is None else last)
    return smoothed


def best_state_of(
    run: Run, config: Mapping[str, Any], name: str, history: Mapping[str, Sequence[Any]], member: str | None = None
) -> dict[str, Any]:
    """Return the guide's best state, in tensors and plain values, all of it copies.

    Arrays of the guide are tensors here and in the file, so that it loads with `weights_only=True`.
    """
    best = run.best(member)
    epoch = best["epoch"]
    at = list(history["epoch"]).index(epoch)
    state: dict[str, Any] = {
        "model_state_dict": best["model_state_dict"],
        "optimizer_state_dict": best.get("optimizer_state_dict"),
        "epoch": epoch,
        "val_macro_f1": history["valid_f1"][at],
        "val_macro_f1_ema": history["valid_f1_ema"][at],
        "val_loss": history["valid_loss"][at],
        "val_accuracy": history["valid_accuracy"][at],
        "config": {**plain(copy.deepcopy(dict(config))), "run_name": name},
        "run_name": name,
        "member": best["member"],
        "selection": best["selection"],
    }
    if state["optimizer_state_dict"] is None:
        del state["optimizer_state_dict"]
    _warn(run, name, best, value(config, "metric_for_best"))
    return state | _data_of(best)


def _warn(run: Run, name: str, best: Mapping[str, Any], metric: str) -> None:
    """Log what a reader of the best state should know of the training."""
    if best["selection"]["raw_best_value"] is None:
        LOG.warning("%s: %s was never finite; epoch %d is kept for want of a better", name, metric, best["epoch"])
    (outcome,) = [member for member in run.summary["members"] if member["id"] == best["member"]]
    if outcome["status"] == "failed":
        LOG.warning("%s failed: %s; epoch %d is kept", name, outcome["stopped"], best["epoch"])


def _data_of(best: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reload needs besides the weights, and the same under the guide's names where it has one."""
    needed = {name: best[name] for name in ("shapes", "classes", "class_counts", "channels", "reading")}
    as_it_is = Preparation(n_channels=best["shapes"]["x"][-1]).to_dict()
    found: dict[str, Any] = {"input": {**needed, "preparation": best["preparation"] or as_it_is}}
    if best["split_idx"] is not None:
        found["split_idx"] = {"train_idx": best["split_idx"]["train"], "valid_idx": best["split_idx"]["val"]}
    if best["classes"]:
        found["label2idx"] = {label: index for index, label in enumerate(best["classes"])}
        found["idx2label"] = dict(enumerate(best["classes"]))
    if best["channels"]:
        found["feature_names"] = list(best["channels"])
    if best["scaler"] is not None:
        for name in ("mean", "std"):
            found[f"scaler_{name}"] = torch.tensor(best["scaler"][name], dtype=torch.float64)
    return found


def save(run: Run, state: Mapping[str, Any]) -> Path:
    """Write `<run_name>.pt` into the run's folder; return its path."""
    path = checkpoint_path(run, state["run_name"])
    write_state(path, state)
    return path


def plain(tree: Any) -> Any:
    """Return what a checkpoint may hold: NumPy scalars as numbers, arrays as tensors, paths as text."""
    if isinstance(tree, Mapping):
        return {key: plain(item) for key, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(plain(item) for item in tree) if type(tree) in (list, tuple) else [plain(i) for i in tree]
    if isinstance(tree, np.generic):
        return tree.item()
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree.copy())
    return os.fspath(tree) if isinstance(tree, os.PathLike) else tree
