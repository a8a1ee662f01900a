"""Sliding windows over a sequence: one at random in training, all of them, aggregated, in evaluation.

Shapes: B batch, T time, F features, S steps of a window, W windows of a sequence, C classes. Masks are bool, True where
valid; the valid steps come first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paceline.models.keyed import Keyed, below
from paceline.models.recurrent import lengths

AGGREGATES = ("mean", "max", "logsumexp")


def count(length: Tensor, size: int, stride: int) -> Tensor:
    """Return how many windows cover sequences of these lengths, int64 as given: 1 where a window is no shorter."""
    return 1 + -(-(length - size).clamp(min=0) // stride)


def starts(length_B: Tensor, steps: int, size: int, stride: int) -> tuple[Tensor, Tensor]:
    """Return where the windows of each sequence start, int64 (B, W), and which of them exist, bool (B, W).

    Starts are 0, stride, 2 stride, ...; a last window that would reach beyond the end is moved back to it. W is what a
    sequence of all `steps` has; the windows that a shorter one lacks are marked, and start where its last one does.
    """
    most = 1 + -(-max(0, steps - size) // stride)
    window_W = torch.arange(most, device=length_B.device)
    last_B1 = (length_B - size).clamp(min=0)[:, None]
    return torch.minimum(window_W * stride, last_B1), window_W < count(length_B, size, stride)[:, None]


def random_starts(length_B: Tensor, size: int, key: Tensor) -> Tensor:
    """Return one start per sequence, int64 (B,), uniform over those that keep a window of `size` inside it."""
    return below((length_B - size).clamp(min=0) + 1, length_B.shape, key)


def cut(x_BTF: Tensor, start_BW: Tensor, size: int) -> Tensor:
    """Return the windows that begin at some steps, (B, W, S, F); they must lie within the T steps."""
    batch, _, features = x_BTF.shape
    step_BN = (start_BW[:, :, None] + torch.arange(size, device=x_BTF.device)).flatten(1)
    found = x_BTF.gather(1, step_BN[:, :, None].expand(-1, -1, features))
    return found.reshape(batch, -1, size, features)


def aggregate(logits_BWC: Tensor, exists_BW: Tensor, how: str) -> Tensor:
    """Return one row per sequence, (B, C): mean, max or logsumexp of the logits of its windows; each has one at least.

    Against the mean, max and logsumexp let a single telling window decide (logsumexp smoothly so). At least float32.
    """
    logits_BWC = logits_BWC.to(torch.promote_types(logits_BWC.dtype, torch.float32))
    if how == "mean":
        kept = torch.where(exists_BW[:, :, None], logits_BWC, 0)
        return kept.sum(1) / exists_BW.sum(1, keepdim=True)
    kept = torch.where(exists_BW[:, :, None], logits_BWC, torch.finfo(logits_BWC.dtype).min)
    return kept.amax(1) if how == "max" else kept.logsumexp(1)


class Windowed(Keyed):
    """A classifier that sees `size` steps at a time.

    In training it is called with one window per sample, whose place is a function of the site's key and the sample's
    place in the batch; in evaluation with all windows, `stride` steps apart, and their logits are aggregated. A
    sequence that is shorter than a window is one window with padding.

    model: called with x (B, S, F) and a mask (B, S) or None, returns logits (B, C). aggregate: `mean`, `max` or
    `logsumexp`.
    """

    def __init__(self, model: nn.Module, *, size: int, stride: int, aggregate: str) -> None:
        super().__init__()
        assert size >= 1 and 1 <= stride <= size, (size, stride)
        assert aggregate in AGGREGATES, aggregate
        self.model = model
        self.size, self.stride, self.aggregate = size, stride, aggregate

    def forward(self, x_BTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        batch, steps, _ = x_BTF.shape
        size = min(self.size, steps)
        if mask_BT is None:
            length_B = torch.full((batch,), steps, dtype=torch.int64, device=x_BTF.device)
        else:
            length_B = lengths(mask_BT)
        if self.training:
            start_BW, exists_BW = random_starts(length_B, size, self.key)[:, None], None
        else:
            start_BW, exists_BW = starts(length_B, steps, size, self.stride)
        x = cut(x_BTF, start_BW, size).flatten(0, 1)
        mask = None if mask_BT is None else cut(mask_BT[:, :, None], start_BW, size).flatten(0, 1).squeeze(2)
        logits: Tensor = self.model(x, mask)
        if exists_BW is None:
            return logits
        return aggregate(logits.reshape(batch, -1, logits.shape[-1]), exists_BW, self.aggregate)

    def extra_repr(self) -> str:
        return f"size={self.size}, stride={self.stride}, aggregate={self.aggregate}"
