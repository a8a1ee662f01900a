"""The direct call of the fused kernels against torch's own step."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from paceline.optim.build import build_optimizer
from paceline.optim.fused import FusedStep

pytestmark = pytest.mark.fast


def trained(name: str, direct: bool, *, skip_last_at: int | None = None) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    optimizer = build_optimizer(name, model.parameters(), learning_rate=0.01, weight_decay=0.1)
    stepper = FusedStep(optimizer, list(model.parameters()))
    for step in range(12):
        optimizer.zero_grad()
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
        model(torch.randn(4, 5)).square().sum().backward()
        if step == skip_last_at:
            model[2].bias.grad = None
        if step == 6:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            stepper.forget()
        stepper.step() if direct else optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("skip_last_at", [None, 0, 3])
@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_the_direct_step_is_torch_s_own_bit_for_bit(name: str, skip_last_at: int | None) -> None:
    ours, our_state = trained(name, True, skip_last_at=skip_last_at)
    theirs, their_state = trained(name, False, skip_last_at=skip_last_at)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(our_state.state.values(), their_state.state.values(), strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a if isinstance(a[key], torch.Tensor))


def test_the_wrapper_is_called_only_to_make_or_load_the_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    honest = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: (calls.append(1), honest(self)))
    trained("adamw", True)
    assert len(calls) == 2
