"""Where the sequences come from: the bundled vowels, or one's own arrays in an .npz file.

Shapes: N samples, T steps, F channels.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from paceline.data.config import DataConfig
from paceline.data.dataset import Dataset, dataset
from paceline.data.npz import read_npz
from paceline.errors import DataError


class Vowels(DataConfig):
    """JapaneseVowels: 640 utterances, 12 channels, 7 to 29 steps, 9 speakers; the last 370 are the official test."""

    name: Literal["vowels"] = "vowels"

    def load(self) -> Dataset:
        """Read the bundled file."""
        bundled = files("paceline.recipes.pain") / "bundled" / "vowels.npz"
        with bundled.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            steps, lengths, y, first_test = (stored[k] for k in ("millionths", "lengths", "y", "first_test"))
        mask = np.arange(lengths.max()) < lengths[:, None]
        x = np.zeros((*mask.shape, steps.shape[1]))
        x[mask] = steps / 1e6  # exact: the published values have six decimals
        return dataset(
            x=x,
            y=y,
            lengths=lengths,
            channels=[f"lpcc{i}" for i in range(1, 13)],
            test=np.arange(int(first_test), len(y)),
            source="JapaneseVowels (UCI, CC BY 4.0), bundled",
        )


class Npz(DataConfig):
    """An .npz file with `X` (or `x`) (N, T, F) or (N, F) and `y` (N,), class labels as integers or text.

    Optional arrays: `lengths` (N,), `group` (N,), `time` (N,), `channels` (F,), `classes` (C,), `ids` (N,), and `test`,
    the indices of the official test part. Nothing pickled is read, so text must be stored as text (`.astype(str)`).
    """

    name: Literal["npz"] = "npz"
    path: str = Field(min_length=1)

    def load(self) -> Dataset:
        """Read and check the file. Raises `DataError` naming it."""
        path = Path(os.path.expanduser(self.path))  # Path.expanduser raises for an unknown user
        arrays: dict[str, Any] = dict(read_npz(path))
        for key in ("x", "y"):
            if key not in arrays:
                listed = ", ".join(sorted(arrays)) or "nothing"
                raise DataError(f"the file has no array {key!r}", where=str(path), got=f"it holds {listed}")
        return dataset(**arrays, source=path.name, missing=self.missing)
