"""The recipe's networks: sizes and initial weights, the neural ODE against exact solutions.

Shapes: B batch, T time, F features, L latent size.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from paceline.errors import ModelError
from paceline.models.config import ModelConfig
from paceline.recipes.battery import ode
from paceline.recipes.battery.attention import SelfAttention
from paceline.recipes.battery.config import MODELS, CnnLstm, LstmAttn, Mlp, NeuralOde
from paceline.recipes.battery.model import CausalConv, Target, target_of
from paceline.types import DataSpec

ROWS = DataSpec(shapes={"x": (7,), "y": ()}, target_mean=0.9, target_std=0.05)
STEPS = DataSpec(shapes={"x": (6, 7), "mask": (6,), "y": (6,)}, target_mean=0.9, target_std=0.05)
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}  # the defaults


@pytest.mark.fast
def test_the_mlp_has_the_guides_layers_and_xavier_weights() -> None:
    """C77: 64 and 32 units, dropout .1; weights within Glorot's bound and spread as uniform ones, biases 0."""
    torch.manual_seed(0)
    assert (Mlp().hidden_dims, Mlp().dropout) == ((64, 32), 0.1)
    layers = [m for m in Mlp().build(ROWS).modules() if isinstance(m, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(7, 64), (64, 32), (32, 1)]
    for layer in layers:
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert layer.weight.abs().max() <= bound and not layer.bias.any()
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.3)


@pytest.mark.fast
def test_with_a_linear_path_the_mlp_begins_linear_and_departs_from_it_by_the_scale() -> None:
    torch.manual_seed(1)
    a, b = torch.randn(4, 7), torch.randn(4, 7)
    model = Mlp(linear_skip=True, residual_scale=0.25, dropout=0.0).build(ROWS)
    nothing = model(torch.zeros(4, 7))
    torch.testing.assert_close(model(a + b) - nothing, model(a) + model(b) - 2 * nothing)
    last = next(m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 1)
    before = model(a)
    torch.nn.init.ones_(last.bias)
    torch.testing.assert_close(model(a) - before, torch.full((4,), 0.25 * ROWS.target_std))


@pytest.mark.fast
@pytest.mark.parametrize("name", [pytest.param(name, id=f"{name} (C89)") for name in MODELS])
def test_networks_are_chosen_by_name_and_fit_rows_and_sequences(name: str) -> None:
    section: type[ModelConfig] = MODELS[name]
    if "rescale" not in section.model_fields:
        pytest.skip("no network")
    for spec, shape in ((ROWS, (4,)), (STEPS, (4, 6))):
        model: Any = section.model_validate({"name": name}).build(spec).eval()
        outputs = model(torch.randn(4, *spec.shapes["x"]))
        assert outputs.shape == shape
        assert 0.3 < outputs.mean() < 1.5


@pytest.mark.fast
def test_the_sizes_by_default_are_those_of_the_guide() -> None:
    """C89: attention in four heads over two times 64 outputs; a latent state of 32, solved by dopri5."""
    attention = LstmAttn().build(STEPS).network
    assert attention.recurrent.output_size == 128
    assert attention.attention.heads == 4
    neural = NeuralOde().build(STEPS).network
    assert (neural.head.linear.in_features, neural.field.layers[0].out_features) == (32, 64)
    assert (neural.rtol, neural.atol, neural.adjoint) == (1e-3, 1e-4, False)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("section", "bad"),
    [(Mlp, {"hidden_dims": [0]}), (Mlp, {"dropout": 1.0}), (LstmAttn, {"heads": 3}), (CnnLstm, {"channels": []}),
     (NeuralOde, {"rtol": 0.0})],
)  # fmt: skip
def test_bad_settings_are_refused(section: type, bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        section.model_validate(bad)


@pytest.mark.fast
def test_the_target_is_per_step_only_where_it_has_the_steps_of_the_samples() -> None:
    shapes: dict[str, tuple[int, ...]] = {"x": (6, 7)}
    assert target_of(DataSpec(shapes={**shapes, "y": (6,)})) == Target(steps=True)
    assert target_of(DataSpec(shapes={**shapes, "y": (6, 2)})) == Target(steps=True, trailing=(2,))
    assert target_of(DataSpec(shapes={**shapes, "y": ()}, outputs=3)) == Target(trailing=(3,))
    assert target_of(DataSpec(shapes={"x": (6,), "y": (6,)})) == Target(trailing=(6,))


@pytest.mark.fast
def test_self_attention_is_torchs() -> None:
    torch.manual_seed(0)
    own, torchs = SelfAttention(8, 2, dropout=0.0).double(), nn.MultiheadAttention(8, 2, batch_first=True).double()
    torchs.in_proj_weight.data, torchs.in_proj_bias.data = own.inputs.weight.data, own.inputs.bias.data
    torchs.out_proj.load_state_dict(own.output.state_dict())
    x, mask = torch.randn(3, 5, 8, dtype=torch.float64), torch.arange(5) < torch.tensor([5, 2, 3])[:, None]
    torch.testing.assert_close(own(x, mask), torchs(x, x, x, key_padding_mask=~mask, need_weights=False)[0])
    torch.testing.assert_close(own(x), torchs(x, x, x, need_weights=False)[0])


@pytest.mark.fast
def test_a_causal_convolution_is_torchs_on_steps_behind_zeros() -> None:
    torch.manual_seed(0)
    own, x = CausalConv(2, 3, kernel_size=4, dropout=0.0), torch.randn(2, 6, 2)
    behind = torch.cat([torch.zeros(2, 3, 2), x], 1).transpose(1, 2)
    torch.testing.assert_close(own(x), own.conv(behind).transpose(1, 2).relu())


def grids(steps: int, spacing: float) -> Tensor:
    """Uneven times of three samples, each its own, from 0 on; (3, T) in float64."""
    draw = torch.Generator().manual_seed(2)
    gaps = spacing * (0.3 + 0.7 * torch.rand(3, steps, generator=draw, dtype=torch.float64))
    return gaps.cumsum(1) - gaps[:, :1]


def decay(z_BL: Tensor, x_BF: Tensor) -> Tensor:
    return -z_BL


def test_the_solution_of_exponential_decay_is_exact_to_1e_4_on_every_samples_own_grid() -> None:
    """C89, C15: dz/dt = -z from z = 1 and 2, with the default tolerances."""
    t, z = grids(9, 0.6), torch.tensor([[1.0, 2.0]] * 3, dtype=torch.float64)
    dt = ode.intervals(torch.zeros(3, 9, 1, dtype=torch.float64), None, t, 1.0)
    states = ode.trajectory(decay, z, dt, torch.zeros(3, 9, 1), **TOLERANCE)
    exact = z[:, None] * torch.exp(-t)[:, :, None]
    assert (states - exact).abs().max() < 1e-4
    assert (t[0] - t[1]).abs().max() > 0.1


def test_a_neural_ode_recovers_exponential_decay_to_1e_4_from_its_solution() -> None:
    """C89: a linear field, fitted to z = exp(-t) at uneven times, finds the rate -1."""
    t = grids(7, 0.8)
    z, x = torch.ones(3, 1, dtype=torch.float64), torch.zeros(3, 7, 1, dtype=torch.float64)
    rate = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    dt = ode.intervals(x, None, t, 1.0)
    optimizer = torch.optim.LBFGS([rate], line_search_fn="strong_wolfe", max_iter=30)

    def loss() -> Tensor:
        optimizer.zero_grad()
        states = ode.trajectory(lambda z, x: rate * z, z, dt, x, rtol=1e-7, atol=1e-9)
        error = (states[:, :, 0] - torch.exp(-t)).square().mean()
        error.backward()
        return error

    optimizer.step(loss)
    assert rate.item() == pytest.approx(-1, abs=1e-4)


def test_times_are_in_units_of_the_spacing_of_the_training_part_and_stop_with_the_sample() -> None:
    x, mask = torch.zeros(2, 4, 1), torch.tensor([[True] * 4, [True, True, False, False]])
    t = torch.tensor([[0.0, 7.0, 21.0, 28.0], [0.0, 3.5, math.nan, math.nan]])
    assert ode.intervals(x, mask, t, 7.0).tolist() == [[0, 1, 2, 1], [0, 0.5, 0, 0]]
    assert ode.intervals(x, mask, None, 7.0).tolist() == [[0, 1, 1, 1], [0, 1, 0, 0]]


def test_the_adjoint_gives_the_gradient_of_the_steps() -> None:
    torch.manual_seed(0)
    model = NeuralOde(latent_dim=3, hidden_size=5, rtol=1e-8, atol=1e-9).build(STEPS).double()
    x, t = torch.randn(2, 6, 7, dtype=torch.float64), grids(6, 1.5)[:2]
    slopes = []
    for adjoint in (False, True):
        model.network.adjoint = adjoint
        model.zero_grad()
        model(x, None, t).square().sum().backward()
        slopes.append([p.grad.clone() for p in model.parameters()])
    for plain, by_adjoint in zip(*slopes, strict=True):
        torch.testing.assert_close(by_adjoint, plain, rtol=1e-5, atol=1e-7)


def test_other_samples_of_a_batch_change_a_solution_no_more_than_the_tolerance() -> None:
    torch.manual_seed(0)
    model = NeuralOde().build(STEPS).double().eval()
    x, t = torch.randn(8, 6, 7, dtype=torch.float64), torch.rand(8, 6, dtype=torch.float64).cumsum(1)
    together = model(x, None, t)
    each = torch.cat([model(x[i : i + 1], None, t[i : i + 1]) for i in range(8)])
    assert (together - each).abs().max() < 1e-3 * 0.05


@pytest.mark.fast
def test_without_torchdiffeq_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """X6."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torchdiffeq" else found(name, *a)
    )
    with pytest.raises(ModelError, match="needs the package torchdiffeq") as caught:
        NeuralOde().build(STEPS)
    assert "pip install torchdiffeq" in str(caught.value)
