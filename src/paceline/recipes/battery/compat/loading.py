"""Samples from the recipe's data sources, features scaled by the training part, and files to try things on.

Shapes: N samples, T steps, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paceline.checkpoint.files import write_text_atomic
from paceline.config.suggest import hint
from paceline.config.validate import validate
from paceline.data.dataset import Dataset
from paceline.data.scale import Scaler
from paceline.errors import ConfigError
from paceline.recipes.battery import synthetic
from paceline.recipes.battery.compat.samples import Sample, columns_of
from paceline.recipes.battery.recipe import recipe

NOMINAL_MAH = 4850.0  # of an LG M50T cell
SAMPLE_COLUMNS = ("x", "y", "t", "mask")


def load_samples(source: str = "battery_synthetic", **keys: Any) -> list[Sample]:
    """Return the samples of one of the recipe's data sources (docs/data.md), in its order.

    keys: those of the source, such as `path="cells.csv", features=["v", "t"], target="soh", group="cell"` of `cycles`,
    or `form="sequences"`. Raises ConfigError for an unknown source or key, DataError for data that cannot be read.
    """
    if source not in recipe.data:
        raise ConfigError("there is no data source of that name", where="load_samples", got=source,
                          hint=hint(source, recipe.data))  # fmt: skip
    return samples_of(validate(recipe.data[source], {"name": source, **keys}, "data").load())


def samples_of(data: Dataset) -> list[Sample]:
    """Return a data set as samples; `meta` has cell_id, temperature_C and id, where the data has them."""
    known = {"cell_id": data.group, "temperature_C": data.columns.get("condition"), "id": data.ids}
    found = []
    for row in range(len(data)):
        own = {name: np.array(data.columns[name][row]) for name in SAMPLE_COLUMNS if name in data.columns}
        valid = own.pop("mask", None)
        if valid is not None:  # as long as it is, without padding
            own = {name: v[valid] if v.shape[:1] == valid.shape else v for name, v in own.items()}
        own["y"] = own["y"].reshape(-1)
        meta = {name: column[row].item() for name, column in known.items() if column is not None}
        found.append(Sample(**own, meta=meta))
    return found


def scale_features(train_samples: Sequence[Sample], *others: Sequence[Sample]) -> tuple[list[Sample], ...]:
    """Return new samples whose features have mean 0 and deviation 1 over the valid steps of the training samples.

    The other lists are scaled by the same numbers: what validates or tests has no part in them.
    """
    columns = columns_of({"train": train_samples}, targets=False)["train"]
    scaler = Scaler.fit(columns["x"], columns.get("mask"), np.arange(len(columns["x"])))
    return tuple([_scaled(sample, scaler) for sample in samples] for samples in (train_samples, *others))


def write_example_cells(folder: str | Path, seed: int = 0) -> Path:
    """Write files in the published layout of the LG M50T cells, with the cells of `battery_synthetic`; return folder.

    They are made up, for trying things out: no figure on them says anything about real cells.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    table = synthetic.draw(seed, 0.004)
    assert table.target is not None and table.condition is not None
    for cell in np.unique(table.cell):
        own = table.cell == cell
        charge, discharge, fast, slow, kelvin, _ = table.features[own].T
        columns = {
            "Ageing Set": np.arange(own.sum()),
            "Charge Throughput [A h]": charge,
            "Discharge Throughput [A h]": discharge,
            "0.1s Resistance [Ohms]": fast,
            "10s Resistance [Ohms]": slow,
            "Age set av. temperature [degC]": kelvin - 273.15,
            "C/10 Capacity [mA h]": NOMINAL_MAH * table.target[own],
            "SoH": table.target[own],
        }
        lines = [",".join(columns), *(",".join(f"{v:.9g}" for v in row) for row in zip(*columns.values(), strict=True))]
        name = f"Expt 5 - cell {cell} ({table.condition[own][0]:g}degC) - Processed Data.csv"
        write_text_atomic(target / name, "\n".join(lines) + "\n")
    return target


def _scaled(sample: Sample, scaler: Scaler) -> Sample:
    x = sample.x.detach().cpu().numpy() if hasattr(sample.x, "detach") else np.asarray(sample.x)
    return replace(sample, x=scaler.apply(x[None].astype(np.float64), None)[0].astype(np.float32))
