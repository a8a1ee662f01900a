"""Classifiers of sequences.

Shapes: B batch, T time, F features, C classes. Every model is called with x_BTF and mask_BT (bool, True on the valid
steps, which come first; None if all are) and returns logits (B, C) that do not depend on the amount of padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from paceline.models.bins import QuantileBins
from paceline.models.dropout import Dropout
from paceline.models.mlp import MLP
from paceline.models.norm import MaskedBatchNorm1d
from paceline.models.pooling import AttentionPooling, masked_mean, masked_statistics
from paceline.models.recurrent import Recurrent, zero_padding


class RecurrentClassifier(nn.Module):
    """Recurrent layers, dropout, and a linear head on the final state, which has both directions if there are two.

    kind: `gru`, `lstm` or `rnn`.
    """

    def __init__(
        self,
        kind: str,
        n_features: int,
        n_classes: int,
        *,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        bidirectional: bool,
    ) -> None:
        super().__init__()
        self.recurrent = Recurrent(
            kind, n_features, hidden_size, num_layers=num_layers, bidirectional=bidirectional, dropout=dropout
        )
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(self.recurrent.output_size, n_classes)

    def forward(self, x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        _, state = self.recurrent(x_BTF, mask_BT)
        logits_BC: Tensor = self.head(self.dropout(state))
        return logits_BC


class ConvBlock(nn.Module):
    """Convolution over time on zeroed padding, masked batch normalisation, ReLU, dropout.

    (B, T, F) -> (B, T, channels). Padding must be zero before a convolution: its last valid step sees beyond the end.
    """

    def __init__(self, n_features: int, channels: int, *, kernel_size: int, dropout: float) -> None:
        super().__init__()
        # The normalisation subtracts the mean, so that a bias would have no effect.
        self.conv = nn.Conv1d(n_features, channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = MaskedBatchNorm1d(channels)
        self.dropout = Dropout(dropout)

    def forward(self, x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        convolved = self.conv(zero_padding(x_BTF, mask_BT).transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.dropout(self.norm(convolved, mask_BT).relu())
        return out


class ConvGruClassifier(nn.Module):
    """Convolution blocks, a bidirectional GRU, pooling over time, dropout and a linear head.

    pooling: `attention`, `mean`, or `last` (the two directions' final states).
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        channels: Sequence[int],
        kernel_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        pooling: str,
    ) -> None:
        super().__init__()
        assert pooling in ("attention", "mean", "last"), pooling
        sizes = [n_features, *channels]
        self.blocks = nn.ModuleList(
            ConvBlock(a, b, kernel_size=kernel_size, dropout=dropout) for a, b in zip(sizes, channels, strict=False)
        )
        self.gru = Recurrent("gru", sizes[-1], hidden_size, num_layers=num_layers, bidirectional=True, dropout=dropout)
        size = self.gru.output_size
        self.pooling = pooling
        self.attention = AttentionPooling(size, hidden_size) if pooling == "attention" else None
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(size, n_classes)

    def forward(self, x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        x = x_BTF
        for block in self.blocks:
            x = block(x, mask_BT)
        outputs, state = self.gru(x, mask_BT)
        if self.attention is not None:
            state = self.attention(outputs, mask_BT)
        elif self.pooling == "mean":
            state = masked_mean(outputs, mask_BT)
        logits_BC: Tensor = self.head(self.dropout(state))
        return logits_BC


class StatisticsClassifier(nn.Module):
    """An MLP on mean, deviation, minimum, maximum, last minus first of each channel, and on their quantile bins.

    Both are normalised over the batch and dropped at the rate `input_dropout`. bins: 0 for the plain statistics.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        hidden_sizes: Sequence[int],
        bins: int,
        dropout: float,
        input_dropout: float,
    ) -> None:
        super().__init__()
        size = 5 * n_features
        self.bins = QuantileBins(size, bins) if bins else None
        self.norm = MaskedBatchNorm1d(size * (bins + 1))
        self.dropout = Dropout(input_dropout)
        self.mlp = MLP([size * (bins + 1), *hidden_sizes, n_classes], dropout=dropout)

    def forward(self, x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        mask_B = None if mask_BT is None else mask_BT.any(1)
        seen = masked_statistics(x_BTF, mask_BT)
        if self.bins is not None:
            seen = torch.cat([self.bins(seen, mask_B), seen], 1)
        logits_BC: Tensor = self.mlp(self.dropout(self.norm(seen, mask_B)))
        return logits_BC
