"""The loss registry of the battery group's guide, its five losses, and losses of one's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from paceline.errors import ConfigError, ModelError
from paceline.losses import LOSSES
from paceline.recipes.battery.compat import BaseLoss, LossRegistry, MSELoss, PercentageLoss, PhysicsInformedLoss
from paceline.recipes.battery.compat.criterion import OfCriterion, loss_of
from paceline.recipes.battery.compat.registry import LossNameError
from paceline.types import DataSpec

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(0)
PRED, TARGET = (torch.tensor(RNG.uniform(0.5, 1.5, 40), dtype=torch.float64) for _ in range(2))
NAMES = ["mse", "physics_informed", "huber", "mape", "mae"]


@pytest.fixture
def own(monkeypatch):
    """A registry that forgets what a test adds."""
    monkeypatch.setattr(LossRegistry, "_added", {})
    return LossRegistry


def test_the_registry_lists_the_five_in_the_guide_s_order():
    """C28."""
    assert LossRegistry.list_available() == NAMES
    assert set(NAMES) < set(LOSSES)  # the core's names are the same


def test_names_stand_for_the_guide_s_classes():
    """C29."""
    classes = [LossRegistry.get_class(name).__name__ for name in NAMES]
    assert classes == ["MSELoss", "PhysicsInformedLoss", "HuberLoss", "PercentageLoss", "MAELoss"]
    assert all(issubclass(LossRegistry.get_class(name), BaseLoss) for name in NAMES)


def test_an_unknown_name_lists_those_that_there_are():
    """C33: and an unknown parameter is named."""
    with pytest.raises(ValueError, match=r"got: hubert\ntry: huber \(available: mse, physics_informed, huber"):
        LossRegistry.get("hubert")
    with pytest.raises(TypeError, match="got: delt\ntry: delta"):
        LossRegistry.get("huber", delt=0.5)
    with pytest.raises(ConfigError, match=r"where: loss\.delta"):
        LossRegistry.get("huber", delta=-1.0)


def test_a_loss_is_called_with_predictions_and_targets():
    """C34."""
    found = LossRegistry.get("huber", delta=0.5)(PRED, TARGET)
    assert found.item() == pytest.approx(torch.nn.HuberLoss(delta=0.5)(PRED, TARGET).item(), abs=1e-15)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_every_loss_reduces_in_three_ways(name, reduction):
    """C35."""
    assert LossRegistry.get(name).reduction == "mean"
    found = LossRegistry.get(name, reduction=reduction)(PRED, TARGET)
    each = {
        "mse": (PRED - TARGET) ** 2, "physics_informed": (PRED - TARGET) ** 2, "mae": (PRED - TARGET).abs(),
        "huber": torch.nn.functional.huber_loss(PRED, TARGET, reduction="none"),
        "mape": 100 * ((PRED - TARGET) / TARGET).abs(),
    }[name]  # fmt: skip
    expected = {"mean": each.mean(), "sum": each.sum(), "none": each}[reduction]
    torch.testing.assert_close(found, expected)


def test_another_reduction_is_refused():
    """C35: when it is made and when it is set."""
    with pytest.raises(ValueError, match="no such reduction"):
        LossRegistry.get("mse", reduction="median")
    loss = MSELoss()
    with pytest.raises(ValueError, match="no such reduction"):
        loss.reduction = "median"


@pytest.mark.parametrize("delta", [0.1, 1.0])
def test_huber_is_torch_s(delta):
    """C36: half the square below delta, a line of slope delta beyond."""
    for reduction in ("mean", "none"):
        ours = LossRegistry.get("huber", delta=delta, reduction=reduction)(PRED, TARGET)
        torch.testing.assert_close(ours, torch.nn.HuberLoss(delta=delta, reduction=reduction)(PRED, TARGET))
    two = LossRegistry.get("huber", reduction="none")(torch.tensor([0.5, 3.0]), torch.zeros(2))
    assert two.tolist() == [0.125, 2.5]


def test_physics_without_weights_is_the_squared_error():
    """C37."""
    loss = PhysicsInformedLoss()
    assert (loss.monotonicity_weight, loss.smoothness_weight) == (0.0, 0.0)
    pred, target = PRED.reshape(8, 5), TARGET.reshape(8, 5)
    torch.testing.assert_close(loss(pred, target), torch.nn.functional.mse_loss(pred, target))


def test_rises_over_time_are_penalised():
    """C38: of 1, .9, 1.1, 1.0 the rises are 0, .2, 0; their mean is .0667. A falling sequence has none."""
    loss = PhysicsInformedLoss(monotonicity_weight=1.0)
    up = torch.tensor([[1.0, 0.9, 1.1, 1.0]])
    assert loss(up, up).item() == pytest.approx(0.2 / 3)
    down = torch.tensor([[1.0, 0.9, 0.8, 0.7]])
    assert loss(down, down).item() == 0.0


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 2)], ids=str)
def test_rows_have_no_penalty_over_time(shape):
    """C38: 0, and no mean of nothing."""
    pred = torch.rand(shape)
    loss = PhysicsInformedLoss(monotonicity_weight=1.0, smoothness_weight=1.0)(pred, pred)
    assert loss.item() == 0.0


def test_time_is_the_axis_of_steps_and_not_that_of_targets():
    """C38: two targets of which one rises from each to the next, and both fall over time."""
    falling = torch.stack([torch.tensor([0.5, 0.4, 0.3]), torch.tensor([1.0, 0.9, 0.8])], dim=-1)[None]
    assert falling.shape == (1, 3, 2)
    assert PhysicsInformedLoss(monotonicity_weight=1.0)(falling, falling).item() == 0.0


def test_bends_are_penalised_by_their_square():
    """C39: 0, 1, 4 has the second difference 2; two steps have none, and a line over uneven times has none."""
    loss = PhysicsInformedLoss(smoothness_weight=1.0)
    bent = torch.tensor([[0.0, 1.0, 4.0]])
    assert loss(bent, bent).item() == pytest.approx(4.0)
    assert loss(bent[:, :2], bent[:, :2]).item() == 0.0
    t = torch.tensor([[0.0, 1.0, 5.0, 6.0]])
    line = 1 - 0.1 * t
    assert loss(line, line, t).item() == pytest.approx(0.0, abs=1e-12)
    assert loss(line, line).item() > 0.01


def test_masked_steps_count_nowhere():
    """C39."""
    pred = torch.tensor([[1.0, 0.9, 0.8, 5.0]], requires_grad=True)
    target = torch.tensor([[1.0, 1.0, 0.8, -3.0]])
    mask = torch.tensor([[True, True, True, False]])
    for name in NAMES:
        kwargs = {"monotonicity_weight": 1.0, "smoothness_weight": 1.0} if name == "physics_informed" else {}
        loss = LossRegistry.get(name, **kwargs)
        assert loss(pred, target, mask=mask).item() == pytest.approx(loss(pred[:, :3], target[:, :3]).item())
        (gradient,) = torch.autograd.grad(loss(pred, target, mask=mask), pred)
        assert gradient[0, 3] == 0


def test_a_percentage_of_zero_is_finite():
    """C41: in percent, with a finite loss and gradient where the target is 0."""
    loss = PercentageLoss()
    assert loss.epsilon == 1e-8
    assert loss(torch.tensor([0.9]), torch.tensor([1.0])).item() == pytest.approx(10.0)
    pred = torch.tensor([0.1, 0.5], requires_grad=True)
    found = loss(pred, torch.tensor([0.0, 0.5]))
    found.backward()
    assert torch.isfinite(found) and torch.isfinite(pred.grad).all()


def test_mae_is_torch_s_l1():
    """C42."""
    torch.testing.assert_close(LossRegistry.get("mae")(PRED, TARGET), torch.nn.L1Loss()(PRED, TARGET))


def test_a_loss_of_one_s_own_is_registered_and_keeps_its_reduction(own):
    """C43: it is listed, takes its parameters, and its name is taken."""

    @own.register("my_custom_loss")
    class MyCustomLoss(BaseLoss):
        def __init__(self, alpha: float = 1.0, reduction: str = "mean"):
            super().__init__(reduction)
            self.alpha = alpha

        def forward(self, pred: Tensor, target: Tensor, t: Tensor | None = None) -> Tensor:
            return self.reduce(self.alpha * (pred - target) ** 2)

    assert own.list_available() == [*NAMES, "my_custom_loss"]
    assert own.get("my_custom_loss", alpha=2)(PRED, TARGET).item() == pytest.approx(
        2 * torch.nn.functional.mse_loss(PRED, TARGET).item()
    )
    assert own.get("my_custom_loss", reduction="none")(PRED, TARGET).shape == PRED.shape
    for name in ("mse", "my_custom_loss"):
        with pytest.raises(LossNameError, match="exists already"):
            own.register(name)(MSELoss)
    assert own.register("my_custom_loss")(MyCustomLoss) is MyCustomLoss  # a notebook's cell, run again
    with pytest.raises(LossNameError, match="derives from BaseLoss"):
        own.register("other")(torch.nn.MSELoss)


SPEC = DataSpec(shapes={"x": (4, 1), "y": (4,), "mask": (4,), "t": (4,)}, target_mean=0.9, target_std=0.1)


class Asked(BaseLoss):
    """Notes what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = []

    def forward(self, pred: Tensor, target: Tensor, t: Tensor | None = None) -> Tensor:
        self.calls.append((tuple(pred.shape), None if t is None else t.tolist()))
        return (pred - target).square().mean()


class AskedWithMask(BaseLoss):
    """Notes the mask too."""

    def __init__(self) -> None:
        super().__init__()
        self.masks = []

    def forward(self, pred: Tensor, target: Tensor, t: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        self.masks.append(mask)
        return (pred - target).square()[mask].mean()


def padded(**more: Tensor) -> dict[str, Tensor]:
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    return {"x": torch.zeros(2, 4, 1), "y": torch.where(mask, torch.rand(2, 4), 0), "mask": mask, **more}


def per_batch(loss: OfCriterion, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
    return loss.sums(outputs, batch)["loss"] / loss.weights(batch)["loss"]


@pytest.mark.parametrize("timed", [False, True], ids=["without times", "with times"])
def test_a_loss_without_a_mask_gets_the_valid_steps_alone(timed):
    """C40: and `t` where the samples have one, sample by sample, so that no sequence runs into the next."""
    own, outputs = Asked(), torch.rand(2, 4)
    batch = padded(t=torch.tensor([[0.0, 1, 2, 3], [0.0, 5, 0, 0]])) if timed else padded()
    found = per_batch(loss_of(own, SPEC), outputs, batch)
    mask = batch["mask"]
    assert found.item() == pytest.approx((outputs - batch["y"])[mask].square().mean().item(), rel=1e-6)
    expected = [((1, 4), [[0, 1, 2, 3]]), ((1, 2), [[0, 5]])] if timed else [((6,), None)]
    assert own.calls == expected


def test_a_loss_with_a_mask_is_given_it():
    """C40."""
    own, batch = AskedWithMask(), padded()
    per_batch(loss_of(own, SPEC), torch.rand(2, 4), batch)
    assert own.masks[0] is batch["mask"]


def test_in_training_what_is_not_reduced_is_averaged():
    """C35: `none` as the mean, `sum` as the sum."""
    batch, outputs = padded(), torch.rand(2, 4)
    squared = (outputs - batch["y"]).square()[batch["mask"]]
    for reduction, expected in (("none", squared.mean()), ("sum", squared.sum())):
        found = per_batch(loss_of(MSELoss(reduction=reduction), SPEC), outputs, batch)
        torch.testing.assert_close(found, expected)


def test_the_five_become_the_core_s_own():
    kinds = [type(loss_of(LossRegistry.get(name), SPEC)).__name__ for name in NAMES]
    assert kinds == ["Mse", "PhysicsInformed", "Huber", "Mape", "Mae"]
    assert loss_of(LossRegistry.get("huber", delta=0.3), SPEC).delta == 0.3
    floor = loss_of(PercentageLoss(), SPEC).floor
    assert floor == pytest.approx(0.01 * np.hypot(0.9, 0.1))  # in training no target counts as nearer to 0


def test_a_loss_that_cannot_be_trained_with_is_an_error():
    learned = Asked()
    learned.weight = torch.nn.Parameter(torch.ones(()))
    with pytest.raises(ModelError, match="parameters, which are not trained"):
        loss_of(learned, SPEC)

    class Strange(BaseLoss):
        def forward(self, pred, target, t=None):
            return torch.ones(3) if pred.ndim == 2 else 1.0

    with pytest.raises(ModelError, match="one number, or one per sample"):
        per_batch(loss_of(Strange(), SPEC), torch.rand(2, 4), {"y": torch.rand(2, 4), "x": torch.zeros(2, 4, 1)})
    with pytest.raises(ModelError, match="must return a tensor"):
        per_batch(loss_of(Strange(), SPEC), torch.rand(2), {"y": torch.rand(2), "x": torch.zeros(2, 1)})
    with pytest.raises(TypeError, match="abstract"):
        BaseLoss()
