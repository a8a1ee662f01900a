"""Noise as a hash of (key, position): no generator, no state, the same alone and under vmap.

A module that draws is a `Keyed`: it holds one int32 number, its key, which whoever trains sets before each step.

Shapes: B batch, T time, F features; bits have the shape of what they are for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import debug_unwrap

from paceline.errors import ModelError
from paceline.noise import key as noise_key
from paceline.noise import mix32, stream

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
        raise ModelError(f"noise takes at most {len(AXES)} axes", got=sizes)
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
    copies of each other. The upper bits are the better mixed ones.
    """
    return _scramble(index_hash(shape, key.device) ^ key)


def subkey(key: Tensor, purpose: int) -> Tensor:
    """Return the key of one of several draws that share a site's key: `purpose` counts them from 0."""
    return key ^ signed32(mix32(purpose + 1))


def uniform(shape: Sequence[int], key: Tensor, dtype: torch.dtype) -> Tensor:
    """Return numbers that are uniform in the open interval (0, 1): the middles of 2^23 equal parts.

    dtype: float32 or float64, which give the same numbers.
    """
    return (((hash_bits(shape, key) >> 9) & 0x7FFFFF).to(dtype) + 0.5) * 2.0**-23


def normal(shape: Sequence[int], key: Tensor, dtype: torch.dtype) -> Tensor:
    """Return standard normal numbers, by the inverse of the distribution function; none lies beyond 5.5."""
    middle = ((hash_bits(shape, key) >> 8) & 0xFFFFFF) * 2 + (1 - (1 << 24))  # odd, so exact in float32 and never 0
    drawn: Tensor = torch.erfinv(middle.to(dtype) * 2.0**-24) * 2.0**0.5
    return drawn


def below(bound: Tensor, shape: Sequence[int], key: Tensor) -> Tensor:
    """Return integers that are uniform in 0 .. bound - 1, int64; bound: int64, 1 to 2^31, broadcast to `shape`."""
    return ((hash_bits(shape, key).to(torch.int64) & 0xFFFFFFFF) * bound) >> 32


class Keyed(nn.Module):
    """The base of modules that draw noise in training mode: a function of the buffer `key` and of positions.

    Whoever trains gives every step another `key` (`set_keys`, `module.key.fill_(signed32(...))`, or through
    `functional_call`): with an unchanged key the noise is the same again. The key is not saved.
    """

    key: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("key", torch.zeros((), dtype=torch.int32), persistent=False)


def noise_sites(model: nn.Module) -> list[tuple[str, Keyed]]:
    """Return every module of a model that draws noise, with its path, in the order of `named_modules`."""
    return [(path, module) for path, module in model.named_modules() if isinstance(module, Keyed)]


def site_stream(path: str, *, seed: int, fold: int | None) -> int:
    """Return the name of the sequence of keys of the site at `path`, for one member."""
    return stream(seed, fold, f"dropout:{path}")  # whatever the site draws: a path names one module


def set_keys(model: nn.Module, *, seed: int, fold: int | None = None, step: int, micro_batch: int = 0) -> None:
    """Give every site of a model its key for one forward pass: a function of these numbers and its path alone."""
    for path, site in noise_sites(model):
        step_key = noise_key(site_stream(path, seed=seed, fold=fold), step)
        site.key.fill_(signed32(noise_key(step_key, micro_batch)))
