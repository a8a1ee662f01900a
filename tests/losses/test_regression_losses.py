"""Losses of numbers against torch's, and losses of one's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from paceline.errors import ModelError
from paceline.losses import LOSSES
from paceline.losses.per_sample import PerSample
from paceline.losses.positions import match_shape
from paceline.losses.regression import Mae, Mse
from paceline.types import DataSpec, Loss

pytestmark = pytest.mark.fast

SPEC = DataSpec(shapes={"x": (2,)}, classes=("a", "b"), class_counts=(1, 1))


def squared(outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
    return (outputs - batch["y"]).square()


@pytest.mark.parametrize(
    ("loss", "oracle"), [(Mse(), F.mse_loss), (Mae(), F.l1_loss), (PerSample(squared, "mse"), F.mse_loss)]
)
def test_the_mean_is_torchs_with_and_without_masked_samples(loss: Loss, oracle: object) -> None:
    torch.manual_seed(0)
    outputs, y = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    (term,) = loss.weights({"y": y})
    assert loss.weights({"y": y}) == {term: 6}
    torch.testing.assert_close(loss.sums(outputs, {"y": y})[term] / 6, oracle(outputs, y), rtol=1e-14, atol=0)
    keep = torch.tensor([True, True, False, True, False, True])
    batch = {"y": torch.where(keep, y, float("nan")), "sample_mask": keep}
    got = loss.sums(outputs, batch)[term] / loss.weights(batch)[term]
    torch.testing.assert_close(got, oracle(outputs[keep], y[keep]), rtol=1e-14, atol=0)


@pytest.mark.parametrize(("loss", "oracle"), [(Mse(), F.mse_loss), (Mae(), F.l1_loss)])
def test_several_outputs_are_averaged(loss: Loss, oracle: object) -> None:
    outputs, y = torch.randn(6, 3, 2), torch.randn(6, 3, 2)
    (total,), (weight,) = loss.sums(outputs, {"y": y}).values(), loss.weights({"y": y}).values()
    torch.testing.assert_close(total / weight, oracle(outputs, y))


def test_one_column_of_outputs_fits_a_vector_of_targets_and_nothing_else_is_guessed() -> None:
    y = torch.randn(4)
    assert torch.equal(match_shape(y[:, None], y), y)
    assert match_shape(y, y) is y
    for outputs, targets in ((y, y[:, None]), (y[None], y), (torch.zeros(4, 2), y), (torch.zeros(3), y)):
        with pytest.raises(ModelError, match="do not have the shape of the targets"):
            match_shape(outputs, targets)
    with pytest.raises(ModelError, match=r"outputs \(4, 2\), targets \(4,\)"):
        Mse().sums(torch.zeros(4, 2), {"y": y})


def test_a_loss_of_ones_own_must_give_a_value_per_sample() -> None:
    with pytest.raises(ModelError, match="one value per sample"):
        PerSample(lambda outputs, batch: squared(outputs, batch).mean()).sums(torch.zeros(3), {"y": torch.zeros(3)})


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_registered_loss_builds_from_its_name(name: str) -> None:
    section = LOSSES[name].model_validate({"name": name})
    loss = section.build(SPEC)
    of_classes = name in ("cross_entropy", "focal")
    outputs = torch.randn(5, 2) if of_classes else torch.randn(5, 3) if name == "quantile" else torch.randn(5)
    batch = {"y": torch.randint(2, (5,)) if of_classes else torch.randn(5)}
    assert loss.sums(outputs, batch).keys() == loss.weights(batch).keys()
    assert all(total.shape == () for total in loss.sums(outputs, batch).values())
