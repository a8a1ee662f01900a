"""Training data and an official test part as one set of sequences. Shapes: N samples, T steps, F channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Sequences = tuple[Array, Array | None]  # x (N, T, F) and lengths (N,), None where all have T


def joined(parts: Sequence[Sequences]) -> Sequences:
    """Return all samples in one array, padded with 0 to the longest."""
    longest = max(x.shape[1] for x, _ in parts)
    lengths = np.concatenate([np.full(len(x), x.shape[1]) if own is None else own for x, own in parts])
    padded = [np.pad(x, ((0, 0), (0, longest - x.shape[1]), (0, 0))) for x, _ in parts]
    return np.concatenate(padded), None if (lengths == longest).all() else lengths
