"""The focal loss against worked numbers, cross-entropy, and finite differences."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from paceline.api.runs import configure
from paceline.config.validate import validate
from paceline.errors import ConfigError
from paceline.losses import LOSSES, FocalConfig
from paceline.losses.classification import CrossEntropy, Focal, cross_entropy, focal
from paceline.losses.config import MseConfig, doubtful
from paceline.run.build import build
from paceline.types import DataSpec
from tests.contracts.tiny import USE

pytestmark = pytest.mark.fast

WEIGHTS = (0.5, 2.0, 0.5)
# Two samples, three classes: p = (.5, .25, .25) with y = 0, and p = (.1, .1, .8) with y = 1.
LOGITS = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], dtype=torch.float64).log()
Y = torch.tensor([0, 1])


def example(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(9, 3, dtype=dtype, generator=generator), torch.arange(9) % 3


@pytest.mark.parametrize("smoothing", [0.0, 0.05])
def test_gamma_0_is_cross_entropy(smoothing: float) -> None:
    """A47."""
    logits, y = example()
    expected = F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(focal(logits, y, gamma=0.0, label_smoothing=smoothing), expected, rtol=1e-12, atol=0)
    single = focal(logits.float(), y, gamma=0.0, label_smoothing=smoothing)
    torch.testing.assert_close(single, expected.float(), rtol=1e-6, atol=1e-6)


def test_two_samples_worked_by_hand() -> None:
    """A48: (1 - .5)^2 (-log .5) = .1732868, and (1 - .1)^2 (-log .1) = 1.8650939."""
    torch.testing.assert_close(focal(LOGITS, Y, gamma=2.0), torch.tensor([0.1732868, 1.8650939], dtype=torch.float64))
    loss, batch = Focal(), {"y": Y}
    mean = loss.sums(LOGITS, batch)["focal"] / loss.weights(batch)["focal"]
    assert float(mean) == pytest.approx((0.1732868 + 1.8650939) / 2)


def test_the_weight_multiplies_after_the_probability_was_taken_without_it() -> None:
    """A49: for y = 0 with weight 3, (1 - .5)^2 * 3 * (-log .5) = .5198604; from the weighted CE p would be .125."""
    weights = torch.tensor([3.0, 0.25, 1.0], dtype=torch.float64)
    got = focal(LOGITS, Y, gamma=2.0, class_weights=weights)
    torch.testing.assert_close(got, torch.tensor([0.5198604, 0.25 * 1.8650939], dtype=torch.float64))


def test_the_mean_is_over_samples_weighted_or_not_and_the_sum_is_n_times_it() -> None:
    """A50, of the core: a loss carries its sum and the number to divide by."""
    logits, y = example()
    for weights in (None, WEIGHTS):
        loss = Focal(class_weights=weights)
        assert loss.weights({"y": y}) == {"focal": 9}
        tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        torch.testing.assert_close(loss.sums(logits, {"y": y})["focal"], focal(logits, y, class_weights=tensor).sum())


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_with_smoothing_every_class_has_its_own_focal_term(weights: tuple[float, ...] | None) -> None:
    """A55: smoothing is never ignored under the focal loss."""
    logits, y = example()
    e, gamma, w = 0.1, 1.5, weights or (1.0, 1.0, 1.0)
    p = logits.softmax(1)
    for i, got in enumerate(focal(logits, y, gamma=gamma, label_smoothing=e, class_weights=tensor_of(weights))):
        q = [e / 3 + (1 - e) * (c == int(y[i])) for c in range(3)]
        terms = [q[c] * w[c] * (1 - float(p[i, c])) ** gamma * -math.log(float(p[i, c])) for c in range(3)]
        assert float(got) == pytest.approx(sum(terms), rel=1e-12)
    smoothed = focal(logits, y, gamma=0.0, label_smoothing=e, class_weights=tensor_of(weights))
    torch.testing.assert_close(smoothed, cross_entropy(logits, y, label_smoothing=e, class_weights=tensor_of(weights)))


def tensor_of(weights: tuple[float, ...] | None) -> Tensor | None:
    return None if weights is None else torch.tensor(weights, dtype=torch.float64)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_is_that_of_finite_differences(gamma: float, smoothing: float) -> None:
    logits, y = example()
    logits.requires_grad_(True)
    options = {"gamma": gamma, "label_smoothing": smoothing, "class_weights": tensor_of(WEIGHTS)}
    assert torch.autograd.gradcheck(lambda z: focal(z, y, **options), [logits])


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_sample_that_is_certain_has_a_finite_gradient(gamma: float, smoothing: float) -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)
    focal(logits, torch.tensor([0, 0]), gamma=gamma, label_smoothing=smoothing).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(focal(logits, torch.tensor([0, 0]), gamma=gamma, label_smoothing=smoothing)).all()


def test_members_may_have_their_own_gamma_and_smoothing_under_vmap() -> None:
    y = torch.arange(9) % 3
    logits = torch.randn(4, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gamma, smoothing = torch.tensor([0.0, 0.5, 2.0, 3.0]).double(), torch.tensor([0.0, 0.1, 0.0, 0.3]).double()
    batch = {"y": y}
    together = vmap(lambda z, g, e: Focal(gamma=g, label_smoothing=e).sums(z, batch)["focal"])(logits, gamma, smoothing)
    for k in range(4):
        alone = focal(logits[k], y, gamma=float(gamma[k]), label_smoothing=float(smoothing[k])).sum()
        torch.testing.assert_close(together[k], alone, rtol=1e-13, atol=0)


def test_leading_axes_are_kept_and_half_precision_is_widened() -> None:
    logits, y = example(torch.float32)
    shaped = focal(logits.reshape(3, 3, 3), y.reshape(3, 3), label_smoothing=0.2)
    torch.testing.assert_close(shaped, focal(logits, y, label_smoothing=0.2).reshape(3, 3))
    half = logits.bfloat16()
    torch.testing.assert_close(focal(half, y), focal(half.float(), y))


@pytest.mark.parametrize("kind", [CrossEntropy, Focal])
def test_the_weights_are_made_where_the_outputs_are(kind: type[CrossEntropy | Focal]) -> None:
    """A53: on a device without values, a tensor of another device would be an error."""
    loss = kind(class_weights=WEIGHTS, label_smoothing=0.1)
    batch = {"y": torch.zeros(5, dtype=torch.int64, device="meta")}
    (total,) = loss.sums(torch.zeros(5, 3, device="meta"), batch).values()
    assert total.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", [CrossEntropy, Focal])
def test_weighted_losses_are_the_same_on_cuda(kind: type[CrossEntropy | Focal]) -> None:
    """A53."""
    logits, y = example()
    loss = kind(class_weights=WEIGHTS, label_smoothing=0.1)
    (here,) = loss.sums(logits, {"y": y}).values()
    (there,) = loss.sums(logits.cuda(), {"y": y.cuda()}).values()
    torch.testing.assert_close(there.cpu(), here, rtol=1e-12, atol=0)


def test_a_config_builds_the_loss_with_weights_of_the_training_part() -> None:
    """A52: ratios are those of the inverse counts, the mean is 1, a class without samples divides by nothing."""
    spec = DataSpec(shapes={"x": (2,)}, classes=("high", "low", "none"), class_counts=(56, 94, 511))
    built = FocalConfig(gamma=1.0, label_smoothing=0.05, class_weights="balanced").build(spec)
    assert isinstance(built, Focal) and built.class_weights is not None
    assert (built.gamma, built.label_smoothing) == (1.0, 0.05)
    high, low, none = built.class_weights
    assert (high / none, low / none) == pytest.approx((511 / 56, 511 / 94))
    assert (high + low + none) / 3 == pytest.approx(1)
    assert FocalConfig().build(spec) == Focal()
    empty = DataSpec(shapes={"x": (2,)}, classes=("a", "b"), class_counts=(3, 0))
    assert FocalConfig(class_weights="balanced").build(empty) == Focal(class_weights=(1.0, 1.0))


@pytest.mark.parametrize(
    ("values", "where"),
    [({"gamma": -1}, "loss.gamma"), ({"label_smoothing": 1}, "loss.label_smoothing"), ({"alpha": 1}, "loss.alpha"),
     ({"class_weights": "inverse"}, "loss.class_weights")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(values: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(FocalConfig, values, "loss")
    assert caught.value.where == where


def test_weights_for_a_regression_are_refused() -> None:
    spec = DataSpec(shapes={"x": (2,)})
    for name in ("focal", "cross_entropy"):
        with pytest.raises(ConfigError, match=r"loss\.class_weights"):
            LOSSES[name].model_validate({"class_weights": "balanced"}).build(spec)
    with pytest.raises(ConfigError, match="unknown config key"):
        validate(MseConfig, {"class_weights": "balanced"}, "loss")


def test_only_weights_and_focal_together_are_doubtful() -> None:
    assert "one of them is usually enough" in doubtful(FocalConfig(class_weights="balanced"))
    assert doubtful(FocalConfig(class_weights="balanced", gamma=0)) == ""
    assert doubtful(FocalConfig()) == doubtful(MseConfig()) == ""


def test_weights_beside_the_focal_loss_are_one_warning(caplog) -> None:
    """A56."""
    caplog.set_level(logging.WARNING, logger="paceline")
    options = ["members.seeds=2", "training.processes=1", "loss=focal"]
    build(*configure("blobs", options, use=[USE]))
    assert caplog.messages == []
    build(*configure("blobs", [*options, "loss.class_weights=balanced"], use=[USE]))
    (text,) = caplog.messages
    assert "loss=focal and loss.class_weights=balanced both raise" in text
