"""From K models to stacked tensors: parameters, buffers and hyper-parameters with a leading member axis."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from paceline.models.dropout import Dropout, noise_sites
from paceline.optim.stacked import Stacked
from paceline.train.config import TrainingConfig


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
            rates.setdefault(path, []).append(float(site.p))
    return {path: values for path, values in rates.items() if len(set(values)) > 1}


def stack(models: Sequence[nn.Module], device: torch.device) -> tuple[Stacked, Stacked]:
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
