"""The flat dict of the group's scripts, and what it says in paceline's own words. Imports no torch."""

from __future__ import annotations

import copy
import difflib
import logging
import time
from collections.abc import Mapping
from typing import Any

from paceline.config.suggest import hint
from paceline.config.tree import Tree, merge, put, undot
from paceline.errors import ConfigError
from paceline.recipes.pain.recipe import recipe
from paceline.run.config import resolve

LOG = logging.getLogger("paceline")

Config = dict[str, Any]

base_config: Config = {
    "run_name": None,
    "rnn_type": "gru",
    "hidden_size": 256,
    "num_layers": 2,
    "dropout": 0.3,
    "bidirectional": False,
    "lr": 2e-3,
    "weight_decay": 1e-5,
    "epochs": 60,
    "batch_size": 64,
    "valid_size": 0.1,
    "seed": 42,
    "patience": 8,
    "min_improvement": 5e-4,
    "metric_for_best": "macro_f1",
    "warmup_epochs": 5,
    "scheduler": "plateau",
    "scheduler_factor": 0.5,
    "scheduler_patience": 3,
    "scheduler_threshold": 1e-3,
    "scheduler_cooldown": 0,
    "max_grad_norm": 5.0,
    "num_workers": 4,
    "pin_memory": True,
    "ema_alpha": 0.1,
    "tensorboard": True,
    "label_smoothing": 0.05,
    "use_focal_loss": False,
    "use_class_weights": False,
}

# What the group's scripts fix or leave open, as keys; `prepare_config` adds them.
OPTIONS: Config = {
    "optimizer": "adamw",  # or adam, sgd
    "smoothing": "ema",  # or median_ema, which no lone spike moves, or none
    "scheduler_metric": "raw",  # or ema: what the plateau scheduler looks at
    "focal_gamma": 2.0,
    "use_amp": True,  # with CUDA; never on a CPU
    "scale": True,  # every channel, by the statistics of the training part
    "duplicates": "error",  # or warn: the same input in both parts
    "save_data_split": False,  # the arrays of both parts in the checkpoint
    "save_optimizer": True,  # without it, folds may train as one computation
    "device": "auto",
}

KNOWN = (*base_config, *OPTIONS, "data")

# A dict that `prepare_config` did not make may lack keys: then these hold, as in the group's own `config.get`.
_IF_MISSING: Config = {**base_config, **OPTIONS, "label_smoothing": 0.0, "min_improvement": 0.0}

METRICS = {
    "macro_f1": "val_f1_macro",
    "accuracy": "val_accuracy",
    "macro_precision": "val_precision_macro",
    "macro_recall": "val_recall_macro",
    "val_loss": "val_loss",
}
RNN_TYPES = ("gru", "lstm", "rnn")
SCHEDULERS = ("plateau", "none", "cosine", "linear")

# Keys whose values paceline takes as they are.
_CANONICAL = {
    "hidden_size": "model.hidden_size",
    "num_layers": "model.num_layers",
    "dropout": "model.dropout",
    "bidirectional": "model.bidirectional",
    "lr": "training.learning_rate",
    "weight_decay": "training.weight_decay",
    "optimizer": "training.optimizer",
    "epochs": "training.num_epochs",
    "batch_size": "training.batch_size",
    "valid_size": "data.split.val_fraction",
    "seed": "data.split.seed",
    "num_workers": "data.loader.num_workers",
    "pin_memory": "data.loader.pin_memory",
    "duplicates": "data.duplicates",
    "patience": "training.early_stopping.patience",
    "min_improvement": "training.selection.min_delta",
    "smoothing": "training.selection.smoothing",
    "ema_alpha": "training.selection.ema_alpha",
    "save_optimizer": "training.selection.keep_optimizer",
    "scheduler": "training.schedule.name",
    "warmup_epochs": "training.schedule.warmup_epochs",
    "scheduler_factor": "training.schedule.factor",
    "scheduler_patience": "training.schedule.patience",
    "scheduler_threshold": "training.schedule.threshold",
    "scheduler_cooldown": "training.schedule.cooldown",
    "max_grad_norm": "training.gradient_clip.value",
    "label_smoothing": "loss.label_smoothing",
    "device": "device",
}


class ConfigValueError(ConfigError, ValueError):
    """A value of the flat dict that is not valid."""


def prepare_config(name: str | None, overrides: Mapping[str, Any] | None = None, strict: bool = False) -> Config:
    """Return a new dict: `base_config` and `OPTIONS` with `overrides` laid over them, and `run_name` set to `name`.

    Keys that are not known are kept and change nothing; with `strict` they are an error. Raises ConfigValueError (a
    ConfigError and a ValueError) for a value that is not valid.
    """
    overrides = dict(overrides or {})
    for key in overrides:
        if key not in KNOWN:
            if strict:
                raise ConfigValueError("unknown config key", where=str(key), got=overrides[key],
                                       hint=hint(str(key), KNOWN))  # fmt: skip
            for near in difflib.get_close_matches(str(key), KNOWN, n=1, cutoff=0.85):
                LOG.warning("the config key %r is not known and changes nothing: %r was meant?", key, near)
    config = copy.deepcopy({**base_config, **OPTIONS, **overrides, "run_name": name})
    tree(config)
    return config


def run_name(config: Mapping[str, Any]) -> str:
    """Return the config's `run_name`, or one like `GRU_20250131_120000` where it is None."""
    named = config.get("run_name")
    return str(named) if named else f"{str(value(config, 'rnn_type')).upper()}_{time.strftime('%Y%m%d_%H%M%S')}"


def value(config: Mapping[str, Any], key: str) -> Any:
    """Return what a config says under a key, or means by leaving it out; NumPy scalars as Python numbers."""
    found = config.get(key, _IF_MISSING[key])
    return found.item() if hasattr(found, "item") and getattr(found, "ndim", 1) == 0 else found


def tree(config: Mapping[str, Any]) -> Tree:
    """Return a checked config of the recipe `pain` that means the same.

    Raises ConfigValueError, naming the key of the flat dict.
    """
    found = _translate(config)
    try:
        resolve(found, recipe)
        found["data"]["loader"]["num_workers"] = 0  # the data is in memory
    except ConfigError as error:
        names = {path: key for key, path in _CANONICAL.items()} | {"loss.gamma": "focal_gamma"}
        key = names.get(error.where, error.where)
        raise ConfigValueError(error.what, where=key, got=error.got or None, hint=error.hint) from None
    return found


def training(config: Mapping[str, Any]) -> Tree:
    """Return the sections that `Trainer` takes: `training`, `members`, `device`."""
    whole = tree(config)
    return {name: whole[name] for name in ("training", "members", "device")}


def _translate(config: Mapping[str, Any]) -> Tree:
    found: Tree = {"task": {"name": "pain", "inputs": ["x", "mask"]}}
    for key, path in _CANONICAL.items():
        put(found, path, value(config, key))
    put(found, "data.split.open_test", False)  # the guide knows no test part: it stays closed until asked for
    put(found, "data.split.rule", "stratified")
    put(found, "data.scale", "standard" if value(config, "scale") else "none")
    found["data"] = merge(found["data"], _source(config))
    put(found, "members.seeds", [value(config, "seed")])
    put(found, "model.name", _choice(config, "rnn_type", RNN_TYPES))
    _choice(config, "scheduler", SCHEDULERS)
    put(found, "training.schedule.observe", "smoothed" if _on_ema(config) else "raw")
    put(found, "training.selection.metric", METRICS[_choice(config, "metric_for_best", METRICS)])
    put(found, "training.early_stopping.enabled", value(config, "patience") is not None)
    if value(config, "patience") is None:
        del found["training"]["early_stopping"]["patience"]
    # The guide scales its gradients, so float16; `auto` is on with CUDA only.
    put(found, "training.amp", {"enabled": "auto" if value(config, "use_amp") else False, "dtype": "float16"})
    focal = bool(value(config, "use_focal_loss"))
    put(found, "loss.name", "focal" if focal else "cross_entropy")
    put(found, "loss.class_weights", "balanced" if value(config, "use_class_weights") else "none")
    if focal:
        put(found, "loss.gamma", value(config, "focal_gamma"))
    return found


def _source(config: Mapping[str, Any]) -> Tree:
    """Return the data source that the config names; its own keys win over those of the flat dict."""
    source = config.get("data")
    if source is None:
        return {"name": "given"}
    if not isinstance(source, (str, Mapping)):
        raise ConfigValueError("data must be the name of a source, or a dict with its name", where="data", got=source,
                               hint="X and y are arguments of run_experiment")  # fmt: skip
    return {"name": source} if isinstance(source, str) else undot(source)


def _choice(config: Mapping[str, Any], key: str, choices: Any) -> str:
    chosen = value(config, key)
    if not isinstance(chosen, str) or chosen not in choices:
        raise ConfigValueError("the value is not one of the choices", where=key, got=chosen, hint=", ".join(choices))
    return chosen


def _on_ema(config: Mapping[str, Any]) -> bool:
    return _choice(config, "scheduler_metric", ("raw", "ema")) == "ema"
