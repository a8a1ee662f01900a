"""An LSTM with self-attention over its steps. Shapes: B batch, T time, F features, H units, A heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from paceline.models.dropout import Dropout
from paceline.models.pooling import masked_mean
from paceline.models.recurrent import Recurrent, zero_padding
from paceline.recipes.battery.model import Head, Target, as_steps


class SelfAttention(nn.Module):
    """Scaled dot-product attention of every step to all valid ones, in several heads (Vaswani et al., 2017).

    forward(x_BTH, mask_BT=None) -> (B, T, H). Written out, as torch's own layer cannot train as stacked members.
    """

    def __init__(self, units: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        assert units % heads == 0, (units, heads)
        self.heads = heads
        self.inputs = nn.Linear(units, 3 * units)
        self.output = nn.Linear(units, units)
        self.dropout = Dropout(dropout)

    def forward(self, x_BTH: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        B, T, H = x_BTH.shape
        parts = self.inputs(x_BTH).reshape(B, T, 3, self.heads, H // self.heads)
        q, k, v = (part.transpose(1, 2) for part in parts.unbind(2))  # (B, A, T, H / A)
        weights = self.dropout(attention_weights(q @ k.transpose(2, 3), H // self.heads, mask_BT))
        out: Tensor = self.output((weights @ v).transpose(1, 2).reshape(B, T, H))
        return out


def attention_weights(products_BATT: Tensor, size: int, mask_BT: Tensor | None) -> Tensor:
    """Return the softmax of products / sqrt(size) over the valid steps (last axis), 0 on the others."""
    scores = products_BATT / math.sqrt(size)
    if mask_BT is None:
        return scores.softmax(-1)
    keys = mask_BT[:, None, None, :]
    lowest = torch.finfo(scores.dtype).min
    return torch.where(keys, torch.where(keys, scores, lowest).softmax(-1), 0)


class LstmAttnNetwork(nn.Module):
    """LSTM layers of one or both directions, self-attention added to their outputs, layer normalisation, a linear head.

    The head stands on every step, or on the mean of the valid ones where a sequence has one target.
    """

    def __init__(
        self,
        n_features: int,
        target: Target,
        *,
        hidden_size: int,
        num_layers: int,
        heads: int,
        dropout: float,
        bidirectional: bool,
    ) -> None:
        super().__init__()
        self.steps = target.steps
        self.recurrent = Recurrent(
            "lstm", n_features, hidden_size, num_layers=num_layers, bidirectional=bidirectional, dropout=dropout
        )
        units = self.recurrent.output_size
        self.attention = SelfAttention(units, heads, dropout=dropout)
        self.norm = nn.LayerNorm(units)
        self.head = Head(units, target, dropout=dropout)

    def forward(self, x: Tensor, mask_BT: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        outputs, _ = self.recurrent(as_steps(x), mask_BT)
        h = zero_padding(self.norm(outputs + self.attention(outputs, mask_BT)), mask_BT)
        out: Tensor = self.head(h if self.steps else masked_mean(h, mask_BT))
        return out
