"""Stacked recurrent layers against torch's own, member by member. K members."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

from paceline.errors import ModelError
from paceline.models import stacked
from paceline.models.keyed import set_keys
from paceline.models.recurrent import Recurrent
from paceline.models.stacked import WEIGHTS, balanced, is_batched, recurrence
from tests.models.members import alone, assert_same, stack, together

pytestmark = pytest.mark.fast

K, B, T, F, H = 3, 4, 7, 5, 6
KINDS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


def build(kind: str, dtype: torch.dtype = torch.float64, *, layers: int = 2, both: bool = True) -> list[nn.Module]:
    """Members with weights and dropout keys of their own."""
    torch.manual_seed(0)
    models = [Recurrent(kind, F, H, num_layers=layers, bidirectional=both, dropout=0.4).to(dtype) for _ in range(K)]
    for k, model in enumerate(models):
        set_keys(model, seed=k, step=3)
    return models


def batch(dtype: torch.dtype = torch.float64, steps: int = T) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(K, B, steps, F, dtype=dtype), torch.arange(steps) < torch.randint(1, steps + 1, (K, B, 1))


def objective(outputs: tuple[Tensor, Tensor]) -> Tensor:
    """Weighs every step and feature differently, and the final states too."""
    sequence, state = outputs
    weights = torch.linspace(-1, 2, sequence.numel(), dtype=sequence.dtype).reshape(sequence.shape)
    return (weights * sequence).sum() + state.pow(3).sum()


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["fp64", "fp32"])
@pytest.mark.parametrize("masked", [True, False], ids=["mask", "no mask"])
@pytest.mark.parametrize("both", [False, True], ids=["one direction", "two directions"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_stacked_members_have_the_outputs_and_gradients_of_torch(
    kind: str, layers: int, both: bool, masked: bool, dtype: torch.dtype, tolerance: float
) -> None:
    models, (x, mask) = build(kind, dtype, layers=layers, both=both), batch(dtype)
    inputs = [x, mask] if masked else [x]
    assert_same(together(models, inputs, objective), alone(models, inputs, objective), tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_of_one_step_works(kind: str) -> None:
    models, (x, mask) = build(kind), batch(steps=1)
    assert_same(together(models, [x, mask], objective), alone(models, [x, mask], objective), 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_outside_of_vmap_is_the_same(kind: str) -> None:
    models, (x, mask) = build(kind), batch()
    parameters, buffers = stack(models)

    def total(parameters: dict[str, Tensor]) -> Tensor:
        run = vmap(lambda p, b, x, m: objective(functional_call(models[0], (p, b), (x, m))))
        return run(parameters, buffers, x, mask).sum()

    _, expected = alone(models, [x, mask], objective)
    for name, gradient in grad(total)(parameters).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-12, atol=1e-12)


def layer(kind: str) -> tuple[nn.Module, list[Tensor], Tensor]:
    """A layer of torch, its weights as one stacked member (1, ...), and an input (1, T, B, F)."""
    torch.manual_seed(0)
    module = KINDS[kind](F, H).double()
    weights = [getattr(module, name).detach()[None].clone().requires_grad_() for name in WEIGHTS]
    return module, weights, torch.randn(1, T, B, F, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("kind", KINDS)
def test_without_vmap_the_recurrence_is_the_layer_of_torch(kind: str) -> None:
    module, weights, x = layer(kind)
    outputs = recurrence(x, *weights, kind=kind)
    expected = module(x[0])[0]
    torch.testing.assert_close(outputs[0], expected, rtol=1e-13, atol=1e-14)
    weight = torch.randn_like(expected)
    own = torch.autograd.grad((outputs[0] * weight).sum(), [*weights, x])
    theirs = torch.autograd.grad((expected * weight).sum(), [*(getattr(module, name) for name in WEIGHTS), x])
    for got, want in zip(own, theirs, strict=True):
        torch.testing.assert_close(got, want.reshape(got.shape), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_agrees_with_finite_differences(kind: str) -> None:
    torch.manual_seed(0)
    gates = {"gru": 3, "lstm": 4, "rnn": 1}[kind] * 2
    shapes = [(2, 3, 2, 2), (2, gates, 2), (2, gates, 2), (2, gates), (2, gates)]
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda *each: recurrence(*each, kind=kind), arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_members_taken_in_blocks_have_the_same_results(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models, (x, mask) = build(kind), batch()  # 6 stacked layers: 3 members of 2 directions
    expected = together(models, [x, mask], objective)
    monkeypatch.setattr(stacked, "BLOCK_BYTES", 4 * B * H * 8)
    assert [len(range(6)[m]) for m in stacked.blocks(torch.empty(6, T, B, H, dtype=torch.float64))] == [3, 3]
    assert_same(together(models, [x, mask], objective), expected, 1e-14)
    monkeypatch.setattr(stacked, "BLOCK_BYTES", 1)
    assert_same(together(models, [x, mask], objective), expected, 1e-14)


def test_blocks_are_of_nearly_equal_size() -> None:
    assert [balanced(total, 4) for total in (1, 4, 5, 8, 9)] == [1, 4, 3, 4, 3]
    assert balanced(7, 1) == 1


def test_members_may_share_the_input_or_the_weights() -> None:
    models, (x, _) = build("gru"), batch()
    parameters, buffers = stack(models)
    shared_x = vmap(lambda p, b: functional_call(models[0], (p, b), (x[0],))[0])(parameters, buffers)
    for k, model in enumerate(models):
        torch.testing.assert_close(shared_x[k], model(x[0])[0], rtol=1e-13, atol=1e-14)
    shared_weights = vmap(lambda x: models[0](x)[0], in_dims=1, out_dims=1)(x.transpose(0, 1))
    torch.testing.assert_close(shared_weights[:, 2], models[0](x[2])[0], rtol=1e-13, atol=1e-14)


def test_vmap_within_vmap_and_vmap_over_cotangents_work() -> None:
    models, (x, _) = build("gru"), batch()
    parameters, buffers = stack(models)
    nested = vmap(lambda p, b: vmap(lambda x: functional_call(models[0], (p, b), (x,))[0])(x))(parameters, buffers)
    torch.testing.assert_close(nested[1, 2], models[1](x[2])[0], rtol=1e-13, atol=1e-14)
    module, weights, one = layer("gru")
    jacobian = jacrev(lambda x: recurrence(x, *weights, kind="gru")[0, -1, 1])(one.detach())
    expected = torch.autograd.functional.jacobian(lambda x: module(x[0])[0][-1, 1], one.detach())
    torch.testing.assert_close(jacobian, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_members_are_evaluated_without_gradients(mode: type) -> None:
    models, (x, mask) = build("lstm"), batch()
    with mode():
        outputs = vmap(lambda p, b, x, m: functional_call(models[0], (p, b), (x, m))[0])(*stack(models), x, mask)
        for k, model in enumerate(models):
            torch.testing.assert_close(outputs[k], model(x[k], mask[k])[0], rtol=1e-13, atol=1e-14)


def test_a_caller_may_change_the_outputs_in_place() -> None:
    models, (x, _) = build("gru", layers=1, both=False), batch()

    def in_place(outputs: tuple[Tensor, Tensor]) -> Tensor:
        return outputs[0].relu_().square().sum()

    assert_same(together(models, [x], in_place), alone(models, [x], in_place), 1e-12)


def test_autocast_leaves_the_recurrence_in_the_precision_of_its_weights() -> None:
    models, (x, mask) = build("gru", torch.float32), batch(torch.float32)
    exact = together(models, [x, mask], objective)
    with torch.autocast("cpu", torch.bfloat16):
        values, left = together(models, [x, mask], objective)
    assert_same((values, left), exact, 1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = vmap(lambda p, b, x: functional_call(models[0], (p, b), (x,))[0])(*stack(models), x.bfloat16())
    assert outputs.dtype == torch.bfloat16


def test_weights_in_half_precision_are_run_in_single_precision() -> None:
    models, (x, mask) = build("gru", torch.bfloat16), batch(torch.bfloat16)
    _, left = together(models, [x, mask], objective)
    _, expected = together([copy.deepcopy(model).float() for model in models], [x.float(), mask], objective)
    for name, value in left.items():
        assert value.dtype == (torch.int32 if name.endswith("key") else torch.bfloat16)
        torch.testing.assert_close(value.float(), expected[name].float(), rtol=0.1, atol=0.1)


def test_a_second_derivative_is_refused() -> None:
    _, weights, x = layer("gru")
    (gradient,) = torch.autograd.grad(recurrence(x, *weights, kind="gru").sum(), x, create_graph=True)
    with pytest.raises(ModelError, match="no second derivative"):
        gradient.sum().backward()


def test_the_gradient_may_be_taken_twice_of_one_pass() -> None:
    _, weights, x = layer("lstm")
    total = recurrence(x, *weights, kind="lstm").square().sum()
    first = torch.autograd.grad(total, [x, *weights], retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(total, [x, *weights]), strict=True))


def test_a_tensor_is_known_to_be_batched_below_other_transforms() -> None:
    seen = []

    def look(x: Tensor) -> Tensor:
        seen.append(is_batched(x))
        return x.sum()

    x = torch.ones(2, 3)
    look(x)
    grad(look)(x)
    vmap(look)(x)
    vmap(grad(look))(x)
    grad(lambda x: vmap(look)(x).sum())(x)
    assert seen == [False, False, True, True, True]


@pytest.mark.parametrize("kind", KINDS)
def test_outside_of_vmap_torch_s_own_layers_run(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("paceline.models.recurrent.run_layers", lambda *_: calls.append(1))
    model, (x, mask) = build(kind)[0], batch()
    model(x[0], mask[0])
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    grad(lambda p: objective(functional_call(model, p, (x[0], mask[0]))))(parameters)
    assert not calls
