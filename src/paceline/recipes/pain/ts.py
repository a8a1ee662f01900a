"""`data=ts`: sequences from the `.ts` files of the UEA and UCR archives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from paceline.data.config import DataConfig
from paceline.data.dataset import Dataset, dataset
from paceline.data.ts_file import TsFile, read_ts
from paceline.errors import DataError
from paceline.recipes.pain.joined import joined


class Ts(DataConfig):
    """A `.ts` file with class labels, of one or several channels and any lengths.

    path: the training file. test: the official test part, with labels too. Classes are in the order of the file's
    `@classLabel`, channels have no names, and `?` is a missing value.
    """

    name: Literal["ts"] = "ts"
    path: str = Field(min_length=1)
    test: str | None = Field(default=None, min_length=1)

    def load(self) -> Dataset:
        """Read and check the files. Raises `DataError` naming file and line."""
        paths = [Path(os.path.expanduser(path)) for path in (self.path, self.test) if path is not None]
        parts = [read_ts(path, self.missing) for path in paths]
        for part, path in zip(parts, paths, strict=True):
            _check(part, parts[0], path)
        x, lengths = joined([(part.x, part.lengths) for part in parts])
        return dataset(
            x=x,
            lengths=lengths,
            y=np.concatenate([part.labels for part in parts if part.labels is not None]),
            classes=parts[0].classes or None,
            test=np.arange(len(parts[0].x), len(x)) if len(parts) > 1 else None,
            source=" and ".join(path.name for path in paths),
            missing=self.missing,
        )


def _check(part: TsFile, first: TsFile, path: Path) -> None:
    """Raise `DataError` unless a file has labels, and the channels and classes of the training file."""
    if part.labels is None:
        raise DataError("the file has no class labels", where=str(path), hint="@classLabel true <classes>")
    if part.x.shape[2] != first.x.shape[2]:
        raise DataError("the files differ in their number of channels", where=str(path),
                        got=f"{part.x.shape[2]}, not {first.x.shape[2]}")  # fmt: skip
    other = sorted(set(part.labels.tolist()) - set(first.classes or first.labels.tolist()))  # type: ignore[union-attr]
    if other:
        raise DataError("a class of the test file is not in the training file", where=str(path), got=other[0])
