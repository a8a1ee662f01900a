"""Masked batch normalisation against torch's own, on the valid rows alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from paceline.models.norm import MaskedBatchNorm1d

pytestmark = pytest.mark.fast

F = 5


def twins() -> tuple[MaskedBatchNorm1d, nn.BatchNorm1d]:
    """Ours and torch's, with the same weights drawn at random."""
    torch.manual_seed(0)
    ours, theirs = MaskedBatchNorm1d(F).double(), nn.BatchNorm1d(F).double()
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k != "num_batches_tracked"})
    return ours, theirs


def prefix_mask(lengths: list[int], steps: int) -> Tensor:
    return torch.arange(steps) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("masked", [True, False], ids=["mask of ones", "no mask"])
def test_without_padding_it_is_batch_norm(masked: bool) -> None:
    ours, theirs = twins()
    mask = torch.ones(4, 7, dtype=torch.bool) if masked else None
    for step in range(4):
        if step == 3:
            ours.eval(), theirs.eval()
        x = (3 * torch.randn(4, 7, F, dtype=torch.float64) + 2).requires_grad_()
        x2 = x.detach().clone().requires_grad_()
        y, expected = ours(x, mask), theirs(x2.transpose(1, 2)).transpose(1, 2)
        (y**3).sum().backward()
        (expected**3).sum().backward()
        pairs = [(y, expected), (x.grad, x2.grad), (ours.weight.grad, theirs.weight.grad)]
        pairs += [(ours.running_mean, theirs.running_mean), (ours.running_var, theirs.running_var)]
        for got, want in pairs:
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def test_padding_has_no_part_in_the_statistics_and_comes_out_as_zero() -> None:
    ours, theirs = twins()
    mask = prefix_mask([7, 1, 4, 0], 7)
    x = torch.randn(4, 7, F, dtype=torch.float64)
    y = ours(torch.where(mask[:, :, None], x, float("nan")), mask)
    torch.testing.assert_close(y[mask], theirs(x[mask]), rtol=1e-12, atol=1e-12)
    assert (y[~mask] == 0).all()
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-12, atol=1e-14)


def test_padded_samples_have_no_part_in_the_statistics() -> None:
    ours, theirs = twins()
    mask = torch.tensor([True, False, True, True, False])
    x = torch.randn(5, F, dtype=torch.float64)
    torch.testing.assert_close(ours(x, mask)[mask], theirs(x[mask]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("valid", [0, 1])
def test_fewer_than_two_valid_positions_leave_the_buffers_alone(valid: int) -> None:
    ours, _ = twins()
    before = {name: value.clone() for name, value in ours.named_buffers()}
    y = ours(torch.randn(1, 3, F, dtype=torch.float64), prefix_mask([valid], 3))
    assert y.isfinite().all()
    assert all(torch.equal(value, before[name]) for name, value in ours.named_buffers())


def test_half_precision_input_is_normalised_in_the_precision_of_the_weights() -> None:
    x = (torch.randn(64, 9, F) + 100).bfloat16()
    y = MaskedBatchNorm1d(F)(x)
    assert y.dtype == torch.bfloat16
    expected = nn.BatchNorm1d(F)(x.float().transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(y.float(), expected, rtol=1e-2, atol=1e-2)


def test_members_under_vmap_have_the_results_gradients_and_buffers_of_a_loop() -> None:
    module, _ = twins()
    x = torch.randn(3, 4, 7, F, dtype=torch.float64)
    mask = prefix_mask([7, 3, 1, 5], 7)
    parameters = {name: torch.randn(3, F, dtype=torch.float64) for name, _ in module.named_parameters()}
    buffers = {name: torch.rand(3, F, dtype=torch.float64) for name, _ in module.named_buffers()}
    before = {name: value.clone() for name, value in buffers.items()}

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return functional_call(module, (parameters, buffers), (x, mask)).pow(3).sum(), buffers

    gradients, (_, updated) = vmap(grad_and_value(loss, has_aux=True))(parameters, buffers, x)
    for k in range(3):
        alone = MaskedBatchNorm1d(F).double()
        alone.load_state_dict({name: value[k] for name, value in (parameters | before).items()})
        alone(x[k], mask).pow(3).sum().backward()
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(gradients[name][k], parameter.grad, rtol=1e-12, atol=1e-12)
        for name, buffer in alone.named_buffers():
            torch.testing.assert_close(updated[name][k], buffer, rtol=1e-14, atol=0)
            assert torch.equal(buffers[name][k], updated[name][k])  # updated in place
