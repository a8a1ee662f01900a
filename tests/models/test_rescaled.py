"""A rescaled network gives std * output + mean, whatever the shape, and keeps both with its weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from paceline.models.rescaled import Rescaled
from paceline.models.vectorise import why_not
from tests.models.members import alone, assert_same, together

pytestmark = pytest.mark.fast


def test_the_output_is_brought_to_the_unit_of_the_targets() -> None:
    network = nn.Linear(3, 2)
    model, x = Rescaled(network, mean=5.0, std=0.1), torch.randn(4, 7, 3)
    torch.testing.assert_close(model(x), 5 + 0.1 * network(x))
    other = Rescaled(nn.Linear(3, 2), mean=0.0, std=1.0)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    assert "mean=5, std=0.1" in repr(model)


def test_half_precision_is_left_before_the_mean_is_added() -> None:
    model = Rescaled(nn.Linear(3, 1).bfloat16(), mean=300.0, std=0.5)
    out = model(torch.randn(4, 3).bfloat16())
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, 300 + 0.5 * (out - 300) / 0.5)
    assert len(out.unique()) == 4  # bfloat16 has steps of 2 there


def test_members_may_differ_in_their_scale() -> None:
    models = [Rescaled(nn.Linear(3, 1), mean=k, std=1 + k).double() for k in range(3)]
    assert why_not(models[0]) is None
    inputs = [torch.randn(3, 4, 3, dtype=torch.float64)]
    before = copy.deepcopy(models[0].state_dict())
    got = together(models, inputs, lambda out: out.square().mean())
    assert_same(got, alone(models, inputs, lambda out: out.square().mean()), 1e-12)
    assert all(torch.equal(value, before[name]) for name, value in models[0].state_dict().items())


def test_without_memory_it_can_be_built_and_shown() -> None:
    with torch.device("meta"):
        assert "Rescaled" in repr(Rescaled(nn.Linear(3, 1), mean=1.0, std=2.0))
