"""`FocalLoss` and `build_criterion`, and how `fit_model` takes a criterion of one's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paceline.errors import ModelError
from paceline.losses.classification import CrossEntropy, Focal
from paceline.recipes.pain.compat import FocalLoss, build_criterion, prepare_config
from paceline.recipes.pain.compat.losses import loss_of

pytestmark = pytest.mark.fast

CPU = torch.device("cpu")
LOGITS = torch.tensor(np.random.default_rng(0).normal(size=(7, 3)), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 2, 1, 0, 1])

# Two samples of two classes with p_t = 3/4 and 1/3: logits are logarithms of odds.
TWO = torch.tensor([[math.log(3.0), 0.0], [math.log(2.0), 0.0]], dtype=torch.float64)
TWO_Y = torch.tensor([0, 1])
BY_HAND = [(1 / 4) ** 2 * -math.log(3 / 4), (2 / 3) ** 2 * -math.log(1 / 3)]


def test_without_gamma_and_weights_it_is_cross_entropy():
    """A47."""
    expected = nn.functional.cross_entropy(LOGITS, Y)
    assert FocalLoss(gamma=0)(LOGITS, Y).item() == pytest.approx(expected.item(), abs=1e-6)
    loss = FocalLoss()
    assert (loss.alpha, loss.gamma, loss.reduction) == (None, 2.0, "mean")
    positional = FocalLoss(torch.ones(3), 1.5, "sum")
    assert (positional.alpha.tolist(), positional.gamma, positional.reduction) == ([1, 1, 1], 1.5, "sum")


def test_two_samples_by_hand():
    """A48."""
    assert FocalLoss(reduction="none")(TWO, TWO_Y).tolist() == pytest.approx(BY_HAND, abs=1e-12)
    assert FocalLoss()(TWO, TWO_Y).item() == pytest.approx(sum(BY_HAND) / 2, abs=1e-12)


def test_the_weight_multiplies_after_the_power():
    """A49: p is that of the plain cross-entropy, not of the weighted one."""
    found = FocalLoss(alpha=torch.tensor([0.5, 4.0]), reduction="none")(TWO, TWO_Y)
    assert found.tolist() == pytest.approx([0.5 * BY_HAND[0], 4.0 * BY_HAND[1]], abs=1e-12)
    weighted = math.exp(4.0 * math.log(1 / 3))  # what the guide's code takes for p
    assert found[1].item() != pytest.approx((1 - weighted) ** 2 * 4.0 * math.log(3), abs=0.1)


def test_the_three_reductions():
    """A50."""
    each = FocalLoss(reduction="none")(LOGITS, Y)
    assert each.shape == (7,)
    assert FocalLoss(reduction="sum")(LOGITS, Y).item() == pytest.approx(each.sum().item())
    assert FocalLoss(reduction="sum")(LOGITS, Y).item() == pytest.approx(7 * FocalLoss()(LOGITS, Y).item())
    with pytest.raises(ValueError, match="mean, sum, none"):
        FocalLoss(reduction="foo")


@pytest.mark.parametrize("wrong", [{"gamma": -1}, {"gamma": math.nan}, {"label_smoothing": 1}, {"alpha": [[1.0]]}])
def test_a_focal_loss_that_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).replace("_", " ")):
        FocalLoss(**wrong)


def test_the_flag_chooses_the_criterion():
    """A51."""
    assert type(build_criterion(prepare_config("x", {"use_focal_loss": True}))) is FocalLoss
    assert type(build_criterion(prepare_config("x", {}))) is nn.CrossEntropyLoss
    assert type(build_criterion({})) is nn.CrossEntropyLoss


@pytest.mark.parametrize("focal", [False, True])
def test_classes_are_weighted_by_inverse_frequency_with_a_mean_of_one(focal):
    """A52: also where a class has no sample."""
    config = {"use_class_weights": True, "use_focal_loss": focal}

    def weights(counts) -> Tensor:
        criterion = build_criterion(config, counts)
        return criterion.alpha if focal else criterion.weight

    found = weights([56, 94, 511])
    assert (found[0] / found[2]).item() == pytest.approx(511 / 56, rel=1e-6)
    assert (found[1] / found[2]).item() == pytest.approx(511 / 94, rel=1e-6)
    assert found.mean().item() == pytest.approx(1, rel=1e-6)
    assert weights(np.array([56, 0, 511])).tolist() == pytest.approx([1022 / 567, 1, 112 / 567], rel=1e-6)
    assert build_criterion({"use_focal_loss": focal}, [56, 94]) is not None
    unweighted = build_criterion({"use_focal_loss": focal}, [56, 94])
    assert (unweighted.alpha if focal else unweighted.weight) is None


def test_weights_without_counts_are_a_warning(caplog):
    assert build_criterion({"use_class_weights": True}).weight is None
    assert caplog.messages == ["use_class_weights needs class_counts: the classes are not weighted"]


def test_the_weights_move_with_the_module():
    """A53: as a buffer; `meta` is a device that needs no hardware."""
    assert dict(FocalLoss(alpha=[1.0, 2.0]).named_buffers())["alpha"].tolist() == [1.0, 2.0]
    assert FocalLoss(alpha=[1.0, 2.0]).to("meta").alpha.device.type == "meta"
    assert build_criterion({"use_class_weights": True}, [1, 2]).to("meta").weight.device.type == "meta"


def test_smoothing_is_the_config_s_and_zero_where_there_is_no_key():
    """A54."""
    assert build_criterion(prepare_config("x", {})).label_smoothing == 0.05
    assert build_criterion({}).label_smoothing == 0.0


def test_the_focal_loss_is_smoothed_too():
    """A55: never left out. By the definition, summed over classes by hand."""
    criterion = build_criterion(prepare_config("x", {"use_focal_loss": True}))
    assert criterion.label_smoothing == 0.05
    p = LOGITS.softmax(1)
    target = torch.full_like(p, 0.05 / 3)
    target[torch.arange(7), Y] += 0.95
    expected = (target * (1 - p) ** 2 * -p.log()).sum(1).mean()
    assert criterion(LOGITS, Y).item() == pytest.approx(expected.item(), abs=1e-12)
    assert criterion(LOGITS, Y).item() != pytest.approx(FocalLoss()(LOGITS, Y).item(), abs=1e-4)


def test_weights_beside_the_focal_loss_are_a_warning(caplog):
    """A56."""
    build_criterion({"use_class_weights": True, "use_focal_loss": True}, [1, 2])
    assert len(caplog.messages) == 1
    assert "use_class_weights and use_focal_loss" in caplog.text
    assert caplog.records[0].levelname == "WARNING"


def value_of(criterion) -> tuple[float, Tensor]:
    """The loss that the engine divides and differentiates, and its gradient."""
    logits = LOGITS.clone().requires_grad_()
    loss, batch = loss_of(criterion, CPU), {"x": LOGITS, "y": Y}
    (total,), (weight,) = loss.sums(logits, batch).values(), loss.weights(batch).values()
    value = total / weight
    (gradient,) = torch.autograd.grad(value, logits)
    return value.item(), gradient


class Margin(nn.Module):
    """A criterion of somebody's own."""

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        return nn.functional.multi_margin_loss(logits, y)


OWN = {
    "cross-entropy": nn.CrossEntropyLoss(label_smoothing=0.1),
    "weighted cross-entropy": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)),
    "a sum": nn.CrossEntropyLoss(reduction="sum"),
    "an ignored class": nn.CrossEntropyLoss(ignore_index=1),
    "focal": FocalLoss(alpha=[1.0, 2.0, 0.5], label_smoothing=0.1),
    "focal sum": FocalLoss(reduction="sum"),
    "a module": Margin(),
    "a function": lambda logits, y: nn.functional.cross_entropy(logits * 2, y),
}


@pytest.mark.parametrize("name", OWN)
def test_a_criterion_of_one_s_own_is_what_is_minimised(name):
    """Its value on the batch, and its gradient."""
    logits = LOGITS.clone().requires_grad_()
    expected = OWN[name](logits, Y)
    (gradient,) = torch.autograd.grad(expected, logits)
    value, found = value_of(OWN[name])
    assert value == pytest.approx(expected.item(), rel=1e-7)
    assert torch.allclose(found, gradient, rtol=1e-6, atol=1e-12)


def test_one_value_per_sample_is_averaged():
    value, _ = value_of(nn.CrossEntropyLoss(reduction="none"))
    assert value == pytest.approx(nn.functional.cross_entropy(LOGITS, Y).item())


def test_the_guide_s_criteria_become_paceline_s_own():
    """They carry sums and weights, so that an epoch's loss has the right denominator."""
    assert loss_of(build_criterion({"label_smoothing": 0.05}), CPU) == CrossEntropy(label_smoothing=0.05)
    assert loss_of(FocalLoss([1.0, 3.0], 1.5), CPU) == Focal(gamma=1.5, class_weights=(1.0, 3.0))


def test_a_criterion_that_cannot_be_honoured_is_refused():
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

    with pytest.raises(ModelError, match="parameters, which are not trained"):
        loss_of(Learned(), CPU)
    with pytest.raises(ModelError, match="cannot be called"):
        loss_of("cross_entropy", CPU)
    with pytest.raises(ModelError, match="one number, or one per sample"):
        value_of(lambda logits, y: logits)
