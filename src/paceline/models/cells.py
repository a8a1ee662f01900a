"""The steps of recurrent layers of stacked members, forward and backward, written out over plain tensors.

Shapes: M members, T time, B batch, H hidden size, G gate columns (3 H, 4 H or H). Initial states are zero. The formulas
and the order of gates are those of `torch.nn.GRU`, `LSTM` and `RNN` (tanh), so that they read the same parameters.

Each step makes one product (M, B, H) x (M, H, G) and a few operations in place on buffers that fit in a core's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


def tanh_(x: Tensor) -> Tensor:
    """Replace x by its tanh, to within a rounding of 1; on a CPU three times as fast as torch's."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1) if x.is_cpu else x.tanh_()


def columns(x_MTBG: Tensor, start: int, stop: int, size: int) -> tuple[Tensor, ...]:
    """Return gates start..stop-1, each `size` columns wide, as one view (M, B, .) per step."""
    return x_MTBG[..., start * size : stop * size].unbind(1)


def gru_forward(gates: Tensor, w_hh: Tensor, b_hh: Tensor, outputs: Tensor, kept: Tensor) -> None:
    """Run a GRU. gates r, z, n: the input's part, overwritten by the activations. kept: gets W_hn h + b_hn."""
    (members, _, batch, size), w_t = outputs.shape, w_hh.mT
    product = outputs.new_empty(members, batch, 3 * size)
    product_rz, product_n = product[..., : 2 * size], product[..., 2 * size :]
    bias_n = b_hh[:, None, 2 * size :]
    r, z, n, rz = (columns(gates, *span, size) for span in ((0, 1), (1, 2), (2, 3), (0, 2)))
    h = outputs.new_zeros(members, batch, size)
    for t, (out, linear) in enumerate(zip(outputs.unbind(1), kept[:, 0].unbind(1), strict=True)):
        torch.bmm(h, w_t, out=product)
        rz[t].add_(product_rz).sigmoid_()
        torch.add(product_n, bias_n, out=linear)
        tanh_(n[t].addcmul_(r[t], linear))
        h = torch.lerp(n[t], h, z[t], out=out)


def gru_backward(d: Tensor, grad: Tensor, gates: Tensor, w_hh: Tensor, outputs: Tensor, kept: Tensor) -> None:
    """Fill d, the gradient of the loss with respect to [n, r, z before their activations, W_hn h + b_hn]."""
    (members, steps, batch, size) = outputs.shape
    r, z, n, rz = (columns(gates, *span, size) for span in ((0, 1), (1, 2), (2, 3), (0, 2)))
    spans = ((0, 1), (1, 2), (2, 3), (1, 3), (3, 4), (1, 4))
    d_n, d_r, d_z, d_rz, d_linear, d_product = (columns(d, *span, size) for span in spans)
    grads, before, linear = grad.unbind(1), outputs.unbind(1), kept[:, 0].unbind(1)
    start = outputs.new_zeros(members, batch, size)
    d_h, through = torch.zeros_like(start), torch.empty_like(start)
    for t in reversed(range(steps)):
        d_h.add_(grads[t])
        torch.sub(before[t - 1] if t else start, n[t], out=d_z[t]).mul_(d_h)
        torch.mul(d_h, z[t], out=through)
        tanh_backward(d_h.sub_(through), n[t], grad_input=d_n[t])
        torch.mul(d_n[t], linear[t], out=d_r[t])
        torch.mul(d_n[t], r[t], out=d_linear[t])
        sigmoid_backward(d_rz[t], rz[t], grad_input=d_rz[t])
        if t:
            d_h, through = through.baddbmm_(d_product[t], w_hh), d_h


def lstm_forward(gates: Tensor, w_hh: Tensor, b_hh: Tensor, outputs: Tensor, kept: Tensor) -> None:
    """Run an LSTM. gates i, f, g, o: as for a GRU. kept: gets the cell's state and its tanh."""
    (members, _, batch, size), w_t = outputs.shape, w_hh.mT
    product = outputs.new_empty(members, batch, 4 * size)
    i, f, g, o = (columns(gates, gate, gate + 1, size) for gate in range(4))
    h = c = outputs.new_zeros(members, batch, size)
    steps = zip(gates.unbind(1), outputs.unbind(1), kept[:, 0].unbind(1), kept[:, 1].unbind(1), strict=True)
    for t, (gate, out, state, squashed) in enumerate(steps):
        gate.add_(torch.bmm(h, w_t, out=product))
        g[t].mul_(2)  # tanh(x) = 2 sigmoid(2 x) - 1, so that one sigmoid does for all four
        gate.sigmoid_()
        g[t].mul_(2).sub_(1)
        c = torch.mul(f[t], c, out=state).addcmul_(i[t], g[t])
        h = torch.mul(o[t], tanh_(squashed.copy_(c)), out=out)


def lstm_backward(d: Tensor, grad: Tensor, gates: Tensor, w_hh: Tensor, outputs: Tensor, kept: Tensor) -> None:
    """Fill d, the gradient of the loss with respect to i, f, g, o before their activations."""
    (members, steps, batch, size) = outputs.shape
    i, f, g, o, i_f = (columns(gates, *span, size) for span in ((0, 1), (1, 2), (2, 3), (3, 4), (0, 2)))
    d_i, d_f, d_g, d_o, d_if = (columns(d, *span, size) for span in ((0, 1), (1, 2), (2, 3), (3, 4), (0, 2)))
    grads, before, squashed, d_product = grad.unbind(1), kept[:, 0].unbind(1), kept[:, 1].unbind(1), d.unbind(1)
    start = outputs.new_zeros(members, batch, size)
    d_h, d_c, part = torch.zeros_like(start), torch.zeros_like(start), torch.empty_like(start)
    for t in reversed(range(steps)):
        d_h.add_(grads[t])
        sigmoid_backward(torch.mul(d_h, squashed[t], out=d_o[t]), o[t], grad_input=d_o[t])
        d_c.add_(tanh_backward(d_h.mul_(o[t]), squashed[t], grad_input=part))
        torch.mul(d_c, g[t], out=d_i[t])
        torch.mul(d_c, before[t - 1] if t else start, out=d_f[t])
        sigmoid_backward(d_if[t], i_f[t], grad_input=d_if[t])
        tanh_backward(torch.mul(d_c, i[t], out=part), g[t], grad_input=d_g[t])
        d_c.mul_(f[t])
        if t:
            torch.bmm(d_product[t], w_hh, out=d_h)


def rnn_forward(gates: Tensor, w_hh: Tensor, b_hh: Tensor, outputs: Tensor, kept: Tensor) -> None:
    """Run an Elman network. gates: the input's part, left as it is. kept: nothing."""
    (members, _, batch, size), w_t = outputs.shape, w_hh.mT
    product, h = outputs.new_empty(members, batch, size), outputs.new_zeros(members, batch, size)
    for gate, out in zip(gates.unbind(1), outputs.unbind(1), strict=True):
        h = tanh_(torch.add(gate, torch.bmm(h, w_t, out=product), out=out))


def rnn_backward(d: Tensor, grad: Tensor, gates: Tensor, w_hh: Tensor, outputs: Tensor, kept: Tensor) -> None:
    """Fill d, the gradient of the loss with respect to the argument of tanh."""
    d_h = outputs.new_zeros(outputs[:, 0].shape)
    steps = list(zip(d.unbind(1), grad.unbind(1), outputs.unbind(1), strict=True))
    for d_product, grads, out in reversed(steps):
        tanh_backward(d_h.add_(grads), out, grad_input=d_product)
        torch.bmm(d_product, w_hh, out=d_h)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One kind of layer.

    gates: G / H. slots: columns / H of the gradient `d`, of which the first G belong to the input's product and the
    last G to the recurrent one; they overlap, so that each of the two is one block in memory. rolled: by how many slots
    the input's gates are rotated in `d`. kept: how many tensors (M, T, B, H) forward leaves for
    backward; they stand side by side, (M, kept, T, B, H).
    """

    gates: int
    slots: int
    kept: int
    forward: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]
    backward: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], None]

    @property
    def rolled(self) -> int:
        return self.slots - self.gates


CELLS = {
    "gru": Cell(gates=3, slots=4, kept=1, forward=gru_forward, backward=gru_backward),
    "lstm": Cell(gates=4, slots=4, kept=2, forward=lstm_forward, backward=lstm_backward),
    "rnn": Cell(gates=1, slots=1, kept=0, forward=rnn_forward, backward=rnn_backward),
}
