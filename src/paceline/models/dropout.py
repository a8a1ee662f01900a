"""Dropout whose mask is a hash of (key, position): no generator, no state, the same alone and under vmap.

Shapes: B batch, T time, F features, K members; a mask has the shape of its input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import debug_unwrap

from paceline.errors import ModelError
from paceline.noise import key as noise_key
from paceline.noise import stream

# One odd multiplier per axis, last axis first, chosen by a spectral test: two positions share an index only if they lie
# at least 31,277 apart along some axis with two axes, 723 with three, 116 with four.
AXES = (0x5C47D967, 0xFBFFEA89, 0xEE772721, 0xD56E135F, 0x8937F247, 0xDAA45A8D)
CACHED_ELEMENTS = 1 << 24  # 64 MiB of index hashes at most, per process


def signed32(value: int) -> int:
    """Return the int32 that has the bits of a 32-bit `value`: torch has no arithmetic on unsigned integers."""
    return ((value + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


_AXES = tuple(signed32(c) for c in AXES)
_M1, _M2 = signed32(0x7FEB352D), signed32(0x846CA68B)
_cache: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}


def _scramble(h: Tensor) -> Tensor:
    """Mix 32 bits in place: `noise.mix32` without its last shift, which changes only the lower half."""
    h ^= (h >> 16) & 0xFFFF  # the mask makes torch's arithmetic shift a logical one
    h *= _M1
    h ^= (h >> 15) & 0x1FFFF
    h *= _M2
    return h


def index_hash(shape: Sequence[int], device: torch.device) -> Tensor:
    """Return an int32 hash of each element's position, of shape `shape`.

    It does not depend on the sizes, only on the positions: an element keeps its hash when any axis grows at its end.
    Outside of compiled code the result is kept for the next call.
    """
    sizes = tuple(shape)
    if len(sizes) > len(AXES):
        raise ModelError(f"dropout takes at most {len(AXES)} axes", got=sizes)
    if torch.compiler.is_compiling():
        return _index_hash(sizes, device)
    found = _cache.get((sizes, device))
    return _keep(sizes, device, _index_hash(sizes, device)) if found is None else found


def _index_hash(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    h = torch.zeros((), dtype=torch.int32, device=device)
    for axis, (size, multiplier) in enumerate(zip(reversed(sizes), _AXES, strict=False)):
        position = torch.arange(size, dtype=torch.int32, device=device) * multiplier
        h = h + position.reshape(-1, *[1] * axis)
    h = _scramble(h)
    return h ^ ((h >> 16) & 0xFFFF)


def _keep(sizes: tuple[int, ...], device: torch.device, h: Tensor) -> Tensor:
    h = debug_unwrap(h)  # made inside a torch.func transform it would be a wrapper that dies with the transform
    held = sum(kept.numel() for kept in _cache.values())
    if held + h.numel() > CACHED_ELEMENTS:
        _cache.clear()
    if h.numel() <= CACHED_ELEMENTS and type(h) is Tensor:  # no stand-in of a tracer
        _cache[sizes, device] = h
    return h


def hash_bits(shape: Sequence[int], key: Tensor) -> Tensor:
    """Return 32 random bits per element as int32, a function of its position and of `key`, int32 ().

    The key enters between two rounds of mixing (C. Wellons' `lowbias32`), so that the bits of two keys are not shifted
    copies of each other.
    """
    return _scramble(index_hash(shape, key.device) ^ key)


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


class Dropout(nn.Module):
    """Dropout of rate `p` in training mode, decided by the buffer `key`; identity in evaluation mode or with p = 0.

    Whoever trains gives every step another `key` (`set_keys`, `module.key.fill_(signed32(...))`, or through
    `functional_call`): with an unchanged key the mask is the same again. `p` may be a tensor; then it is a buffer too,
    so that members can differ in it. Neither buffer is saved.

    Trailing padding of any axis leaves the mask of every other element as it is.
    """

    key: Tensor
    p: float | Tensor

    def __init__(self, p: float | Tensor = 0.5) -> None:
        super().__init__()
        self.register_buffer("key", torch.zeros((), dtype=torch.int32), persistent=False)
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


def noise_sites(model: nn.Module) -> list[tuple[str, Dropout]]:
    """Return every Dropout of a model with its path, in the order of `named_modules`."""
    return [(path, module) for path, module in model.named_modules() if isinstance(module, Dropout)]


def site_stream(path: str, *, seed: int, fold: int | None) -> int:
    """Return the name of the sequence of keys of the Dropout at `path`, for one member."""
    return stream(seed, fold, f"dropout:{path}")


def set_keys(model: nn.Module, *, seed: int, fold: int | None = None, step: int, micro_batch: int = 0) -> None:
    """Give every Dropout of a model its key for one forward pass: a function of these numbers and its path alone."""
    for path, site in noise_sites(model):
        step_key = noise_key(site_stream(path, seed=seed, fold=fold), step)
        site.key.fill_(signed32(noise_key(step_key, micro_batch)))
