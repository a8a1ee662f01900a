"""Averages of weights over a training: how much the present weights count, and the step of stacked averages.

K members, leading where tensors are stacked.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def ema_share(step: int, decay: float) -> float:
    """Return what the weights after optimizer step n = `step` (from 0) count: 1 - min(decay, (1 + n) / (10 + n)).

    The warm-up is that of TensorFlow's `ExponentialMovingAverage`.
    """
    return 1.0 - min(decay, (1 + step) / (10 + step))


def swa_share(epoch: int, first: int) -> float:
    """Return what the weights after `epoch` (from 1) count in a running mean that begins at epoch `first`.

    1 up to there: so long the mean is a copy of the weights.
    """
    return 1.0 / (max(0, epoch - first) + 1)


def blend(
    averages: Mapping[str, Tensor], live: Mapping[str, Tensor], share: Tensor, on: Tensor, *, constants: bool = False
) -> None:
    """Move stacked averages (K, ...) in place by share x (live - average); rows that are not `on` keep every bit.

    live: has all names of `averages`. share: () or (K,), of the averages' type. on: (K,) bool. constants: some values
    never change and may be infinite, of which the formula would make NaN.
    """
    for path, average in averages.items():
        wide = [-1, *[1] * (average.ndim - 1)]
        moves = on.view(wide)
        if constants:
            moves = moves & (live[path] != average)
        moved = torch.lerp(average, live[path], (share.view(wide) if share.ndim else share).to(average.dtype))
        average.copy_(torch.where(moves, moved, average))
