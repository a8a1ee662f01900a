"""`data=lg_m50t`: the published folder of ageing experiments on LG M50T cells, by one of three pipelines.

The data: Kirkaldy et al., Lithium-ion battery degradation: comprehensive cycle ageing data and analysis for commercial
21700 cells, J. Power Sources 603, 234185, 2024. Shapes: R rows (check-ups of a cell), F features.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from paceline.config.suggest import hint as name_hint
from paceline.data.config import DataConfig
from paceline.data.csv_table import Table, as_numbers, read_table, wanted
from paceline.data.dataset import Dataset
from paceline.errors import DataError
from paceline.recipes.battery import pipelines
from paceline.recipes.battery.cells import CellForm, CellTable, shaped

LOG = logging.getLogger("paceline")
Floats = NDArray[np.float64]

SUMMARY_FILE = re.compile(r"Expt (\d+(?:,\d+)?) - [Cc]ell (\w+) \((-?\d+)degC\) - Processed Data\.csv")
CURVE_FILE = re.compile(r"Expt (\d+(?:,\d+)?) - [Cc]ell (\w+) - RPT(\d+) - 0\.1C discharge data\.csv")
MOST_FILES = 100_000  # looked at below the folder
SET, CAPACITY, HEALTH = "Ageing Set", "C/10 Capacity [mA h]", "SoH"
NUMBERS = ("Charge Throughput [A h]", "Discharge Throughput [A h]", "0.1s Resistance [Ohms]", "10s Resistance [Ohms]")
TEMPERATURES = ("Age set av. temperature [degC]", "Age set av. temperature [°C]")  # as the files have it
VOLTAGE, CHARGE = "Voltage (V)", "Charge (mA.h)"


class LgM50t(CellForm, DataConfig):
    """Files `Expt 5 - cell A (10degC) - Processed Data.csv`, one per cell, anywhere below the folder.

    path: the folder. experiment: its number (`5`, `2,2`), where the folder holds several; null: all. pipeline:
    `summary_set`: seven features of each check-up (throughputs, resistances at .1 s and 10 s, temperature in K, the
    Arrhenius factor for 50 kJ/mol, 1000/T), target `SoH`. `ica_peaks`: position, height and width of three peaks of
    |dQ/dV| of the C/10 discharge curve of the same check-up (`Expt 5 - cell A - RPT0 - 0.1C discharge data.csv`), same
    target. `latent_ode_seq`: one sequence per cell, the seven features over days (number of the ageing set x 7), target
    C / C0 by C/10 capacity. smoothing_window, smoothing_order: of the Savitzky-Golay filter; peaks: how many.

    The temperature of the chamber is the `condition`; it stands in where a check-up has no temperature of its own.
    """

    name: Literal["lg_m50t"] = "lg_m50t"
    path: str = Field(min_length=1)
    experiment: str | None = Field(default=None, min_length=1)
    pipeline: Literal["summary_set", "ica_peaks", "latent_ode_seq"] = "summary_set"
    smoothing_window: int = Field(default=pipelines.WINDOW, ge=5)
    smoothing_order: int = Field(default=pipelines.ORDER, ge=1)
    peaks: int = Field(default=pipelines.PEAKS, ge=1)

    @model_validator(mode="after")
    def _window_holds_the_polynomial(self) -> LgM50t:
        if self.smoothing_window % 2 == 0 or self.smoothing_window <= self.smoothing_order:
            raise ValueError("smoothing_window must be odd and larger than smoothing_order")
        return self

    def load(self) -> Dataset:
        """Read the files of all cells. Raises `DataError` naming file, line and column."""
        cells = find_cells(Path(os.path.expanduser(self.path)), self.experiment)
        parts = [self._rows(cell) for cell in cells]
        names = pipelines.peak_names(self.peaks) if self.pipeline == "ica_peaks" else pipelines.SUMMARY
        columns: dict[str, Any] = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        source = f"{Path(self.path).name}, {self.pipeline}, times in days"
        table = CellTable(names=names, source=source, **columns)
        form: CellForm = self
        if self.pipeline == "latent_ode_seq" and self.form == "rows":
            form = CellForm(form="sequences", derived=self.derived, smooth=self.smooth)
        return shaped(table, form, self.missing)

    def _rows(self, cell: CellFiles) -> dict[str, NDArray[Any]]:
        """Return the columns of one cell's rows in a `CellTable`."""
        table = read_table(cell.summary)
        sets = _numbers(table, SET)
        if (np.diff(sets) <= 0).any():
            row = int(np.flatnonzero(np.diff(sets) <= 0)[0]) + 1
            raise DataError("the number of the ageing set does not increase", where=table.place(row, SET),
                            got=f"{sets[row]:g} after {sets[row - 1]:g}")  # fmt: skip
        target = self._target(table)
        keep = np.ones(len(sets), dtype=bool)
        if self.pipeline == "ica_peaks":
            keep = np.isin(sets, list(cell.curves))
            features = self._peaks(cell, sets, keep)
        else:
            charge, discharge, fast, slow = (_numbers(table, name) for name in NUMBERS)
            features = pipelines.summary_set(charge, discharge, fast, slow, _temperature(table, cell.celsius))
        n = int(keep.sum())
        return {
            "features": features,
            "cell": np.full(n, cell.name),
            "time": pipelines.days_of(sets[keep]),
            "target": target[keep],
            "condition": np.full(n, cell.celsius),
        }

    def _target(self, table: Table) -> Floats:
        if self.pipeline == "latent_ode_seq" or HEALTH not in table.columns:
            return pipelines.relative(_numbers(table, CAPACITY))
        return _numbers(table, HEALTH)

    def _peaks(self, cell: CellFiles, sets: Floats, keep: NDArray[np.bool_]) -> Floats:
        """Return the peaks of the curves of the check-ups to keep (R, 3 x peaks)."""
        if not keep.any():
            fix = f"files such as Expt 5 - cell {cell.name} - RPT0 - 0.1C discharge data.csv"
            raise DataError("a cell has no C/10 discharge curves", where=str(cell.summary), hint=fix)
        if not keep.all():
            LOG.warning("cell %s: %d of %d check-ups have no C/10 discharge curve and are left out", cell.name,
                        int((~keep).sum()), len(keep))  # fmt: skip
        found, how = [], (self.smoothing_window, self.smoothing_order, self.peaks)
        for number in sets[keep]:
            curve = read_table(cell.curves[int(number)])
            voltage, charge = _numbers(curve, VOLTAGE), _numbers(curve, CHARGE)
            try:
                found.append(pipelines.ica_peaks(voltage, charge, *how))
            except DataError as error:
                raise DataError(error.what, where=curve.path, got=error.got) from None
        return np.array(found)


@dataclass(frozen=True, kw_only=True)
class CellFiles:
    """The files of one cell: the summary, and the discharge curve of each check-up by its number."""

    name: str
    celsius: float
    summary: Path
    curves: dict[int, Path]


def find_cells(folder: Path, experiment: str | None) -> list[CellFiles]:
    """Return the cells of a folder, sorted by name; `5A` instead of `A` where it holds several experiments.

    Raises DataError where there is no file of the layout, or none of the experiment.
    """
    files = _files(folder)
    found = {path: match.groups() for path in files if (match := SUMMARY_FILE.fullmatch(path.name))}
    if not found:
        raise DataError("the folder has no file of the published layout", where=str(folder), got=f"{len(files)} files",
                        hint="Expt 5 - cell A (10degC) - Processed Data.csv")  # fmt: skip
    known = sorted({own for own, _, _ in found.values()})
    if experiment is not None and experiment not in known:
        raise DataError("the folder has no such experiment", where="data.experiment", got=experiment,
                        hint=name_hint(experiment, known))  # fmt: skip
    chosen = {path: parts for path, parts in found.items() if experiment in (None, parts[0])}
    several = len({own for own, _, _ in chosen.values()}) > 1
    curves: dict[tuple[str, str], dict[int, Path]] = {}
    for path in files:
        if match := CURVE_FILE.fullmatch(path.name):
            curves.setdefault((match[1], match[2]), {})[int(match[3])] = path
    cells = [
        CellFiles(name=own + cell if several else cell, celsius=float(celsius), summary=path,
                  curves=curves.get((own, cell), {}))
        for path, (own, cell, celsius) in chosen.items()
    ]  # fmt: skip
    return _distinct(sorted(cells, key=lambda cell: cell.name))


def _distinct(cells: Sequence[CellFiles]) -> list[CellFiles]:
    for one, other in pairwise(cells):
        if one.name == other.name:
            raise DataError("two files are of the same cell", where=str(other.summary), got=str(one.summary))
    return list(cells)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        what = "the path is not a folder" if folder.exists() else "there is no such folder"
        raise DataError(what, where=str(folder), hint="the folder of the published files")
    files: list[Path] = []
    for at, folders, names in os.walk(folder):  # does not follow links
        folders.sort()
        files += [Path(at, name) for name in sorted(names)]
        if len(files) > MOST_FILES:
            raise DataError("the folder holds too many files", where=str(folder), got=f"more than {MOST_FILES:,}")
    return files


def _numbers(table: Table, name: str) -> Floats:
    """Return a column that must be there, complete and numeric."""
    wanted(table, name, "column")
    found: Floats = as_numbers(table, name)
    return found


def _temperature(table: Table, chamber: float) -> Floats:
    """Return each check-up's temperature in C, the chamber's where it has none."""
    name = next((name for name in TEMPERATURES if name in table.columns), TEMPERATURES[0])
    if name not in table.columns:
        wanted(table, name, "column")
    found = as_numbers(table, name)
    return np.where(np.isnan(found), chamber, found)
