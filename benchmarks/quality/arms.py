"""Both sides on the same splits: members trained by `paceline.train`, and a random forest.

Shapes: N samples, C classes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import paceline
from paceline.evaluate.ensemble import mean_of
from paceline.evaluate.predictions import Predictions, metrics_of, read_predictions
from paceline.evaluate.references import forest_chances, predictions, summaries
from paceline.run.folder import Run
from quality.data import robot_failures

TREES = 500
FIRST_SEED = 42
FIXED = [  # what is no choice: one look at a fold, after the last epoch, so that no epoch is chosen on it
    "device=cpu", "numerics.threads=1", "training.early_stopping.enabled=false", "training.save.every_seconds=null",
    "training.engine=cohort", "training.compile=false",  # as alone, up to rounding, and several times faster
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Macro F1 of both sides on one fold of one redraw; `single` are those of our members one by one."""

    redraw: int
    fold: int
    n_train: int
    n_test: int
    ours: float
    forest: float
    single: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Division:
    """One cross-validation of one set: with which seeds it is divided and trained."""

    name: str
    folder: Path
    folds: int
    redraw: int
    members: int
    overrides: tuple[str, ...]


def unselected(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with a single evaluation, after the last epoch."""
    epochs = [text.partition("=")[2] for text in overrides if text.startswith("training.num_epochs=")][-1]
    return [*overrides, *FIXED, f"training.evaluate.every_epochs={epochs}"]


def cross_validated(division: Division) -> list[Fold]:
    """Train `members` seeds per fold, and the forest; measure both on every fold."""
    data = robot_failures(division.name, division.folder)
    seed = FIRST_SEED + division.redraw
    keys = [f"data.split.seed={seed}", f"members.folds={division.folds}", f"members.seeds={division.members}"]
    with tempfile.TemporaryDirectory(prefix="bench-quality-") as runs:
        wanted = [*unselected(division.overrides), *keys, "data.duplicates=warn"]
        run = paceline.train("pain", wanted, data=data, runs=runs, name="trained")
        return [_fold(run, data, split, division.redraw) for split in run.read_json("splits.json")["splits"]]


def _fold(run: Run, data: paceline.Dataset, split: Mapping[str, Any], redraw: int) -> Fold:
    own = [row["id"] for row in run.summary["members"] if row["fold"] == split["fold"]]
    members = [read_predictions(run.member_folder(member) / "predictions.npz")["val"] for member in own]
    train, test = np.array(split["train"]), np.array(split["val"])
    forest = forest_of(data, train, test, seed=FIRST_SEED + redraw)
    assert all(np.array_equal(np.sort(each.index), test) for each in members), "both sides predict the same samples"
    assert not set(train) & set(test)
    return Fold(
        redraw=redraw, fold=split["fold"], n_train=len(train), n_test=len(test),
        ours=f1(mean_of(members)), forest=f1(forest), single=tuple(f1(each) for each in members),
    )  # fmt: skip


def forest_of(data: paceline.Dataset, train: np.ndarray, test: np.ndarray, *, seed: int) -> Predictions:
    """Return what a random forest predicts for `test` that has seen `train` alone."""
    features = summaries(data.columns["x"], data.columns.get("mask"))
    chances = forest_chances(features, data.columns["y"], train, len(data.classes), seed=seed, trees=TREES)
    return predictions(chances, data.columns["y"], test)


def f1(found: Predictions) -> float:
    return metrics_of(found)["f1_macro"]
