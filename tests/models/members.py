"""Members run together under vmap and one after another. K members; inputs are (K, ...)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

Objective = Callable[..., Tensor]  # (outputs, *targets) -> ()


def stack(models: Sequence[nn.Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers of all members, (K, ...), sharing no memory with the models."""
    parameters, buffers = stack_module_state(list(models))
    return tuple({name: value.detach().clone() for name, value in part.items()} for part in (parameters, buffers))


def together(models: Sequence[nn.Module], inputs: Sequence[Tensor], objective: Objective, targets: Sequence[Any] = ()):
    """Values (K,), and what the pass leaves: gradients of parameters and of floating inputs, and the buffers."""
    parameters, buffers = stack(models)
    floating = {i: x for i, x in enumerate(inputs) if x is not None and x.is_floating_point()}

    def run(arguments: tuple[dict, dict], buffers: dict, inputs: Sequence[Tensor], targets: Sequence[Any]):
        own = [arguments[1].get(i, x) for i, x in enumerate(inputs)]
        return objective(functional_call(models[0], (arguments[0], buffers), tuple(own)), *targets), buffers

    grads, (values, buffers) = vmap(grad_and_value(run, has_aux=True))(
        (parameters, floating), buffers, list(inputs), list(targets)
    )
    return values, grads[0] | {f"input {i}": g for i, g in grads[1].items()} | buffers


def alone(models: Sequence[nn.Module], inputs: Sequence[Tensor], objective: Objective, targets: Sequence[Any] = ()):
    """The same, member by member, in torch's ordinary way."""
    values, left = [], []
    for k, model in enumerate(copy.deepcopy(list(models))):
        own = [x if x is None else x[k].clone().requires_grad_(x.is_floating_point()) for x in inputs]
        value = objective(model(*own), *(target[k] for target in targets))
        value.backward()
        grads = {name: parameter.grad for name, parameter in model.named_parameters()}
        grads |= {f"input {i}": x.grad for i, x in enumerate(own) if x is not None and x.is_floating_point()}
        values.append(value.detach())
        left.append(grads | dict(model.named_buffers()))
    return torch.stack(values), {name: torch.stack([each[name] for each in left]) for name in left[0]}


def assert_same(got: tuple[Tensor, dict], expected: tuple[Tensor, dict], tolerance: float) -> None:
    torch.testing.assert_close(got[0], expected[0], rtol=tolerance, atol=tolerance)
    assert got[1].keys() == expected[1].keys()
    for name, value in expected[1].items():
        torch.testing.assert_close(
            got[1][name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
