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
from paceline.optim.build import build_optimizer
from paceline.optim.stacked import Stacked
from paceline.train.config import TrainingConfig
from paceline.train.meter import mean_losses
from paceline.types import GRAD_NORM


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
    norms: Stacked  # of gradients before clipping: their sum over the steps since the last flush, and these steps

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


def flushed_means(stack: Stack, slots: Sequence[int], measured: Sequence[bool]) -> list[dict[str, float]]:
    """Return mean losses, and where `measured` the mean norm of the gradients, of some slots since their last flush.

    Their next interval begins. One synchronisation for all.
    """
    sums, weights, norms = (
        {name: value.cpu() for name, value in tensors.items()} for tensors in (stack.sums, stack.weights, stack.norms)
    )
    found = []
    for slot, with_norm in zip(slots, measured, strict=True):
        means = {term: float(sums[term][slot] / weights[term][slot]) for term in sums}
        norm = {GRAD_NORM: float(norms["sum"][slot] / norms["steps"][slot])} if with_norm else {}
        found.append(mean_losses(means) | norm)
    flushed = torch.tensor(slots, device=stack.updates.device)
    for value in (*stack.sums.values(), *stack.weights.values(), *stack.norms.values()):
        value.index_fill_(0, flushed, 0)
    return found


def init_norms(members: int, device: torch.device) -> Stacked:
    """Return what norms of gradients are summed in, (K,)."""
    return {name: torch.zeros(members, dtype=torch.float64, device=device) for name in ("sum", "steps")}


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


def optimizer_state(config: TrainingConfig, everyone: Stack, member: int) -> dict[str, Any]:
    """Return the state of a member's optimizer in torch's own layout, on the CPU."""
    like = [nn.Parameter(torch.empty_like(value[member])) for value in everyone.parameters.values()]
    state = build_optimizer(
        config.optimizer, like, learning_rate=config.learning_rate, weight_decay=config.weight_decay,
        momentum=config.momentum, betas=config.betas,
    ).state_dict()  # fmt: skip
    names = {"mean": "exp_avg", "square": "exp_avg_sq", "momentum": "momentum_buffer"}
    for i, path in enumerate(everyone.parameters):
        own = {names[moment]: paths[path][member].cpu().clone() for moment, paths in everyone.moments.items()}
        step = {} if config.optimizer == "sgd" else {"step": everyone.updates[member].float().cpu().clone()}
        state["state"][i] = step | own
    return state
