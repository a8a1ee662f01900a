"""What a run shows beside its models: the references of `data.references`, measured on the same parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from paceline.data.config import DataConfig
from paceline.data.dataset import Dataset
from paceline.data.split import Split
from paceline.errors import ConfigError
from paceline.evaluate.paired import difference
from paceline.evaluate.predictions import Predictions, metrics_of
from paceline.evaluate.references import Ints, chances_of, clean_predictions, predictions

if TYPE_CHECKING:
    from paceline.run.build import Prepared

Row = Mapping[str, Any]  # seed, fold, metrics
LEFT_OUT = {"forest": ("log_loss",)}  # its probabilities are shares of trees and may be 0


def check_references(config: DataConfig, dataset: Dataset) -> None:
    """Raise ConfigError for a reference that these data do not allow."""
    for name in config.references:
        if name == "noise" and dataset.clean is None:
            raise ConfigError("the targets of these data are not known without their noise", where="data.references",
                              got=name, hint="data.references=[]")  # fmt: skip
        if name != "noise" and not (dataset.classes and "y" in dataset.columns):
            raise ConfigError("this reference is for classification", where="data.references", got=name)
    if "ceiling" in config.references and dataset.posterior is None:
        raise ConfigError("the ceiling of these data is not known", where="data.references", got="ceiling",
                          hint="data.references=[forest]")  # fmt: skip


def reference_rows(prepared: Prepared) -> dict[str, list[Row]]:
    """Measure each reference once per split, on validation, and on test where the run has opened it."""
    dataset, config = prepared.dataset, prepared.config.data
    if dataset is None:
        return {}
    rows: dict[str, list[Row]] = {}
    for name in config.references:
        for split in prepared.splits:
            found = predictor(name, dataset, split)
            parts = ["val", *["test"] * bool(config.split.open_test and len(split.test))]
            metrics = {
                f"{part}_{metric}": value
                for part in parts
                for metric, value in metrics_of(found(getattr(split, part))).items()
                if metric not in LEFT_OUT.get(name, ())
            }
            rows.setdefault(name, []).append({"seed": split.seed, "fold": split.fold, "metrics": metrics})
    return rows


def predictor(name: str, dataset: Dataset, split: Split) -> Callable[[Ints], Predictions]:
    """Return what gives the predictions of a reference for some samples."""
    if name == "noise":
        return partial(clean_predictions, dataset)
    return partial(predictions, chances_of(name, dataset, split.train, seed=split.seed), dataset.columns["y"])


def models_minus(prepared: Prepared, rows: Sequence[Row], members: Sequence[Row]) -> dict[str, Any]:
    """Return by how much the members (of one variant) exceed a reference on each metric, in pairs of the same split.

    {} where there is one split, and so one pair.
    """
    if len(rows) < 2:
        return {}
    how = {"redrawn": prepared.config.members.split_seed == "per_seed"}
    found = {}
    for name in rows[0]["metrics"]:
        part = name.partition("_")[0]
        sizes = [float(np.mean([len(getattr(s, which)) for s in prepared.splits])) for which in ("train", part)]
        how["fixed_part"] = part == "test"
        pair = difference(_scores(rows, name), _scores(members, name), *sizes, **how)
        bounds = None if pair.low is None else [pair.low, pair.high]
        found[name] = {"mean": pair.mean, "ci95": bounds, "n": pair.n, "method": pair.method}
    return found


def _scores(rows: Sequence[Row], name: str) -> list[tuple[int, int | None, float]]:
    values = [(row["seed"], row["fold"], row["metrics"].get(name)) for row in rows]
    return [(seed, fold, float(value)) for seed, fold, value in values if value is not None]
