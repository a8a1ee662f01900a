"""From K models to stacked tensors: parameters, buffers and hyper-parameters with a leading member axis."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paceline.models.dropout import Dropout
from paceline.models.keyed import noise_sites
from paceline.optim.stacked import Stacked
from paceline.train.config import TrainingConfig


@dataclass(frozen=True)
class Stack:
    """Everything that a member's training changes, with a leading axis of members or slots."""

    parameters: Stacked
    buffers: Stacked
    moments: dict[str, Stacked]
    updates: Tensor  # (K,) optimizer steps made
    sums: Stacked  # per loss term since the last flush
    weights: Stacked
    averages: dict[str, Stacked]  # of "parameters" and "buffers"; empty where weights are not averaged
    skips: Stacked  # counts of steps left out; empty where none is

    @property
    def shown(self) -> tuple[Stacked, Stacked]:
        """Parameters and buffers that are evaluated, selected and published."""
        if not self.averages:
            return self.parameters, self.buffers
        return self.averages["parameters"], self.buffers | self.averages["buffers"]

    def take(self, index: Tensor) -> Stack:
        """Return copies of some rows."""
        return Stack(*(_mapped(part, lambda value: value.index_select(0, index)) for part in self._parts()))

    def put(self, index: Tensor, rows: Stack) -> None:
        """Copy rows back to where they were taken from."""
        for mine, theirs in zip(self._parts(), rows._parts(), strict=True):
            _each(mine, theirs, lambda value, row: value.index_copy_(0, index, row))

    def copy_row(self, mine: int, other: Stack, theirs: int) -> None:
        """Copy one row of a stack of the same members' tensors."""
        for own, given in zip(self._parts(), other._parts(), strict=True):
            _each(own, given, lambda value, row: value[mine].copy_(row[theirs]))

    def load(self, other: Mapping[str, Any]) -> None:
        """Copy a saved stack of the same shapes."""
        for name, part in vars(self).items():
            _each(part, other[name], lambda value, saved: value.copy_(saved))

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors under the names of the fields."""
        return dict(vars(self))

    def _parts(self) -> tuple[Any, ...]:
        return tuple(vars(self).values())


def _mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(tree, Tensor):
        return change(tree)
    return {name: _mapped(value, change) for name, value in tree.items()}


def _each(tree: Any, other: Any, act: Callable[[Tensor, Tensor], Any]) -> None:
    if isinstance(tree, Tensor):
        act(tree, other.to(tree.device))
        return
    for name, value in tree.items():
        _each(value, other[name], act)


def template(models: Sequence[nn.Module], device: torch.device) -> nn.Module:
    """Return the module whose forward runs every member; dropout rates that differ become a stacked buffer."""
    module = copy.deepcopy(models[0]).to(device).train()
    for path, rates in _differing_rates(models).items():
        site = module.get_submodule(path)
        assert isinstance(site, Dropout)
        site.set_rate(torch.tensor(rates[0], dtype=torch.float64, device=device))
    return module


def _differing_rates(models: Sequence[nn.Module]) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {}
    for model in models:
        for path, site in noise_sites(model):
            if isinstance(site, Dropout):
                rates.setdefault(path, []).append(float(site.p))
    return {path: values for path, values in rates.items() if len(set(values)) > 1}


def stack_models(models: Sequence[nn.Module], device: torch.device) -> tuple[Stacked, Stacked]:
    """Stack what trains, and what does not (buffers, frozen parameters); dropout keys are set each step instead."""
    named = [dict(model.named_parameters()) for model in models]
    trained = [path for path, value in named[0].items() if value.requires_grad]
    fixed = [n | dict(m.named_buffers()) for n, m in zip(named, models, strict=True)]
    keys = {f"{path}.key" for path, _ in noise_sites(models[0])}
    others = [path for path in fixed[0] if path not in trained and path not in keys]
    parameters = {path: torch.stack([n[path].detach() for n in named]).to(device) for path in trained}
    buffers = {path: torch.stack([f[path].detach() for f in fixed]).to(device) for path in others}
    for path, rates in _differing_rates(models).items():
        buffers[f"{path}.p"] = torch.tensor(rates, dtype=torch.float64, device=device)
    return parameters, buffers


def init_averages(parameters: Stacked, buffers: Stacked, module: nn.Module) -> dict[str, Stacked]:
    """Return averages that are still copies: of what trains, and of floating-point buffers."""
    changing = [path for path, _ in module.named_buffers() if path in buffers and buffers[path].is_floating_point()]
    return {"parameters": clones(parameters), "buffers": {path: buffers[path].clone() for path in changing}}


def hyper(configs: Sequence[TrainingConfig], like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return weight decay (K,) and the bound of clipping (K,), None where no member clips."""
    decay = like.new_tensor([config.weight_decay for config in configs])
    bounds = [config.gradient_clip.value or math.inf for config in configs]
    return decay, None if all(math.isinf(bound) for bound in bounds) else like.new_tensor(bounds)


def clones(tensors: Mapping[str, Tensor]) -> Stacked:
    """Return copies of all tensors."""
    return {path: value.clone() for path, value in tensors.items()}


def copy_into(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor]) -> None:
    """Copy tensors of the same names into those that are there."""
    for path, value in targets.items():
        value.copy_(sources[path])
