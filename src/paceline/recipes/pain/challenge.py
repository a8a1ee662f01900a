"""`data=challenge`: sequences from long CSV files, one row per sample and step, labels beside them.

Shapes: N samples, T steps, F channels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from paceline.data.config import DataConfig
from paceline.data.csv_long import LongColumns, Samples, keep_rows, read_samples
from paceline.data.csv_table import SUFFIXES, read_table, wanted
from paceline.data.dataset import Dataset, dataset
from paceline.data.unlabelled import Known, Unlabelled
from paceline.errors import DataError
from paceline.recipes.pain.joined import joined

Array = NDArray[Any]
Scalar = str | int | float
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")  # written as int64 would be


class Challenge(DataConfig):
    """A long CSV of features (`sample_index`, `time`, one column per channel) and a CSV of labels.

    path: the CSV of features, or a folder in which it is the file with `train` and without `label` in its name.
    labels: the CSV of labels; null: in a folder the file with `label` and without `test` in its name, else the features
    have the column of labels. test, test_labels: an official test part. All but `path` may be relative to its folder.
    id, time, label, group: names of columns; a group may stand in either file, for grouped splits. classes: their
    order, by default sorted. where: column to value or values, the rows to use. ignore: columns to leave out. steps:
    `even` wants the steps of a sample evenly spaced, `ordered` uses only the order of times.

    Channels are in the order of the file. A column of words becomes whole numbers (`paceline.data.words`): the order is
    fitted on the training file and kept with the weights. Predictions are a submission: id and label.
    """

    name: Literal["challenge"] = "challenge"
    path: str = Field(min_length=1)
    labels: str | None = Field(default=None, min_length=1)
    test: str | None = Field(default=None, min_length=1)
    test_labels: str | None = Field(default=None, min_length=1)
    id: str = Field(default="sample_index", min_length=1)
    time: str = Field(default="time", min_length=1)
    label: str = Field(default="label", min_length=1)
    group: str | None = Field(default=None, min_length=1)
    classes: tuple[str, ...] = ()
    where: dict[str, Scalar | tuple[Scalar, ...]] = {}
    ignore: tuple[str, ...] = ()
    steps: Literal["even", "ordered"] = "even"

    def load(self) -> Dataset:
        """Read and check the files. Raises `DataError` naming file, line and column."""
        path, labels = self._training_files()
        train = read_samples(path, self._columns(), self.missing)
        parts = [(train, self._per_sample(train, path, labels))]
        if self.test is not None:
            test_path, columns = self._file(self.test), self._columns()
            test = read_samples(test_path, columns, self.missing, channels=train.channels, reading=train.reading)
            test_labels = None if self.test_labels is None else self._file(self.test_labels)
            parts.append((test, self._per_sample(test, test_path, test_labels)))
        x, lengths = joined([(samples.x, samples.lengths) for samples, _ in parts])
        return dataset(
            x=x,
            lengths=lengths,
            y=_labels(np.concatenate([own[self.label] for _, own in parts])),
            group=None if self.group is None else np.concatenate([own[self.group] for _, own in parts]),
            channels=train.channels,
            classes=self.classes or None,
            test=np.arange(len(train.x), len(x)) if len(parts) > 1 else None,
            ids=np.concatenate([samples.ids for samples, _ in parts]),
            source=path.name if self.test is None else f"{path.name} and {self._file(self.test).name}",
            missing=self.missing,
            reading=train.reading,
        )

    def read_input(self, path: Path, known: Known) -> Unlabelled | None:
        """Return the samples of a CSV of features; labels in it are left out."""
        if not path.name.lower().endswith(SUFFIXES):
            return None
        columns = self._columns(unlabelled=True)
        found = read_samples(path, columns, self.missing, channels=known.channels, reading=known.reading)
        return Unlabelled(
            x=found.x, lengths=found.lengths, channels=found.channels, ids=found.ids, id_name=self.id,
            label_name=self.label, probabilities=False, source=str(path),
        )  # fmt: skip

    def _columns(self, *, unlabelled: bool = False) -> LongColumns:
        beside = (self.label, *([] if self.group is None else [self.group]))
        return LongColumns(
            id=self.id, time=self.time, aside=() if unlabelled else beside,
            ignore=(*self.ignore, *beside) if unlabelled else self.ignore, where=_texts(self.where),
            even=self.steps == "even",
        )  # fmt: skip

    def _training_files(self) -> tuple[Path, Path | None]:
        path = Path(os.path.expanduser(self.path))
        labels = None if self.labels is None else self._file(self.labels)
        if not path.is_dir():
            return path, labels
        files = sorted(file for file in path.iterdir() if file.name.lower().endswith(SUFFIXES))
        names = {file: file.name.lower() for file in files}
        features = [file for file in files if "train" in names[file] and "label" not in names[file]]
        found = [file for file in files if "label" in names[file] and "test" not in names[file]]
        if labels is None and found:
            labels = _only(found, files, "labels", path)
        return _only(features, files, "path", path), labels

    def _file(self, name: str) -> Path:
        """As given, or beside the file of features."""
        given, main = Path(os.path.expanduser(name)), Path(os.path.expanduser(self.path))
        beside = (main if main.is_dir() else main.parent) / given
        return beside if not given.exists() and beside.exists() else given

    def _per_sample(self, samples: Samples, path: Path, labels: Path | None) -> dict[str, Array]:
        """Return label and group (N,) of each sample, from the file of labels or the features themselves."""
        names = (self.label, *([] if self.group is None else [self.group]))
        beside = {} if labels is None else _beside(labels, samples, self.id, names, _texts(self.where))
        found = {}
        for name in names:
            if name in beside:
                found[name] = beside[name]
            elif name in samples.aside:
                found[name] = samples.aside[name]
            else:
                key = "label" if name == self.label else "group"
                hint = "data.labels=FILE.csv" if labels is None and key == "label" else f"data.{key}=COLUMN"
                raise DataError(f"there is no column {name!r} of {key}s", where=str(labels or path),
                                got=f"data.{key}={name}", hint=hint)  # fmt: skip
        return found


def _beside(
    path: Path, samples: Samples, id_name: str, names: Sequence[str], where: Mapping[str, tuple[str, ...]]
) -> dict[str, Array]:
    """Return some columns of a file of labels as text (N,), those that it has.

    Raises `DataError` unless it has one row for each sample and no other.
    """
    table = keep_rows(read_table(path, None), where)
    ids = wanted(table, id_name, "data.id")
    row_of: dict[str, int] = {}
    for row, name in enumerate(ids.tolist()):
        if row_of.setdefault(name, row) != row:
            raise DataError("a sample has two labels", where=table.place(row), got=f"sample {name}")
    absent = [name for name in samples.ids.tolist() if name not in row_of]
    if absent:
        more = f"; {len(absent)} samples have none" if len(absent) > 1 else ""
        raise DataError("a sample has no label", where=table.path, got=f"sample {absent[0]}{more}",
                        hint="ids are compared as text: 000 is not 0")  # fmt: skip
    if len(row_of) > len(samples.ids):
        other = next(name for name in row_of if name not in set(samples.ids.tolist()))
        raise DataError("a label is of no sample", where=table.place(row_of[other]), got=f"sample {other}")
    rows = [row_of[name] for name in samples.ids.tolist()]
    return {name: wanted(table, name, "column")[rows].astype(str) for name in names if name in table.columns}


def _labels(texts: Array) -> Array:
    """Return labels as whole numbers where all are, so that 10 comes after 9; else as text."""
    numbers = all(_WHOLE.fullmatch(text) for text in set(texts.tolist()))
    return texts.astype(np.int64) if numbers else texts


def _texts(where: Mapping[str, Scalar | tuple[Scalar, ...]]) -> dict[str, tuple[str, ...]]:
    """Values as they stand in a file."""
    several = {name: value if isinstance(value, tuple) else (value,) for name, value in where.items()}
    return {
        name: tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
        for name, values in several.items()
    }


def _only(found: list[Path], files: list[Path], key: str, folder: Path) -> Path:
    if len(found) == 1:
        return found[0]
    listed = ", ".join(file.name for file in found or files) or "no .csv file"
    what = "several files could be" if found else "no file is"
    words = {"path": "the training features", "labels": "the labels"}[key]
    raise DataError(f"{what} {words}", where=str(folder), got=listed, hint=f"data.{key}=FILE.csv")
