"""Where a member's randomness comes from: integers derived from (seed, fold, purpose, counter), nothing else.

There is no generator whose state could be lost, and no member can disturb another's numbers. `stream` names an
independent sequence; `key` is its value at one counter (a step, an epoch). Both are plain functions, so a resumed run
asks again for the numbers it needs.
"""

from __future__ import annotations

import hashlib
from typing import Any

MASK32 = 0xFFFFFFFF


def stream(seed: int, fold: int | None, purpose: str) -> int:
    """Return the 32-bit name of the sequence that belongs to (seed, fold, purpose)."""
    text = f"{seed}\x1f{'-' if fold is None else fold}\x1f{purpose}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")


def key(stream_id: int, counter: int) -> int:
    """Return the 32-bit value of a stream at `counter` (a step or an epoch, 0 or more)."""
    return mix32((mix32(counter & MASK32) + stream_id) & MASK32)


def keys(streams: Any, counters: Any) -> Any:
    """Return `key` for NumPy arrays of streams and counters, broadcast against each other; uint32."""
    import numpy as np

    with np.errstate(over="ignore"):
        return _mix32_array(_mix32_array(np.asarray(counters, dtype=np.uint32)) + np.asarray(streams, dtype=np.uint32))


def _mix32_array(x: Any) -> Any:
    import numpy as np

    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def mix32(x: int) -> int:
    """Mix 32 bits (C. Wellons' `lowbias32`, bias 0.17 against 0 for an ideal random function)."""
    x ^= x >> 16
    x = (x * 0x7FEB352D) & MASK32
    x ^= x >> 15
    x = (x * 0x846CA68B) & MASK32
    return x ^ (x >> 16)
