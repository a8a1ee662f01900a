"""Leave one cell out on a table of cycles: networks by nested choice, and other models with the same inputs.

Nothing here looks at a held-out cell but the last line of `errors`: its rows are one fold, and a row's inputs are made
of the rows of its cell up to itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import paceline
from paceline.evaluate.predictions import read_predictions

TABLE = Path(__file__).resolve().parents[3] / "shared" / "data" / "battery" / "nasa_pcoe_cycles.csv"
ALL = ("mean_discharge_v", "mean_discharge_temp_c", "t_3p8_3p5_s")
ALONE = (1, False)  # a row without history
SETS: Mapping[str, tuple[str, ...]] = {"all": ALL, "without": ALL[:2]}  # the third is nearly the capacity itself
EPOCHS = 900  # of one step: all rows at once
SEEDS, INNER_SEEDS = 5, 2
HISTORIES: tuple[tuple[int, bool], ...] = ((1, False), (1, True), (5, True), (10, True))
SCALES, DECAYS = (0.3, 0.03), (0.01, 0.3)
FIXED = [  # no epoch is chosen on the held-out cell: it is looked at once, after the last epoch
    "device=cpu", "numerics.threads=1", "training.early_stopping.enabled=false",
    "data.split.rule=group", "data.duplicates=warn", "data.split.open_test=false",
]  # fmt: skip
NETWORK = [
    "model=mlp", "model.hidden_dims=[16]", "model.dropout=0.1", "model.linear_skip=true", "training.batch_size=1024",
    "training.learning_rate=0.1", "training.betas=[0.9,0.99]", "training.schedule.name=cosine",
    "training.schedule.t0=null", "training.schedule.t_mult=1", f"training.num_epochs={EPOCHS}",
    f"training.evaluate.every_epochs={EPOCHS}", "training.engine=cohort", "training.compile=false",
    "training.processes=1", "training.save.every_seconds=null",
]  # fmt: skip
OTHERS: Mapping[str, list[str]] = {
    "ols": ["model=ols"],
    "forest": ["model=forest"],
    "lightgbm": ["model=lgbm", "model.n_estimators=200", "training.evaluate.every_epochs=200",
                 "model.subsample=0.8", "model.colsample_bytree=0.8"],
    "mean": ["model=mean"],
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Candidate:
    """What is chosen: which history enters a row, how much the layers add to the linear path, weight decay."""

    smooth: int
    count: bool
    scale: float
    decay: float

    @property
    def name(self) -> str:
        rows = f"mean of {self.smooth}" if self.smooth > 1 else "the row"
        return f"{rows}{' and count' * self.count}, residual {self.scale:g}, decay {self.decay:g}"

    @property
    def history(self) -> tuple[int, bool]:
        return self.smooth, self.count

    @property
    def overrides(self) -> list[str]:
        return [*NETWORK, f"model.residual_scale={self.scale:g}", f"training.weight_decay={self.decay:g}"]


def cells_of(table: Path) -> list[str]:
    return sorted(pd.read_csv(table, dtype={"cell": str})["cell"].unique())


def data_keys(table: Path, features: Sequence[str], history: tuple[int, bool] = ALONE) -> list[str]:
    smooth, count = history
    return [
        "data=cycles", f"data.path={table}", f"data.features=[{','.join(features)}]", "data.target=soh",
        "data.group=cell", "data.time=cycle", f"data.smooth={smooth}", f"data.derived=[{'count' * count}]",
    ]  # fmt: skip


def errors(run: Any) -> Iterator[tuple[str, str, int, float]]:
    """Yield variant, held-out cell, seed and RMSE of every member; of the seeds' mean prediction as seed -1."""
    together: dict[tuple[str, str], list[Any]] = {}
    for row in run.summary["members"]:
        with np.load(run.member_folder(row["id"]) / "predictions.npz", allow_pickle=False) as arrays:
            cell = np.unique(arrays["val_group"])
        assert len(cell) == 1, "a fold is one cell"
        found = read_predictions(run.member_folder(row["id"]) / "predictions.npz")["val"]
        yield row["variant"], str(cell[0]), row["seed"], rmse(found.prediction, found.y)
        together.setdefault((row["variant"], str(cell[0])), []).append(found)
    for (variant, name), members in together.items():
        yield variant, name, -1, rmse(np.mean([m.prediction for m in members], axis=0), members[0].y)


def rmse(prediction: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    return float(np.sqrt(np.mean((prediction.astype(float) - y) ** 2)))


def inner_scores(table: Path, folder: Path, which: str, history: tuple[int, bool], *, epochs: int, seeds: int) -> Any:
    """Return {(candidate, held-out cell): mean RMSE over its three training cells}, each left out in turn."""
    whole = pd.read_csv(table, dtype={"cell": str})
    found: dict[tuple[Candidate, str], float] = {}
    for outer in cells_of(table):
        three = folder / f"without-{outer}.csv"
        whole[whole["cell"] != outer].to_csv(three, index=False)
        grid = f"members.vary={{model.residual_scale: {list(SCALES)}, training.weight_decay: {list(DECAYS)}}}"
        wanted = [*NETWORK, *FIXED, *data_keys(three, SETS[which], history), grid, "members.folds=3",
                  f"members.seeds={seeds}", *_epochs(epochs)]  # fmt: skip
        run = paceline.train("battery", wanted, runs=folder, name="inner", overwrite=True)
        scores: dict[str, list[float]] = {}
        for variant, _, seed, error in errors(run):
            if seed >= 0:
                scores.setdefault(variant, []).append(error)
        for variant, values in scores.items():
            own = run.member_config(next(m["id"] for m in run.summary["members"] if m["variant"] == variant))
            candidate = Candidate(*history, own["model"]["residual_scale"], own["training"]["weight_decay"])
            found[candidate, outer] = float(np.mean(values))
    return found


def outer_errors(
    table: Path,
    folder: Path,
    which: str,
    history: tuple[int, bool],
    overrides: Sequence[str],
    *,
    seeds: int,
    epochs: int = 0,
) -> dict[str, dict[int, float]]:
    """Train on three cells, measure on the fourth: {cell: {seed: RMSE}}."""
    wanted = [*overrides, *FIXED, *data_keys(table, SETS[which], history), "members.folds=4", f"members.seeds={seeds}"]
    run = paceline.train("battery", [*wanted, *_epochs(epochs)], runs=folder, name="outer", overwrite=True)
    found: dict[str, dict[int, float]] = {}
    for _, cell, seed, error in errors(run):
        found.setdefault(cell, {})[seed] = error
    return found


def _epochs(epochs: int) -> list[str]:
    return [f"training.num_epochs={epochs}", f"training.evaluate.every_epochs={epochs}"] if epochs else []


def of_arm(found: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    """Return the mean over cells and seeds with its parts; `ensemble` is that of the seeds' mean prediction."""
    cells = {
        cell: [error for seed, error in sorted(seeds.items()) if seed >= 0] for cell, seeds in sorted(found.items())
    }
    by_seed = np.mean(list(cells.values()), axis=0)
    return {
        "mean": float(by_seed.mean()),
        "std over seeds": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
        "ensemble": float(np.mean([seeds[-1] for seeds in found.values()])),
        "seeds": len(by_seed),
        "cells": cells,
    }


def best(sets: Sequence[Mapping[tuple[Candidate, str], float]], outer: str | None = None) -> Candidate:
    """Return the candidate with the lowest inner RMSE, as the geometric mean over sets of features.

    Of one outer fold, or of the mean over all of them.
    """
    cells = sorted({cell for _, cell in sets[0]}) if outer is None else [outer]

    def score(candidate: Candidate) -> float:
        return float(np.prod([np.mean([scores[candidate, cell] for cell in cells]) for scores in sets]))

    return min(sorted({candidate for candidate, _ in sets[0]}), key=score)
