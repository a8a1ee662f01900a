"""`data=cycles`: any tidy table of cells, one row per cell and cycle (or check-up)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from paceline.data.config import DataConfig
from paceline.data.csv_table import SUFFIXES
from paceline.data.dataset import Dataset
from paceline.data.unlabelled import Known, Unlabelled
from paceline.recipes.battery.cells import CellForm, CellTable, shaped
from paceline.recipes.battery.reading import PARQUET, cell_table, read_file


class Cycles(CellForm, DataConfig):
    """A CSV (`.csv`, `.csv.gz`) or Parquet file with a row per cell and cycle.

    path: the file. features: the columns of x, in this order. target: the column to predict, such as the state of
    health. group: the column of cells, read as text. time: a column that increases within each cell, numbers or dates
    (ISO 8601, then days since the first); null: rows count. condition: a column of numbers to compare and to split by,
    such as the temperature. form, length, history, derived, smooth: what a sample is, see
    `paceline.recipes.battery.cells`.
    """

    name: Literal["cycles"] = "cycles"
    path: str = Field(min_length=1)
    features: tuple[str, ...] = Field(min_length=1)
    target: str = Field(min_length=1)
    group: str = Field(min_length=1)
    time: str | None = Field(default=None, min_length=1)
    condition: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Cycles:
        if len(set(self.features)) < len(self.features):
            raise ValueError("features names one column twice")
        if self.target in self.features:
            raise ValueError(f"features names the target, {self.target!r}")
        return self

    def load(self) -> Dataset:
        """Read and check the file. Raises `DataError` naming file, line and column."""
        path = Path(os.path.expanduser(self.path))
        return shaped(self._table(path, self.target), self, self.missing)

    def read_input(self, path: Path, known: Known) -> Unlabelled | None:
        """Return the samples of a file of the same columns, but for the target, which may be absent."""
        if not path.name.lower().endswith((*SUFFIXES, *PARQUET)):
            return None
        found = shaped(self._table(path, None), self, self.missing)
        mask, whole = found.columns.get("mask"), self.form == "sequences" and self.length is None
        return Unlabelled(
            x=found.columns["x"],
            lengths=None if mask is None else mask.sum(axis=1),
            channels=found.channels,
            columns={"t": found.columns["t"]},
            ids=found.ids,
            id_name=self.group if whole else "sample",
            label_name=self.target,
            source=str(path),
        )

    def _table(self, path: Path, target: str | None) -> CellTable:
        condition = None if target is None else self.condition  # no model looks at it
        names = [*self.features, self.group, *filter(None, (target, self.time, condition))]
        return cell_table(
            read_file(path, names, [self.group]), features=self.features, group=self.group, target=target,
            time=self.time, condition=condition, fill=self.missing == "mask", source=path.name,
        )  # fmt: skip
