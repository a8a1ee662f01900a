"""The flat dict of the group's trainer, and what it says in paceline's own words. Imports no torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from paceline.config.suggest import hint
from paceline.config.tree import Tree, put
from paceline.config.validate import validate
from paceline.errors import ConfigError
from paceline.run.config import plain_keys, plain_sections
from paceline.train.config import TrainingConfig

Config = dict[str, Any]

DEFAULTS: Config = {
    "epochs": 200,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "weight_decay": 0.01,  # decoupled from the gradient (AdamW), so no L2 term of the loss
    "early_stopping_patience": 20,
    "gradient_clip": 1.0,
    "use_amp": True,  # with CUDA; never on a CPU
    "scheduler_T0": 50,
}

# What the guide leaves open, as keys.
OPTIONS: Config = {
    "scheduler_T_mult": 2,
    "grace_after_restart": 20,  # epochs after a restart that patience does not count
    "gradient_clip_mode": "norm",  # or value: every element to [-gradient_clip, gradient_clip]
    "gradient_accumulation_steps": 1,
    "optimizer": "adamw",  # or adam, sgd
    "min_delta": 0.0,
    "rescale": True,  # the output of the guide's networks starts at the mean of the training targets
    "seed": 42,  # or a list of them, with a function that makes the model
    "init_from": None,  # a checkpoint to start from
    "device": "auto",
    "num_workers": 0,
    "pin_memory": True,
    "checkpoint_dir": None,  # by default checkpoints/ in the folder of the run
}

KNOWN = (*DEFAULTS, *OPTIONS)

# Keys whose values paceline takes as they are.
_CANONICAL = {
    "epochs": "training.num_epochs",
    "batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "weight_decay": "training.weight_decay",
    "optimizer": "training.optimizer",
    "min_delta": "training.selection.min_delta",
    "gradient_clip": "training.gradient_clip.value",
    "gradient_clip_mode": "training.gradient_clip.mode",
    "gradient_accumulation_steps": "training.gradient_accumulation_steps",
    "early_stopping_patience": "training.early_stopping.patience",
    "grace_after_restart": "training.early_stopping.grace_after_restart",
    "scheduler_T0": "training.schedule.t0",
    "scheduler_T_mult": "training.schedule.t_mult",
    "init_from": "training.init_from",
    "device": "device",
}
_PATIENCE = ("early_stopping_patience", "grace_after_restart")
_SCHEDULE = ("scheduler_T0", "scheduler_T_mult")


class ConfigValueError(ConfigError, ValueError):
    """A key or value of the flat dict that is not valid."""


def settled(config: Mapping[str, Any] | None) -> Config:
    """Return a new dict: `DEFAULTS` and `OPTIONS` with `config` laid over them, checked.

    Raises ConfigValueError (a ConfigError and a ValueError) for an unknown key, naming the nearest, and for a value
    that is not valid.
    """
    given = dict(config or {})
    for key in given:
        if key not in KNOWN:
            raise ConfigValueError("unknown config key", where=str(key), got=given[key], hint=hint(str(key), KNOWN))
    found = {**copy.deepcopy({**DEFAULTS, **OPTIONS}), **{key: _plain(value) for key, value in given.items()}}
    if not isinstance(found["use_amp"], bool):
        raise ConfigValueError("a config value is not valid: True or False", where="use_amp", got=found["use_amp"])
    checked = judge(sections(found))
    for key in ("learning_rate", "weight_decay"):  # YAML has 1e-4 as text
        found[key] = getattr(checked, key)
    return found


def sections(config: Mapping[str, Any]) -> Tree:
    """Return what a settled dict says as the sections that `paceline.Trainer` takes."""
    found: Tree = {}
    off = set() if config["early_stopping_patience"] else set(_PATIENCE)
    off |= set() if config["scheduler_T0"] else {*_SCHEDULE, "grace_after_restart"}
    off |= set() if config["init_from"] else {"init_from"}
    for key, path in _CANONICAL.items():
        if key not in off:
            put(found, path, config[key])
    put(found, "training.early_stopping.enabled", bool(config["early_stopping_patience"]))
    put(found, "training.schedule.name", "cosine_with_restarts" if config["scheduler_T0"] else "none")
    # float16 rather than bfloat16, whose outputs have three digits: too few for a state of health.
    put(found, "training.amp", {"enabled": "auto" if config["use_amp"] else False, "dtype": "float16"})
    seeds = config["seed"]
    put(found, "members.seeds", list(seeds) if isinstance(seeds, (list, tuple)) else [seeds])
    put(found, "training.selection.keep_optimizer", True)
    put(found, "training.save.best_at_once", True)
    return found


def judge(found: Mapping[str, Any]) -> TrainingConfig:
    """Return the core's section. Raises ConfigValueError naming the key of the flat dict."""
    try:
        plain_sections({name: found[name] for name in ("training", "members")}, plain_keys())
        return validate(TrainingConfig, found["training"], "training")
    except ConfigError as error:
        names = {path: key for key, path in _CANONICAL.items()} | {"members.seeds": "seed", "members.seeds.0": "seed"}
        raise ConfigValueError(error.what, where=names.get(error.where, error.where), got=error.got or None,
                               hint=error.hint) from None  # fmt: skip


def _plain(value: Any) -> Any:
    """Return NumPy scalars as Python numbers."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
