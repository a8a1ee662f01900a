"""Recurrent layers for padded sequences, without packing and without reading a value back from the device.

Shapes: B batch, T time, F features, H hidden size, D directions (1 or 2). Masks are (B, T) bool, True on the valid
steps, which come first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from paceline.config.suggest import hint
from paceline.errors import ModelError
from paceline.models.dropout import Dropout
from paceline.models.stacked import is_mapped, run_layers

KINDS: dict[str, Callable[..., nn.Module]] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


def lengths(mask_BT: Tensor) -> Tensor:
    """Return the number of valid steps of each sample, int64 (B,)."""
    return mask_BT.sum(1)


def last_valid(x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Return x at the last valid step, (B, F); a sample without any valid step gives its first."""
    if mask_BT is None:
        return x_BTF[:, -1]
    last = (lengths(mask_BT) - 1).clamp(min=0)
    return x_BTF.gather(1, last[:, None, None].expand(-1, 1, x_BTF.shape[2])).squeeze(1)


def reverse_valid(x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Return x with the valid steps of each sample in reverse order and the padding left in place."""
    if mask_BT is None:
        return x_BTF.flip(1)
    step = torch.arange(x_BTF.shape[1], device=x_BTF.device)
    index_BT = torch.where(mask_BT, lengths(mask_BT)[:, None] - 1 - step, step)
    return x_BTF.gather(1, index_BT[:, :, None].expand_as(x_BTF))


class Recurrent(nn.Module):
    """A stack of GRU, LSTM or Elman layers with dropout between them.

    kind: `gru`, `lstm` or `rnn` (tanh). dropout: rate between layers; with one layer there is nowhere to put it.
    forward(x_BTF, mask_BT=None) returns the outputs (B, T, D*H), 0 on padding, and the final state (B, D*H): that of
    the forward direction after the last valid step beside that of the backward direction after the first (h, for an
    LSTM). One direction is causal: no output depends on a later step. A bidirectional layer is two layers of one
    direction, the second on the sequence reversed within its valid length.
    """

    def __init__(
        self,
        kind: str,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ModelError("there is no recurrent layer of that kind", got=kind, hint=hint(kind, KINDS))
        directions = 2 if bidirectional else 1
        sizes = [input_size] + [directions * hidden_size] * (num_layers - 1)
        layer = KINDS[kind]
        self.kind = kind
        self.output_size = directions * hidden_size
        self.forward_layers = nn.ModuleList(layer(size, hidden_size, batch_first=True) for size in sizes)
        self.backward_layers = nn.ModuleList(
            layer(size, hidden_size, batch_first=True) for size in sizes if bidirectional
        )
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in sizes[1:])

    def forward(self, x_BTF: Tensor, mask_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
        stacked = is_mapped(self, x_BTF)
        x, directions = zero_padding(x_BTF, mask_BT), []
        for i, ahead in enumerate(self.forward_layers):
            if i > 0:
                x = self.dropouts[i - 1](x)
            layers, inputs = [ahead], [x]
            if self.backward_layers:
                layers, inputs = [ahead, self.backward_layers[i]], [x, reverse_valid(x, mask_BT)]
            if stacked:
                directions = run_layers(self.kind, layers, inputs)
            else:
                directions = [layer(each)[0] for layer, each in zip(layers, inputs, strict=True)]
            outputs = directions[0]
            if len(directions) == 2:
                outputs = torch.cat([outputs, reverse_valid(directions[1], mask_BT)], 2)
            x = zero_padding(outputs, mask_BT)
        if stacked and mask_BT is None:
            x = x.clone()  # else a caller that changes it in place would meet the kept states
        return x, torch.cat([last_valid(each, mask_BT) for each in directions], 1)


def zero_padding(x_BTF: Tensor, mask_BT: Tensor | None) -> Tensor:
    """Return x with 0 on padding, so that nothing there, not even NaN, reaches a weight's gradient."""
    return x_BTF if mask_BT is None else torch.where(mask_BT[:, :, None], x_BTF, 0)
