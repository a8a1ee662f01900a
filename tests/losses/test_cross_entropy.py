"""Cross-entropy against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from paceline.errors import ConfigError
from paceline.losses import LOSSES, CrossEntropyConfig
from paceline.losses.classification import CrossEntropy, cross_entropy
from paceline.losses.config import balanced_weights
from paceline.types import DataSpec

pytestmark = pytest.mark.fast

WEIGHTS = (0.5, 2.0, 1.0, 0.5)


def example(dtype: torch.dtype = torch.float64) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(0)
    return torch.randn(7, 4, dtype=dtype, requires_grad=True), {"x": torch.zeros(7, 2), "y": torch.randint(4, (7,))}


def mean(loss: CrossEntropy, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
    return loss.sums(logits, batch)["cross_entropy"] / loss.weights(batch)["cross_entropy"]


@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.9])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_mean_and_its_gradient_are_torchs(smoothing: float, weights: tuple[float, ...] | None) -> None:
    logits, batch = example()
    mean(CrossEntropy(label_smoothing=smoothing, class_weights=weights), logits, batch).backward()
    got, logits.grad = logits.grad, None
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    expected = F.cross_entropy(logits, batch["y"], weight=tensor, label_smoothing=smoothing)
    expected.backward()
    torch.testing.assert_close(got, logits.grad, rtol=1e-12, atol=1e-15)
    loss = CrossEntropy(label_smoothing=smoothing, class_weights=weights)
    torch.testing.assert_close(mean(loss, logits, batch), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_masked_samples_have_no_part(weights: tuple[float, ...] | None) -> None:
    logits, batch = example()
    keep = torch.tensor([True, False, True, True, False, True, True])
    loss = CrossEntropy(label_smoothing=0.1, class_weights=weights)
    rest = {name: column[keep] for name, column in batch.items()}
    with torch.no_grad():
        logits[1] = float("nan")
    got = mean(loss, logits, batch | {"sample_mask": keep})
    torch.testing.assert_close(got, mean(loss, logits[keep], rest), rtol=1e-14, atol=0)


def test_counts_are_plain_numbers_where_nothing_is_masked_or_weighted() -> None:
    _, batch = example()
    assert CrossEntropy().weights(batch) == {"cross_entropy": 7}
    assert isinstance(CrossEntropy().weights(batch)["cross_entropy"], int)


def test_members_may_have_their_own_smoothing_under_vmap() -> None:
    _, batch = example()
    logits = torch.randn(3, 7, 4, dtype=torch.float64)
    smoothing = torch.tensor([0.0, 0.05, 0.3], dtype=torch.float64)
    together = vmap(lambda z, e: CrossEntropy(label_smoothing=e).sums(z, batch)["cross_entropy"])(logits, smoothing)
    for k in range(3):
        alone = F.cross_entropy(logits[k], batch["y"], label_smoothing=float(smoothing[k]), reduction="sum")
        torch.testing.assert_close(together[k], alone, rtol=1e-13, atol=0)


def test_class_weights_work_under_vmap_over_batches() -> None:
    logits, y = torch.randn(3, 7, 4), torch.randint(4, (3, 7))
    loss = CrossEntropy(class_weights=WEIGHTS)
    sums = vmap(lambda z, y: loss.sums(z, {"y": y})["cross_entropy"])(logits, y)
    weights = vmap(lambda y: loss.weights({"y": y})["cross_entropy"])(y)
    for k in range(3):
        expected = F.cross_entropy(logits[k], y[k], weight=torch.tensor(WEIGHTS))
        torch.testing.assert_close((sums / weights)[k].float(), expected)


def test_logits_of_half_precision_are_summed_in_single() -> None:
    logits, batch = example(torch.float32)
    half = logits.detach().bfloat16()
    per_sample = cross_entropy(half, batch["y"])
    assert per_sample.dtype == torch.float32
    torch.testing.assert_close(per_sample, F.cross_entropy(half.float(), batch["y"], reduction="none"))


def test_leading_axes_are_kept() -> None:
    logits, y = torch.randn(2, 3, 4), torch.randint(4, (2, 3))
    expected = F.cross_entropy(logits.transpose(1, 2), y, reduction="none", label_smoothing=0.2)
    torch.testing.assert_close(cross_entropy(logits, y, label_smoothing=0.2), expected)


def test_balanced_weights_are_inverse_counts_with_mean_1() -> None:
    weights = balanced_weights([56, 94, 511])
    assert weights[0] / weights[2] == pytest.approx(511 / 56)
    assert weights[1] / weights[2] == pytest.approx(511 / 94)
    assert sum(weights) / 3 == pytest.approx(1)


def test_a_class_without_samples_weighs_1_and_changes_no_other() -> None:
    assert balanced_weights([56, 0, 511]) == (*balanced_weights([56, 511])[:1], 1.0, balanced_weights([56, 511])[1])


@pytest.mark.parametrize("counts", [(), (0, 0)])
def test_balanced_weights_without_counts_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"loss\.class_weights"):
        balanced_weights(counts)


def test_a_config_builds_the_loss() -> None:
    spec = DataSpec(shapes={"x": (2,)}, classes=("a", "b"), class_counts=(1, 3))
    section = LOSSES["cross_entropy"].model_validate({"label_smoothing": 0.05, "class_weights": "balanced"})
    assert section.build(spec) == CrossEntropy(label_smoothing=0.05, class_weights=(1.5, 0.5))
    assert CrossEntropyConfig().build(spec) == CrossEntropy()
