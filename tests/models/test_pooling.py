"""Pooling over valid steps against loops over the samples, and the MLP."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from paceline.evaluate.references import summaries
from paceline.models.mlp import MLP
from paceline.models.pooling import AttentionPooling, masked_max, masked_mean, masked_softmax, masked_statistics

pytestmark = pytest.mark.fast

LENGTHS = (5, 1, 3)


def padded() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    return torch.where(mask[:, :, None], x, float("nan")), mask


@pytest.mark.parametrize(("pool", "oracle"), [(masked_mean, lambda x: x.mean(0)), (masked_max, lambda x: x.amax(0))])
def test_pooling_sees_the_valid_steps_only(
    pool: Callable[[Tensor, Tensor | None], Tensor], oracle: Callable[[Tensor], Tensor]
) -> None:
    x, mask = padded()
    expected = torch.stack([oracle(x[i, :n]) for i, n in enumerate(LENGTHS)])
    torch.testing.assert_close(pool(x, mask), expected, rtol=1e-14, atol=0)
    assert torch.equal(pool(x[:1], None), pool(x[:1], mask[:1]))


def test_statistics_are_those_that_the_forest_sees() -> None:
    x, mask = padded()
    x[1:, :, 2] = torch.where(mask[1:], 5.0, float("nan"))  # a channel that does not vary
    found = masked_statistics(x.requires_grad_(), mask)
    torch.testing.assert_close(found.detach(), torch.from_numpy(summaries(x.detach().numpy(), mask.numpy())))
    assert torch.equal(masked_statistics(x[:1], None), masked_statistics(x[:1], mask[:1]))
    found.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and (x.grad[~mask] == 0).all()


def test_attention_weighs_the_valid_steps_by_a_softmax_of_their_scores() -> None:
    x, mask = padded()
    pool = AttentionPooling(4, 3).double()
    rows = []
    for i, n in enumerate(LENGTHS):
        scores = torch.tanh(x[i, :n] @ pool.hidden.weight.T + pool.hidden.bias) @ pool.score.weight[0]
        rows.append((scores.exp() / scores.exp().sum()) @ x[i, :n])
    torch.testing.assert_close(pool(x, mask), torch.stack(rows), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(pool(x[:1]), rows[0][None], rtol=1e-12, atol=1e-14)


def test_a_sample_without_valid_steps_pools_to_zero_with_zero_gradient() -> None:
    x = torch.full((1, 4, 4), float("nan"), dtype=torch.float64, requires_grad=True)
    nothing = torch.zeros(1, 4, dtype=torch.bool)
    attention = AttentionPooling(4, 3).double()
    for pool in (masked_mean, masked_max, masked_statistics, attention):
        pooled = pool(x, nothing)
        assert (pooled == 0).all()
        pooled.sum().backward()
    assert (x.grad == 0).all()
    assert all((p.grad == 0).all() for p in attention.parameters())


def test_softmax_weights_are_exactly_zero_on_padding_even_for_huge_scores() -> None:
    scores = torch.tensor([[-1e30, -1e30, 1e38]])
    weights = masked_softmax(scores, torch.tensor([[True, True, False]]))
    assert weights.tolist() == [[0.5, 0.5, 0.0]]


def test_an_mlp_has_linear_layers_with_relu_and_dropout_between() -> None:
    model = MLP([20, 64, 32, 1], dropout=0.2)
    assert [type(layer).__name__ for layer in model.layers] == ["Linear", "ReLU", "Dropout"] * 2 + ["Linear"]
    x = torch.randn(7, 20)
    a, b, c = (layer for layer in model.eval().layers if isinstance(layer, torch.nn.Linear))
    assert torch.equal(model(x), c(b(a(x).relu()).relu()))
    assert MLP([3, 2])(torch.randn(5, 3)).shape == (5, 2)


def test_the_names_of_an_mlps_weights_do_not_depend_on_its_dropout() -> None:
    assert MLP([4, 3, 2]).state_dict().keys() == MLP([4, 3, 2], dropout=0.5).state_dict().keys()
