"""Quantile bins against NumPy, a hand-worked example, and what a training pass may leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paceline.models.bins import QuantileBins, masked_quantiles

pytestmark = pytest.mark.fast


def numbers(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, 3)) ** 3)


@pytest.mark.parametrize("valid", [1, 2, 7, 12])
def test_quantiles_over_valid_rows_are_numpys(valid: int) -> None:
    x, levels = numbers(12), torch.linspace(0, 1, 6, dtype=torch.float64)
    mask = torch.zeros(12, dtype=torch.bool)
    mask[torch.from_numpy(np.random.default_rng(1).permutation(12)[:valid])] = True
    expected = np.quantile(x[mask].numpy(), levels.numpy(), axis=0)
    found = masked_quantiles(torch.where(mask[:, None], x, float("nan")), levels, mask)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(masked_quantiles(x[mask], levels), found, rtol=1e-12, atol=1e-14)


def test_a_number_is_told_by_how_far_it_has_come_through_each_bin() -> None:
    bins = QuantileBins(1, 2)
    bins(torch.tensor([[0.0], [1.0], [5.0]]))  # edges 0, 1, 5
    found = bins.eval()(torch.tensor([[-9.0], [0.25], [1.0], [4.0], [99.0]]))
    assert found.tolist() == [[0, 0], [0.25, 0], [1, 0], [1, 0.75], [1, 1]]


def test_order_is_all_that_the_bins_of_training_samples_keep_at_the_quantiles() -> None:
    x = numbers(9)
    plain, warped = (QuantileBins(3, 8).double() for _ in range(2))
    torch.testing.assert_close(plain(x), warped(torch.sinh(x) * 7), rtol=1e-9, atol=1e-9)


def test_equal_values_make_a_step_and_no_number_that_is_not_finite() -> None:
    bins = QuantileBins(1, 3)
    x = torch.tensor([[2.0]] * 9 + [[4.0]], requires_grad=True)
    found = bins(x)
    assert found.isfinite().all() and found[0].tolist() == [0, 0, 0] and found[-1].tolist() == [1, 1, 1]
    found.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_whole_batches_give_the_quantiles_of_the_training_part_and_others_approach_them() -> None:
    x, bins = numbers(400), QuantileBins(3, 4).double()
    expected = torch.from_numpy(np.quantile(x.numpy(), [0, 0.25, 0.5, 0.75, 1], axis=0))
    for _ in range(3):
        bins(x)
    torch.testing.assert_close(bins.running_edges, expected, rtol=1e-12, atol=1e-12)
    parts = QuantileBins(3, 4).double()
    for part in x.split(40):
        parts(part)
    torch.testing.assert_close(parts.running_edges[1:-1], expected[1:-1], rtol=0, atol=0.2)
    mean = torch.stack([torch.from_numpy(np.quantile(p.numpy(), 0.5, axis=0)) for p in x.split(40)]).mean(0)
    torch.testing.assert_close(parts.running_edges[2], mean, rtol=1e-6, atol=1e-6)  # ten batches: the plain mean


def test_evaluation_and_a_batch_without_valid_rows_move_no_edge() -> None:
    bins = QuantileBins(3, 4).double()
    bins(numbers(20))
    before = {name: value.clone() for name, value in bins.state_dict().items()}
    bins(numbers(5, seed=1), torch.zeros(5, dtype=torch.bool))
    bins.eval()(numbers(5, seed=2))
    assert all(torch.equal(value, before[name]) for name, value in bins.state_dict().items())
    assert set(before) == {"running_edges", "running_batches"}
