"""Dropout whose mask is a hash of (key, position), see `keyed`.

Shapes: B batch, T time, F features, K members; a mask has the shape of its input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from paceline.errors import ModelError
from paceline.models.keyed import Keyed, hash_bits


def keep_mask(shape: Sequence[int], key: Tensor, p: float | Tensor) -> Tensor:
    """Return the bool mask of elements to keep, each with probability 1 - p: those whose hash is at least p * 2^32."""
    return hash_bits(shape, key) >= _threshold(p)


def _threshold(p: float | Tensor) -> int | Tensor:
    """Return p * 2^32 on the scale of a signed integer."""
    if isinstance(p, Tensor):
        scaled = (p.double() * 2.0**32).round().clamp(max=2.0**32 - 1)
        return (scaled - 2.0**31).to(torch.int32)
    return min(round(p * 2.0**32), 2**32 - 1) - 2**31


def dropout(x: Tensor, key: Tensor, p: float | Tensor) -> Tensor:
    """Return `x` with each element zeroed with probability `p` and the others divided by 1 - p.

    x: floating point of any shape up to 6 axes. key: int32 (). p: 0 <= p < 1, or a tensor (); under vmap key and p may
    be (K,). A tensor p gives the mask of a float p to the bit if it is float64.
    """
    wide = torch.promote_types(x.dtype, torch.float32)  # in bfloat16 the factor itself would be .4 % off
    scale = 1.0 / (1.0 - p)
    if isinstance(scale, Tensor):
        scale = scale.to(wide)
    mask = keep_mask(x.shape, key, p).to(wide) * scale
    return (x.to(wide) * mask).to(x.dtype)


class Dropout(Keyed):
    """Dropout of rate `p` in training mode, decided by the buffer `key`; identity in evaluation mode or with p = 0.

    `p` may be a tensor; then it is a buffer too, so that members can differ in it. It is not saved.

    Trailing padding of any axis leaves the mask of every other element as it is.
    """

    p: float | Tensor

    def __init__(self, p: float | Tensor = 0.5) -> None:
        super().__init__()
        self.set_rate(p)

    def set_rate(self, p: float | Tensor) -> None:
        """Change the rate; a tensor becomes the buffer `p`. Raises ModelError for a number outside 0 <= p < 1."""
        if not isinstance(p, Tensor) and not 0.0 <= p < 1.0:
            raise ModelError("a dropout rate must be at least 0 and less than 1", got=p)
        if hasattr(self, "p"):
            del self.p
        if isinstance(p, Tensor):
            self.register_buffer("p", p, persistent=False)
        else:
            self.p = float(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or (isinstance(self.p, float) and self.p == 0.0):
            return x
        return dropout(x, self.key, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
