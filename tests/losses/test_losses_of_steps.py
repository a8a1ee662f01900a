"""Losses of numbers: their values against torch's and scikit-learn's, and targets at every valid step.

Shapes: B batch, T time, D targets, Q quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn
from torch.func import grad, vmap

from paceline.errors import ModelError
from paceline.losses import LOSSES
from paceline.losses.config import HuberConfig, MapeConfig, MseConfig, PhysicsInformedConfig, QuantileConfig, doubtful
from paceline.losses.physics import PhysicsInformed, second_differences
from paceline.losses.positions import count_positions, has_steps
from paceline.losses.regression import Huber, Mae, Mape, Mse, Quantile
from paceline.types import DataSpec, Loss

pytestmark = pytest.mark.fast

LENGTHS = (5, 9)
OF_ERRORS: dict[str, tuple[Loss, Callable[[Tensor, Tensor], Tensor]]] = {
    "mse": (Mse(), nn.MSELoss()),
    "mae": (Mae(), nn.L1Loss()),
    "huber": (Huber(delta=0.5), nn.HuberLoss(delta=0.5)),
    "mape": (Mape(), lambda p, y: 100 * ((p - y) / y).abs().mean()),
    "quantile": (
        Quantile(levels=(0.3,)),
        lambda p, y: torch.tensor(sk.mean_pinball_loss(y, p, alpha=0.3), dtype=p.dtype),
    ),
}


def sequences(trailing: tuple[int, ...] = (), longest: int = 9) -> tuple[Tensor, dict[str, Tensor]]:
    """Predictions and a batch of two sequences, of 5 and 9 steps, with NaN wherever there is no step."""
    draw = torch.Generator().manual_seed(0)
    mask = torch.arange(longest) < torch.tensor(LENGTHS)[:, None]
    y, outputs = (0.2 + torch.rand(2, 9, *trailing, generator=draw, dtype=torch.float64) for _ in range(2))
    t = torch.rand(2, 9, generator=draw, dtype=torch.float64).cumsum(1)
    wide = mask.reshape(2, longest, *[1] * len(trailing))
    found = [torch.cat([each, torch.zeros(2, longest - 9, *each.shape[2:])], 1) for each in (outputs, y, t)]
    outputs, y = (torch.where(wide, each, math.nan) for each in found[:2])
    return outputs, {"y": y, "mask": mask, "t": torch.where(mask, found[2], math.nan)}


def mean(loss: Loss, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
    weights = loss.weights(batch)
    return sum(total / weights[term] for term, total in loss.sums(outputs, batch).items())


def valid(values: Tensor) -> Tensor:
    return torch.cat([values[i, :n] for i, n in enumerate(LENGTHS)])


@pytest.mark.parametrize("name", OF_ERRORS)
@pytest.mark.parametrize("trailing", [(), (2,)], ids=["one target", "two targets"])
def test_a_loss_of_steps_is_the_mean_over_all_valid_steps(name: str, trailing: tuple[int, ...]) -> None:
    """C15: of lengths 5 and 9 all 14 steps count alike; what stands on padding, even NaN, changes nothing."""
    loss, oracle = OF_ERRORS[name]
    outputs, batch = sequences(trailing)
    assert has_steps(batch) and int(count_positions(batch)) == sum(LENGTHS)
    expected = oracle(valid(outputs), valid(batch["y"]))
    torch.testing.assert_close(mean(loss, outputs, batch), expected, rtol=1e-13, atol=0)
    slopes = grad(lambda out: mean(loss, out, batch))(outputs)
    assert torch.isfinite(slopes).all() and (slopes[0, LENGTHS[0] :] == 0).all() and (valid(slopes) != 0).all()
    longer, more = sequences(trailing, longest=12)
    torch.testing.assert_close(mean(loss, longer, more), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", OF_ERRORS)
def test_a_masked_sample_counts_no_step(name: str) -> None:
    loss, oracle = OF_ERRORS[name]
    outputs, batch = sequences()
    batch["sample_mask"] = torch.tensor([True, False])
    torch.testing.assert_close(mean(loss, outputs, batch), oracle(outputs[0, :5], batch["y"][0, :5]))
    del batch["mask"]
    batch["x"] = torch.zeros(2, 9, 3)  # sequences of one length: the steps are known by x
    batch["sample_mask"] = torch.tensor([False, True])
    torch.testing.assert_close(mean(loss, outputs, batch), oracle(outputs[1], batch["y"][1]))


@pytest.mark.parametrize(
    ("name", "torchs"),
    [("mse", nn.MSELoss()), ("mae", nn.L1Loss()), ("huber", nn.HuberLoss())],
    ids=["mse", "mae (C42)", "huber, delta 1 by default (C36)"],
)
def test_a_loss_by_its_name_is_torchs(name: str, torchs: nn.Module) -> None:
    outputs, y = 3 * torch.randn(50, dtype=torch.float64), torch.randn(50, dtype=torch.float64)
    loss = LOSSES[name].model_validate({"name": name}).build(DataSpec(shapes={"x": (2,), "y": ()}))
    torch.testing.assert_close(mean(loss, outputs, {"y": y}), torchs(outputs, y), rtol=1e-14, atol=0)


def test_huber_is_half_the_square_below_delta_and_straight_beyond() -> None:
    """C36."""
    values = [mean(Huber(delta=0.5), torch.tensor([d]), {"y": torch.zeros(1)}).item() for d in (0.4, -0.5, 0.9, -2.0)]
    assert values == pytest.approx([0.08, 0.125, 0.5 * (0.9 - 0.25), 0.5 * (2 - 0.25)])


@pytest.mark.parametrize(("levels", "shape"), [((0.5,), (40,)), ((0.1, 0.5, 0.9), (40, 3))], ids=["one", "three"])
def test_the_quantile_loss_is_scikit_learns_mean_over_the_levels(levels: tuple[float, ...], shape: object) -> None:
    outputs, y = torch.randn(shape, dtype=torch.float64), torch.randn(40, dtype=torch.float64)
    columns = outputs.reshape(40, -1).T
    expected = np.mean([sk.mean_pinball_loss(y, p, alpha=a) for a, p in zip(levels, columns, strict=True)])
    assert float(mean(Quantile(levels=levels), outputs, {"y": y})) == pytest.approx(expected, rel=1e-13)


def test_quantiles_of_steps_count_valid_steps() -> None:
    outputs, batch = sequences()
    outputs = torch.stack([outputs - 0.1, outputs, outputs + 0.2], -1)
    found = mean(Quantile(), outputs, batch)
    flat = mean(Quantile(), valid(outputs), {"y": valid(batch["y"])})
    torch.testing.assert_close(found, flat, rtol=1e-13, atol=0)


def test_a_model_with_one_output_is_told_how_many_quantiles_are_asked_for() -> None:
    with pytest.raises(ModelError, match=r"asks for 3 quantiles") as caught:
        Quantile().sums(torch.zeros(4, 1), {"y": torch.zeros(4)})
    assert "loss.levels=[0.5]" in str(caught.value)


def test_mape_is_in_percent_and_finite_with_a_finite_gradient_at_a_target_of_zero() -> None:
    """C41: by default epsilon is 1e-8."""
    y = torch.tensor([0.0, 0.5, -2.0], requires_grad=False)
    outputs = torch.tensor([0.1, 0.6, -1.0], requires_grad=True)
    loss = mean(Mape(), outputs, {"y": y})
    loss.backward()
    assert loss.item() == pytest.approx((100 * 0.1 / 1e-8 + 20 + 50) / 3, rel=1e-6)
    assert torch.isfinite(outputs.grad).all()
    assert MapeConfig().epsilon == 1e-8
    assert float(mean(Mape(), torch.tensor([0.9]), {"y": torch.tensor([0.8])})) == pytest.approx(12.5)


def test_targets_near_zero_are_bounded_in_training_and_warned_of() -> None:
    """C41: an error of a target near 0 counts at most 100 times one of a usual target."""
    spec = DataSpec(shapes={"x": (2,), "y": ()}, target_mean=0.6, target_std=0.8)  # root mean square 1
    loss = MapeConfig().build(spec)
    y, outputs = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 1.5], requires_grad=True)
    mean(loss, outputs, {"y": y}).backward()
    assert outputs.grad.tolist() == pytest.approx([100 / 0.01 / 2, 100 / 2])
    warned = doubtful(MapeConfig(), spec, np.array([0.0, 0.004, 1.0, -0.9]))
    assert "2 of 4 training targets are nearer to 0 than 0.01, 1 of them 0" in warned
    assert doubtful(MapeConfig(), spec, np.array([0.9, 1.0])) == ""
    assert MapeConfig(near_zero=0).build(spec) == Mape(epsilon=1e-8, floor=1e-8)


# Physics-informed. Time goes down the axis; one unit between steps unless times are given.
FALLING = torch.tensor([[1.0, 0.9, 0.7, 0.6]], dtype=torch.float64)
RISING = torch.tensor([[1.0, 1.2, 1.1, 1.4]], dtype=torch.float64)


def terms(outputs: Tensor, **columns: Tensor) -> dict[str, float]:
    """Every term's mean, for both weights 1; targets of 0 at every step unless given."""
    loss = PhysicsInformed(monotonicity_weight=1.0, smoothness_weight=1.0)
    batch = {"y": torch.zeros_like(outputs), "x": torch.zeros(*outputs.shape[:2], 1), **columns}
    weights = loss.weights(batch)
    return {term: float(total / weights[term]) for term, total in loss.sums(outputs, batch).items()}


def test_only_predictions_that_rise_over_time_are_penalised_by_their_mean_rise() -> None:
    """C38."""
    assert terms(FALLING)["monotonicity"] == 0
    assert terms(RISING)["monotonicity"] == pytest.approx((0.2 + 0.3) / 3)
    mask = torch.tensor([[True, True, True, False]])
    assert terms(RISING, mask=mask)["monotonicity"] == pytest.approx(0.2 / 2)


def test_without_steps_in_time_there_is_no_penalty_and_nothing_is_nan() -> None:
    """C38, C39: (B, 1) and (B, D) are targets side by side; a sequence of one or two steps has no bend."""
    loss = PhysicsInformed(monotonicity_weight=1.0, smoothness_weight=1.0)
    for shape in ((4,), (4, 1), (4, 3)):
        outputs, batch = torch.randn(shape), {"y": torch.randn(shape), "x": torch.randn(4, 3)}
        assert loss.weights(batch) == {"mse": 4} and list(loss.sums(outputs, batch)) == ["mse"]
        torch.testing.assert_close(mean(loss, outputs, batch), nn.functional.mse_loss(outputs, batch["y"]))
    for steps, count in ((1, (0, 0)), (2, (2, 0)), (3, (4, 2))):
        outputs = torch.randn(2, steps, requires_grad=True)
        batch = {"y": torch.randn(2, steps), "x": torch.zeros(2, steps, 1)}
        weights, sums = loss.weights(batch), loss.sums(outputs, batch)
        assert (weights["monotonicity"], weights["smoothness"]) == pytest.approx(count)
        for term, n in (("monotonicity", 2), ("smoothness", 3)):
            assert steps >= n or sums[term] / weights[term] == 0
        sum(sums.values()).backward()
        assert torch.isfinite(outputs.grad).all()


def test_time_is_the_sequence_axis_whatever_the_number_of_targets() -> None:
    """C38."""
    both = torch.stack([FALLING, RISING], -1)  # (1, 4, 2)
    found = terms(both)
    assert found["monotonicity"] == pytest.approx((0.2 + 0.3) / 3 / 2)
    assert found["smoothness"] == pytest.approx((terms(FALLING)["smoothness"] + terms(RISING)["smoothness"]) / 2)


def test_smoothness_is_the_mean_squared_second_difference() -> None:
    """C39."""
    assert terms(RISING)["smoothness"] == pytest.approx(np.mean(np.diff(RISING.numpy()[0], n=2) ** 2))
    mask = torch.tensor([[True, True, True, False]])
    assert terms(RISING, mask=mask)["smoothness"] == pytest.approx((1.0 - 2 * 1.2 + 1.1) ** 2)


def test_smoothness_knows_uneven_times() -> None:
    """C39, C40: what bends only because its steps are uneven does not bend; even times change nothing."""
    t = torch.tensor([[0.0, 1.0, 3.0, 3.5]], dtype=torch.float64)
    straight = 1 - 0.2 * t
    assert terms(straight, t=t)["smoothness"] == pytest.approx(0, abs=1e-30)
    assert terms(straight)["smoothness"] > 0.01
    assert terms(RISING, t=7.0 * torch.arange(4.0)[None])["smoothness"] == pytest.approx(terms(RISING)["smoothness"])
    # A parabola y = t^2 has second derivative 2 everywhere; the mean spacing of these times is 3.5 / 3.
    bends = second_differences(t.square(), t)
    torch.testing.assert_close(bends, torch.full((1, 2), 2 * (3.5 / 3) ** 2, dtype=torch.float64))


def test_padding_changes_no_term_and_no_gradient_of_the_physics_informed_loss() -> None:
    """C15, C39, C40: lengths 5 and 9, with NaN on padding in predictions, targets and times."""
    loss = PhysicsInformed(monotonicity_weight=0.1, smoothness_weight=0.05)
    outputs, batch = sequences()
    alone = []
    for i, n in enumerate(LENGTHS):
        own = {"y": batch["y"][i : i + 1, :n], "t": batch["t"][i : i + 1, :n], "x": torch.zeros(1, n, 1)}
        alone.append((loss.sums(outputs[i : i + 1, :n], own), loss.weights(own)))
    for out, columns in ((outputs, batch), sequences(longest=12)):
        sums, weights = loss.sums(out, columns), loss.weights(columns)
        for term in ("mse", "monotonicity", "smoothness"):
            torch.testing.assert_close(sums[term], sum(own[0][term] for own in alone), rtol=1e-12, atol=0)
            assert int(weights[term]) == sum(own[1][term] for own in alone)
        slopes = grad(lambda o, c=columns: mean(loss, o, c))(out)
        assert torch.isfinite(slopes).all() and (slopes[0, 5:] == 0).all()


def test_with_weights_of_zero_by_default_it_is_mse() -> None:
    """C37, C32: both weights reach the loss."""
    outputs, batch = sequences()
    default = PhysicsInformedConfig().build(DataSpec(shapes={}))
    assert default == PhysicsInformed(monotonicity_weight=0.0, smoothness_weight=0.0)
    assert list(default.weights(batch)) == ["mse"]
    assert mean(default, outputs, batch) == mean(Mse(), outputs, batch)
    given = PhysicsInformedConfig(monotonicity_weight=0.1, smoothness_weight=0.05).build(DataSpec(shapes={}))
    assert (given.monotonicity_weight, given.smoothness_weight) == (0.1, 0.05)
    sums = given.sums(outputs, batch)
    assert float(sums["smoothness"]) == pytest.approx(
        0.05 / 0.5 * float(PhysicsInformed(smoothness_weight=0.5).sums(outputs, batch)["smoothness"])
    )


def test_penalties_on_targets_without_steps_are_said_to_be_none() -> None:
    rows, steps = DataSpec(shapes={"x": (3,), "y": ()}), DataSpec(shapes={"x": (9, 3), "y": (9,)})
    config = PhysicsInformedConfig(monotonicity_weight=0.1)
    assert "no steps in time" in doubtful(config, rows, np.ones(3))
    assert doubtful(config, steps, np.ones(3)) == doubtful(PhysicsInformedConfig(), rows, np.ones(3)) == ""
    assert doubtful(MseConfig(), rows, np.zeros(3)) == ""


ALL: dict[str, Loss] = {
    **{name: loss for name, (loss, _) in OF_ERRORS.items()},
    "three quantiles": Quantile(),
    "physics_informed": PhysicsInformed(monotonicity_weight=0.1, smoothness_weight=0.05),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("masked", [True, False])
def test_members_mapped_together_have_the_loss_and_gradient_of_each_alone(name: str, masked: bool) -> None:
    loss = ALL[name]
    several = [sequences(), sequences()]
    outputs = torch.stack([out + k for k, (out, _) in enumerate(several)])
    batch = {key: torch.stack([own[key] for _, own in several]) for key in several[0][1]}
    if not masked:
        outputs = outputs.nan_to_num(0.3)
        batch = {"y": batch["y"].nan_to_num(0.5), "x": torch.zeros(2, 2, 9, 1)}
    if name == "three quantiles":
        outputs = torch.stack([outputs - 0.1, outputs, outputs + 0.1], -1)
    dims = (0, dict.fromkeys(batch, 0))
    got = vmap(lambda out, own: mean(loss, out, own), in_dims=dims)(outputs, batch)
    slopes = vmap(grad(lambda out, own: mean(loss, out, own)), in_dims=dims)(outputs, batch)
    for k in range(2):
        own = {key: value[k] for key, value in batch.items()}
        torch.testing.assert_close(got[k], mean(loss, outputs[k], own), rtol=1e-13, atol=0)
        torch.testing.assert_close(slopes[k], grad(lambda out, c=own: mean(loss, out, c))(outputs[k]))


def test_the_core_knows_the_groups_losses_by_their_names_and_parameters() -> None:
    """C31: the parameter reaches the loss."""
    assert {"mse", "physics_informed", "huber", "mape", "mae"} <= set(LOSSES)
    spec = DataSpec(shapes={"x": (2,), "y": ()})
    assert LOSSES["huber"].model_validate({"name": "huber", "delta": 0.5}).build(spec) == Huber(delta=0.5)


@pytest.mark.parametrize(
    ("section", "bad"),
    [
        (HuberConfig, {"delta": 0}),
        (HuberConfig, {"reduction": "none"}),
        (MapeConfig, {"epsilon": 0}),
        (PhysicsInformedConfig, {"smoothness_weight": -1}),
        (QuantileConfig, {"levels": [0.5, 0.1]}),
        (QuantileConfig, {"levels": [0.0, 0.5]}),
        (QuantileConfig, {"levels": []}),
    ],
)
def test_settings_that_mean_nothing_are_refused(section: type, bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        section.model_validate(bad)
