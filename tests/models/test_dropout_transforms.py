"""The same mask under vmap, grad and compilation. K members."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import debug_unwrap, functional_call, grad_and_value, vmap

from paceline.models import keyed as module
from paceline.models.dropout import Dropout, dropout
from paceline.models.keyed import signed32

KEYS = torch.tensor([signed32(k) for k in (5, 3_000_000_000, 77)], dtype=torch.int32)
RATES = torch.tensor([0.1, 0.0, 0.7], dtype=torch.float64)


def network(p: float | torch.Tensor) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), Dropout(p), nn.Linear(6, 2)).double()


@pytest.mark.fast
def test_vmap_over_keys_and_rates_equals_a_loop_over_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_cache", {})  # so that the first hash is made inside the transforms
    model = network(torch.zeros((), dtype=torch.float64))
    x = torch.randn(9, 4, dtype=torch.float64)
    parameters = {name: torch.stack([p.detach() * (k + 1) for k in range(3)]) for name, p in model.named_parameters()}

    def loss(parameters: dict[str, torch.Tensor], key: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return functional_call(model, {**parameters, "1.key": key, "1.p": p}, (x,)).square().sum()

    gradients, losses = vmap(grad_and_value(loss))(parameters, KEYS, RATES)
    assert module._cache and all(debug_unwrap(kept) is kept for kept in module._cache.values())
    for k in range(3):
        alone = network(float(RATES[k]))
        alone[1].key.copy_(KEYS[k])
        alone.load_state_dict({name: value[k] for name, value in parameters.items()})
        total = alone(x).square().sum()
        total.backward()
        torch.testing.assert_close(losses[k], total, rtol=1e-12, atol=0)
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(gradients[name][k], parameter.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.fast
def test_a_number_as_rate_works_under_vmap_over_keys() -> None:
    x = torch.randn(3, 8, 5)
    together = vmap(lambda x, key: dropout(x, key, 0.4))(x, KEYS)
    assert torch.equal(together, torch.stack([dropout(x[k], KEYS[k], 0.4) for k in range(3)]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own compiler raises it
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_code_gives_the_bits_of_eager_code(backend: str) -> None:
    x = torch.randn(3, 16, 29, 8)
    eager = vmap(dropout)(x, KEYS, RATES)
    compiled = torch.compile(vmap(dropout), fullgraph=True, backend=backend)
    assert torch.equal(compiled(x, KEYS, RATES), eager)


def test_a_compiled_module_follows_its_key() -> None:
    x = torch.randn(16, 29)
    site = Dropout(0.3)
    compiled = torch.compile(site, fullgraph=True, backend="aot_eager")
    for key in (-5, 12):
        site.key.fill_(key)
        assert torch.equal(compiled(x), site(x))
