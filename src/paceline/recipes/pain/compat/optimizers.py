"""What an optimizer that was given says in the words of the config, as paceline makes the steps itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from paceline.config.tree import Tree
from paceline.errors import ConfigError
from paceline.recipes.pain.compat.config import value

LOG = logging.getLogger("paceline")

# Each class's name in the config, and its own default of the weight decay.
KINDS: dict[type[torch.optim.Optimizer], tuple[str, float]] = {
    torch.optim.AdamW: ("adamw", 0.01),
    torch.optim.Adam: ("adam", 0.0),
    torch.optim.SGD: ("sgd", 0.0),
}
# Options of a parameter group that paceline's own optimizer has at this value only.
_FIXED = {"eps": 1e-8, "amsgrad": False, "maximize": False, "dampening": 0}


def settings(optimizer: torch.optim.Optimizer, model: nn.Module, config: Mapping[str, Any]) -> Tree:
    """Return the keys of `training` that make the same steps.

    The learning rate must be the config's, which the warm-up starts from. The weight decay is the optimizer's; where
    that has its class's default, it is the config's. Raises ConfigError for whatever would have to be ignored.
    """
    if type(optimizer) not in KINDS:
        raise _refused("the optimizer is none that paceline makes steps with", type(optimizer).__name__,
                       "Adam, AdamW or SGD of torch.optim, or optimizer=None")  # fmt: skip
    kind, default_decay = KINDS[type(optimizer)]
    trained = [p for p in model.parameters() if p.requires_grad]
    group = optimizer.param_groups[0]
    if len(optimizer.param_groups) > 1 or [id(p) for p in group["params"]] != [id(p) for p in trained]:
        raise _refused("the optimizer must have the model's parameters as its one group",
                       f"{len(optimizer.param_groups)} groups, {len(group['params'])} tensors in the first",
                       f"torch.optim.{type(optimizer).__name__}(model.parameters(), ...)")  # fmt: skip
    if optimizer.state:
        raise _refused("the optimizer has made steps already, and a training starts afresh", "moments of earlier steps",
                       "a new optimizer")  # fmt: skip
    if not _equal(group["lr"], value(config, "lr")):
        raise _refused("the optimizer's learning rate is not the config's", f"lr={group['lr']}, {config.get('lr')}",
                       "lr=config['lr']")  # fmt: skip
    _refuse_options(group, kind)
    decay = _weight_decay(float(group["weight_decay"]), default_decay, float(value(config, "weight_decay")))
    found: Tree = {"optimizer": kind, "weight_decay": decay}
    if kind == "sgd":
        return found | {"momentum": float(group["momentum"])}
    return found | {"betas": [float(beta) for beta in group["betas"]]}


def _refuse_options(group: Mapping[str, Any], kind: str) -> None:
    wrong = [f"{name}={group[name]}" for name, own in _FIXED.items() if not _equal(group.get(name, own), own)]
    if kind == "adam" and group.get("decoupled_weight_decay"):
        wrong.append("decoupled_weight_decay=True (AdamW is that)")
    if kind == "sgd" and bool(group["nesterov"]) != bool(group["momentum"]):
        wrong.append(f"nesterov={group['nesterov']} with momentum={group['momentum']}")
    if wrong:
        raise _refused("the optimizer has options that paceline's does not have", ", ".join(wrong),
                       "their defaults (SGD: momentum is Nesterov's)")  # fmt: skip


def _weight_decay(own: float, default: float, wanted: float) -> float:
    """Return an optimizer's own weight decay, or the config's where nobody chose the optimizer's."""
    if own != default or own == wanted:
        return own
    LOG.info("the optimizer's weight decay is its default %g: the config's %g is used", own, wanted)
    return wanted


def _equal(a: Any, b: Any) -> bool:
    return float(a) == float(b)


def _refused(what: str, got: str, hint: str) -> ConfigError:
    return ConfigError(what, where="fit_model(optimizer=...)", got=got, hint=hint)
