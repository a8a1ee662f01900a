"""What every network of a number per sample or step owes: padding, dropout and other members change no result.

Shapes: K members, B batch, T time, F features.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paceline.errors import ModelError
from paceline.losses.regression import Mse, Quantile
from paceline.models.config import EstimatorConfig
from paceline.models.keyed import noise_sites, set_keys
from paceline.models.rescaled import Rescaled
from paceline.models.vectorise import why_not
from paceline.recipes.battery.config import Acla, CnnLstm, Lstm, LstmAttn, Mlp, NeuralOde
from paceline.recipes.battery.recipe import recipe
from paceline.tasks import Regression
from paceline.types import DataSpec
from tests.models.members import alone, assert_same, together

B, T, F = 4, 9, 3
LENGTHS = torch.tensor([9, 5, 2, 7])
STEPS = DataSpec(shapes={"x": (T, F), "mask": (T,), "y": (T,), "t": (T,)}, target_mean=0.8, target_std=0.1)
WHOLE = replace(STEPS, shapes={**STEPS.shapes, "y": ()})
ROWS = DataSpec(shapes={"x": (F,), "y": (), "t": ()}, target_mean=0.8, target_std=0.1)
SPECS = {"steps": STEPS, "whole sequences": WHOLE, "rows": ROWS}
SMALL: dict[str, Any] = {
    "mlp": Mlp(hidden_dims=(6, 5), dropout=0.3),
    "mlp with a linear part": Mlp(hidden_dims=(6,), dropout=0.3, linear_skip=True),
    "lstm": Lstm(hidden_size=5, dropout=0.3),
    "lstm_attn": LstmAttn(hidden_size=4, heads=2, num_layers=1, dropout=0.3),
    "lstm_attn, one direction": LstmAttn(hidden_size=4, heads=2, num_layers=1, dropout=0.3, bidirectional=False),
    "cnn_lstm": CnnLstm(channels=(4, 5), hidden_size=4, dropout=0.3),
    "neural_ode": NeuralOde(latent_dim=4, hidden_size=6),
    "acla": Acla(channels=(8,), hidden_size=5, latent_dim=3, augment=2, dropout=0.3),
    "neural_ode, adjoint": NeuralOde(latent_dim=4, hidden_size=6, adjoint=True),
}
CAUSAL = ("mlp", "mlp with a linear part", "lstm", "cnn_lstm", "neural_ode", "acla")


@pytest.fixture(params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SPECS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(name: str, kind: str = "steps", dtype: torch.dtype = torch.float64, **changes: Any) -> nn.Module:
    """A network whose weights are none of them 0, as some are to begin with."""
    torch.manual_seed(1)
    model = SMALL[name].build(replace(SPECS[kind], **changes)).to(dtype).train()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def batch(kind: str = "steps", dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    if kind == "rows":
        x, t = torch.randn(B, F, generator=draw, dtype=dtype), torch.rand(B, generator=draw, dtype=dtype)
        return {"x": x, "t": t, "y": 0.8 + 0.1 * torch.randn(B, generator=draw, dtype=dtype)}
    mask = torch.arange(T) < LENGTHS[:, None]
    x = torch.randn(B, T, F, generator=draw, dtype=dtype)
    t = (0.2 + torch.rand(B, T, generator=draw, dtype=dtype)).cumsum(1)
    y = 0.8 + 0.1 * torch.randn(*((B, T) if kind == "steps" else (B,)), generator=draw, dtype=dtype)
    y = torch.where(mask, y, 0) if kind == "steps" else y
    return {"x": torch.where(mask[:, :, None], x, 0), "mask": mask, "t": torch.where(mask, t, 0), "y": y}


TASK = Regression(loss=Mse(), inputs=("x", "mask", "t"))


def step(model: nn.Module, columns: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs of a training pass, and the gradient of the mean loss."""
    model = copy.deepcopy(model)
    set_keys(model, seed=42, step=3)
    outputs = TASK.forward(model, columns)
    (TASK.loss_sums(outputs, columns)["mse"] / TASK.weights(columns)["mse"]).backward()
    return outputs.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def loss_of(model: nn.Module, columns: dict[str, Tensor]) -> Tensor:
    return TASK.loss_sums(TASK.forward(model, columns), columns)["mse"] / TASK.weights(columns)["mse"]


def padded(columns: dict[str, Tensor], more: int, rows: int = 0) -> dict[str, Tensor]:
    """The batch with more steps, and with samples that have no step at all; NaN wherever there is nothing."""
    found = {}
    for key, value in columns.items():
        fill = False if key == "mask" else 0.0 if key == "y" else float("nan")
        if value.ndim > 1:
            value = torch.cat([value, value.new_full((len(value), more, *value.shape[2:]), fill)], 1)
        found[key] = torch.cat([value, value.new_full((rows, *value.shape[1:]), fill)])
    return found | {"sample_mask": torch.arange(B + rows) < B}


@pytest.mark.parametrize("model", [*SMALL])
@pytest.mark.parametrize("kind", SPECS, ids=lambda kind: f"{kind} (C14)")
def test_outputs_have_the_shape_of_the_targets(model: str, kind: str) -> None:
    """Rows (B, F) and sequences (B, T, F) give a number per sample or step; with a mask and times, and without."""
    columns, made = batch(kind), build(model, kind)
    assert TASK.forward(made, columns).shape == columns["y"].shape
    if "neural_ode" not in model:
        assert made(columns["x"]).shape == columns["y"].shape
        assert torch.isfinite(made(columns["x"])).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("kind", ["steps", "whole sequences"])
def test_padded_steps_change_no_output_and_no_gradient(name: str, kind: str, dtype: torch.dtype) -> None:
    """C15."""
    made, columns = build(name, kind, dtype), batch(kind, dtype)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    outputs, slopes = step(made, columns)
    for more, rows in ((4, 0), (0, 2), (3, 1)):
        longer, own = step(made, padded(columns, more, rows))
        longer = longer[:B, :T] if kind == "steps" else longer[:B]
        counts = columns["mask"] if kind == "steps" else torch.ones(B, dtype=torch.bool)
        torch.testing.assert_close(longer[counts], outputs[counts], rtol=tolerance, atol=tolerance)
        assert own.keys() == slopes.keys()
        for parameter, slope in slopes.items():
            torch.testing.assert_close(own[parameter], slope, rtol=tolerance, atol=tolerance)


def test_a_batch_of_lengths_5_and_9_trains(name: str) -> None:
    """C15."""
    made, columns = build(name), {key: value[:2] for key, value in batch().items()}
    assert columns["mask"].sum(1).tolist() == [9, 5]
    optimizer = torch.optim.Adam(made.parameters(), lr=0.03)
    before = loss_of(made.eval(), columns)
    made.train()
    for i in range(20):
        set_keys(made, seed=1, step=i)
        optimizer.zero_grad()
        loss_of(made, columns).backward()
        optimizer.step()
    assert loss_of(made.eval(), columns) < 0.9 * before.detach()


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_network_knows_no_later_step(name: str) -> None:
    made, columns = build(name).eval(), batch()
    columns = {key: value[:1] for key, value in columns.items()}
    before = TASK.forward(made, columns)
    for i in (1, 4, 8):
        later = columns["x"].clone()
        later[:, i:] += 1
        after = TASK.forward(made, {**columns, "x": later})
        assert torch.equal(before[:, :i], after[:, :i]) and not torch.equal(before[:, i], after[:, i])


def test_dropout_is_on_in_training_and_off_in_evaluation(name: str) -> None:
    made, columns = build(name), batch()
    if not any(float(site.p) for _, site in noise_sites(made)):
        pytest.skip("has no dropout")
    set_keys(made, seed=1, step=1)
    first = TASK.forward(made, columns)
    set_keys(made, seed=1, step=2)
    assert not torch.equal(first, TASK.forward(made, columns))
    made.eval()
    assert torch.equal(TASK.forward(made, columns), TASK.forward(made, columns))


@pytest.mark.parametrize("trailing", [(), (2,)], ids=["one target", "two targets"])
def test_several_quantiles_are_a_last_axis(name: str, kind: str, trailing: tuple[int, ...]) -> None:
    shapes = {**SPECS[kind].shapes, "y": (*SPECS[kind].shapes["y"], *trailing)}
    columns = batch(kind)
    columns["y"] = (
        columns["y"].reshape(*columns["y"].shape, *[1] * len(trailing)).expand(*columns["y"].shape, *trailing)
    )
    task = Regression(loss=Quantile(), inputs=("x", "mask", "t"), levels=(0.1, 0.5, 0.9))
    outputs = task.forward(build(name, kind, shapes=shapes, outputs=3), columns)
    assert outputs.shape == (*columns["y"].shape, 3)
    assert task.loss_sums(outputs, columns)["quantile"].shape == ()


def test_the_output_starts_in_the_unit_of_the_targets(name: str, kind: str) -> None:
    far = build(name, kind, target_mean=500.0, target_std=20.0).eval()
    assert type(far) is Rescaled
    outputs = TASK.forward(far, batch(kind)).detach()
    near = TASK.forward(
        SMALL[name].model_copy(update={"rescale": False}).build(SPECS[kind]).double().eval(), batch(kind)
    )
    assert 400 < outputs.mean() < 600 and near.abs().max() < 100
    plain = far.network.double()
    torch.testing.assert_close(outputs, 500 + 20 * TASK.forward(plain, batch(kind)))


K = 3


def test_members_trained_together_are_what_each_is_alone_or_the_model_says_why_not(name: str, kind: str) -> None:
    torch.manual_seed(1)
    models = [SMALL[name].build(replace(SPECS[kind], target_mean=0.1 * k)).double().train() for k in range(K)]
    reason = why_not(models[0])
    if "neural_ode" in name or name == "acla":
        assert reason is not None and "step sizes" in reason
        return
    assert reason is None
    columns = batch(kind)
    several = {key: torch.stack([value * (k + 1) if value.is_floating_point() else value for k in range(K)])
               for key, value in columns.items()}  # fmt: skip
    inputs = [several["x"]] + ([several["mask"]] if "mask" in several else [])
    mask = columns.get("mask") if kind == "steps" else None

    def objective(outputs: Tensor, y: Tensor) -> Tensor:
        error = (outputs - y).square()
        return (error if mask is None else torch.where(mask, error, 0)).sum()

    for k, model in enumerate(models):
        set_keys(model, seed=k, step=0)
    got = together(models, inputs, objective, (several["y"],))
    assert_same(got, alone(models, inputs, objective, (several["y"],)), 1e-11)


def test_every_network_of_the_recipe_is_in_this_suite() -> None:
    networks = {section for section in recipe.models.values() if not issubclass(section, EstimatorConfig)}
    assert networks == {type(config) for config in SMALL.values()}


def test_a_neural_ode_that_learned_from_times_wants_them() -> None:
    columns = batch()
    del columns["t"]
    with pytest.raises(ModelError, match="follows the times of the steps"):
        TASK.forward(build("neural_ode"), columns)
