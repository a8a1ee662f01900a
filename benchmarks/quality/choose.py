"""How the configuration was chosen: cross-validation within training parts of the robot failures, and other data.

Shapes: N samples.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import paceline
from paceline.data.config import SplitConfig
from paceline.data.split import make_splits
from paceline.evaluate.ensemble import mean_of
from paceline.evaluate.predictions import read_predictions
from quality.arms import FIRST_SEED, f1, forest_of, unselected
from quality.data import CHOSEN_ON, SETS, robot_failures

TRIES = Path(__file__).parent / "tries.json"
REDRAWS = 6  # of small training parts of the other data
INNER = {"lp1": 4, "lp2": 4, "lp3": 2, "lp5": 4}  # folds of a training part; lp3's rarest class has two samples there
MEMBERS = 5

FEW = [
    "model=statistics", "data.scale=robust", "loss.class_weights=balanced", "training.batch_size=256",
    "training.num_epochs=200", "training.learning_rate=0.005", "training.weight_decay=0.05",
]  # fmt: skip
CANDIDATES: Mapping[str, Sequence[str]] = {  # what was left after the exploration that the record lists
    "statistics, two hidden layers": [*FEW, "model.hidden_sizes=[64,64]"],
    "statistics, input dropout .4": [*FEW, "model.input_dropout=0.4"],
}
CHOSEN = "statistics, input dropout .4"


def choose(runs: Path, folder: Path, target: Path | None, only: Sequence[str] = ()) -> int:
    """Score every candidate, print the table, write the scores to `target`.

    The mean is that over the robot sets, within training parts; the other data is shown beside it.
    """
    rows = []
    for name, overrides in CANDIDATES.items():
        if only and name not in only:
            continue
        start = time.perf_counter()
        inner = {where: within(where, overrides, folder, runs) for where in SETS}
        other = {where: elsewhere(where, overrides, runs) for where in CHOSEN_ON}
        mean = float(np.mean(list(inner.values())))
        rows.append({"name": name, "overrides": list(overrides), "mean": mean, "ours - forest": inner, "other": other})
        listed = "  ".join(f"{value:+.3f}" for value in (*inner.values(), *other.values()))
        print(f"{name:<42}{mean:+.4f}   {listed}   {time.perf_counter() - start:.0f} s", flush=True)
        if target is not None:
            target.write_text(json.dumps({"candidates": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


def left_out(rows: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Return for each robot set the candidate with the highest mean over the other sets: chosen without its labels."""
    scores = {row["name"]: row["ours - forest"] for row in rows}
    return {
        name: max(scores, key=lambda c: float(np.mean([scores[c][n] for n in SETS if n != name])))  # type: ignore[index]
        for name in SETS
    }


def within(name: str, overrides: Sequence[str], folder: Path, runs: Path) -> float:
    """Return macro F1 of the mean of five members minus that of the forest, by cross-validation of training parts.

    The parts are those of the first redraw that the benchmark measures on; no sample of a fold is looked at when its
    training part is divided further.
    """
    data = robot_failures(name, folder)
    differences = []
    for outer, train in enumerate(_training_parts(name, folder)):
        labels = np.array(data.classes)[data.columns["y"][train]]
        part = paceline.dataset(x=data.columns["x"][train], y=labels, source=f"{name}, fold {outer}")
        keys = [f"members.folds={INNER[name]}", f"members.seeds={MEMBERS}", "data.duplicates=warn"]
        wanted = [*unselected(overrides), *keys]
        run = paceline.train("pain", wanted, data=part, runs=runs, name="within", overwrite=True)
        for split in run.read_json("splits.json")["splits"]:
            own = [row["id"] for row in run.summary["members"] if row["fold"] == split["fold"]]
            ours = mean_of([read_predictions(run.member_folder(member) / "predictions.npz")["val"] for member in own])
            forest = _forest_within(name, outer, part, tuple(split["train"]), tuple(split["val"]))
            differences.append(f1(ours) - forest)
    return float(np.mean(differences))


@functools.cache
def _training_parts(name: str, folder: Path) -> list[np.ndarray]:
    splits = make_splits(robot_failures(name, folder), SplitConfig(seed=FIRST_SEED), n_folds=SETS[name])
    return [np.asarray(split.train) for split in splits]


_forests: dict[tuple[object, ...], float] = {}  # the same for every candidate


def _forest_within(
    name: str, outer: int, part: paceline.Dataset, train: tuple[int, ...], test: tuple[int, ...]
) -> float:  # fmt: skip
    key = (name, outer, train, test)
    if key not in _forests:
        _forests[key] = f1(forest_of(part, np.array(train), np.array(test), seed=outer))
    return _forests[key]


def elsewhere(where: str, overrides: Sequence[str], runs: Path) -> float:
    """Return macro F1 of single members minus that of the forest, mean over redrawn small training parts.

    Both sides are measured on all that is not trained on, hundreds of samples.
    """
    n_train, load = CHOSEN_ON[where]
    data = load()
    redrawn = [f"members.seeds={REDRAWS}", "members.split_seed=per_seed", "data.duplicates=warn"]
    wanted = [*unselected(overrides), f"data.split.val_fraction={1 - n_train / len(data)}", *redrawn]
    run = paceline.train("pain", wanted, data=data, runs=runs, name="tried", overwrite=True)
    differences = []
    for split, member in zip(run.read_json("splits.json")["splits"], run.members, strict=True):
        forest = forest_of(data, np.array(split["train"]), np.array(split["val"]), seed=split["seed"])
        ours = read_predictions(run.member_folder(member) / "predictions.npz")["val"]
        differences.append(f1(ours) - f1(forest))
    return float(np.mean(differences))
