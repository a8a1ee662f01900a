"""Recurrent layers of many members as one computation, differentiable and aware of `torch.func.vmap`.

Shapes: M members (those of vmap times the directions), T time, B batch, F features, H hidden size, G gate columns.
torch's own recurrent layers have no batching rule. This runs the same formulas on the same parameters: the input's
product for all steps at once, then the steps, then each weight's gradient as one product over all steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch.autograd import Function

from paceline.errors import ModelError
from paceline.models.cells import CELLS

BLOCK_BYTES = 1 << 16  # of one (B, H) tensor of all members that a CPU takes at once: a step's dozen then fit in L2
WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def is_mapped(module: nn.Module, *inputs: Tensor) -> bool:
    """Return whether `torch.func.vmap` maps over any of the inputs or parameters."""
    if _functorch.peek_interpreter_stack() is None:  # no transform is active: the usual case, decided at once
        return False
    return any(is_batched(tensor) for tensor in (*inputs, *module.parameters()))


def is_batched(tensor: Tensor) -> bool:
    """Return whether `torch.func.vmap` maps over this tensor, directly or outside of other transforms."""
    while _functorch.is_functorch_wrapped_tensor(tensor):
        if _functorch.is_batchedtensor(tensor):
            return True
        tensor = _functorch.get_unwrapped(tensor)
    return False


def run_layers(kind: str, layers: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the outputs (B, T, H) of torch recurrent layers of one size on inputs (B, T, F), one each, from zero.

    kind: `gru`, `lstm` or `rnn`. Computes in float32 at least, whatever autocast says, and returns the inputs' dtype.
    """
    dtype = inputs[0].dtype
    wide = torch.promote_types(layers[0].weight_hh_l0.dtype, torch.float32)  # type: ignore[arg-type]  # a module's attribute
    x = torch.stack([each.transpose(0, 1) for each in inputs])
    weights = [torch.stack([getattr(layer, name) for layer in layers]).to(wide) for name in WEIGHTS]
    with torch.autocast(x.device.type, enabled=False):
        outputs = recurrence(x.to(wide) if dtype.itemsize < wide.itemsize else x, *weights, kind=kind)
    return [each.transpose(0, 1) for each in outputs.to(dtype).unbind(0)]


def recurrence(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, *, kind: str) -> Tensor:
    """Return the hidden states of M layers, (M, T, B, H).

    x: (M, T, B, F). w_ih: (M, G, F). w_hh: (M, G, H). b_ih, b_hh: (M, G). All are float32 or float64 alike. Can be
    differentiated once, in reverse.
    """
    outputs: Tensor = _Forward.apply(x, w_ih, w_hh, b_ih, b_hh, kind)[0]  # type: ignore[no-untyped-call]
    return outputs


def forward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, kind: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `recurrence` and what `backward` needs: activated gates (M, T, B, G), and what the cell keeps."""
    (members, steps, batch, _), size, cell = x.shape, w_hh.shape[2], CELLS[kind]
    gates = x.new_empty(members, steps, batch, w_hh.shape[1])
    outputs = x.new_empty(members, steps, batch, size)
    kept = x.new_empty(members, cell.kept, steps, batch, size)
    bias = b_ih + b_hh
    if kind == "gru":
        bias[:, 2 * size :] = b_ih[:, 2 * size :]  # the reset gate multiplies b_hn, so that it stays with the cell
    for m in blocks(outputs):
        flat = gates[m].flatten(1, 2)
        torch.baddbmm(bias[m, None], x[m].flatten(1, 2), w_ih[m].mT, out=flat)
        cell.forward(gates[m], w_hh[m], b_hh[m], outputs[m], kept[m])
    return outputs, gates, kept


def backward(
    grad: Tensor, x: Tensor, w_ih: Tensor, w_hh: Tensor, outputs: Tensor, gates: Tensor, kept: Tensor,
    kind: str, needs_x: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return the gradients of w_ih, w_hh, b_ih, b_hh and, if needed, x."""
    (_, steps, batch, size), (members, columns, features), cell = outputs.shape, w_ih.shape, CELLS[kind]
    roll = cell.rolled * size
    d_ih, d_hh, d_bi, d_bh = (torch.empty_like(w) for w in (w_ih, w_hh, w_ih[:, :, 0], w_hh[:, :, 0]))
    d_x = x.new_empty(x.shape if needs_x else (0,))
    work: Tensor | None = None
    for m in blocks(outputs):
        size_m = len(range(*m.indices(members)))
        if work is None:
            work = x.new_empty(size_m, steps, batch, cell.slots * size)
        d = work[:size_m]
        cell.backward(d, grad[m], gates[m], w_hh[m], outputs[m], kept[m])
        flat, before = d.flatten(1, 2), outputs[m, : steps - 1].flatten(1, 2)
        into, back = flat[..., :columns], flat[..., flat.shape[2] - columns :]
        d_ih[m] = torch.bmm(into.mT, x[m].flatten(1, 2)).roll(-roll, 1)
        torch.bmm(back[:, batch:].mT, before, out=d_hh[m])
        total = flat.sum(1)
        d_bi[m], d_bh[m] = total[:, :columns].roll(-roll, 1), total[:, total.shape[1] - columns :]
        if needs_x:
            torch.bmm(into, w_ih[m].roll(roll, 1), out=d_x[m].view(size_m, steps * batch, features))
    return (d_ih, d_hh, d_bi, d_bh, d_x) if needs_x else (d_ih, d_hh, d_bi, d_bh)


def blocks(outputs: Tensor) -> Iterator[slice]:
    """Yield slices of members (outputs is (M, T, B, H)) that are worked on one after another: all, but on a CPU."""
    members, _, batch, size = outputs.shape
    most = max(1, BLOCK_BYTES // max(1, batch * size * outputs.itemsize)) if outputs.is_cpu else members
    for start in range(0, members, step := balanced(members, most)):
        yield slice(start, start + step)


def balanced(total: int, most: int) -> int:
    """Return the size of the fewest nearly equal parts of `total` that do not exceed `most`."""
    parts = max(1, -(-total // most))
    return max(1, -(-total // parts))


def merge_members(mapped: int, dims: Sequence[int | None], arguments: Sequence[Any]) -> list[Any]:
    """Return the arguments with the axis that vmap maps over, `mapped` long, joined to the members' axis."""
    merged = []
    for dim, argument in zip(dims, arguments, strict=True):
        if isinstance(argument, Tensor):
            argument = argument.expand(mapped, *argument.shape) if dim is None else argument.movedim(dim, 0)
            argument = argument.flatten(0, 1)
        merged.append(argument)
    return merged


class _Forward(Function):
    """`forward` with a derivative and a batching rule."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        return forward(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        outputs, gates, kept = output
        ctx.mark_non_differentiable(gates, kept)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:3], outputs, gates, kept)
        ctx.kind = inputs[5]

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 6
        needs_x = ctx.needs_input_grad[0]
        with torch.autocast(grad.device.type, enabled=False):
            found = _Backward.apply(grad, *ctx.saved_tensors, ctx.kind, needs_x)  # type: ignore[no-untyped-call]
        return found[4] if needs_x else None, *found[:4], None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], int]:
        found = _Forward.apply(*merge_members(info.batch_size, in_dims, arguments))  # type: ignore[no-untyped-call]
        return tuple(each.unflatten(0, (info.batch_size, -1)) for each in found), 0


class _Backward(Function):
    """`backward` with a batching rule, and no derivative."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        return backward(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise ModelError("stacked recurrent layers have no second derivative", hint="training.engine=eager")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], int]:
        found = _Backward.apply(*merge_members(info.batch_size, in_dims, arguments))  # type: ignore[no-untyped-call]
        return tuple(each.unflatten(0, (info.batch_size, -1)) for each in found), 0
