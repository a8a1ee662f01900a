"""How the configuration was chosen: every candidate on vowels and on made-up contacts, none of it robot failures."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import paceline
from paceline.evaluate.predictions import read_predictions
from quality.arms import f1, forest_of, unselected
from quality.data import CHOSEN_ON

TRIES = Path(__file__).parent / "tries.json"
REDRAWS = 6

SMALL = [
    "model=conv_gru", "model.channels=[64]", "model.kernel_size=3", "model.hidden_size=16", "model.dropout=0.1",
    "training.learning_rate=0.015", "training.num_epochs=150",
]  # fmt: skip
BATCH = [*SMALL, "training.batch_size=8", "training.weight_decay=0.1"]
SCALED = [*BATCH, "training.augment.scale=0.3"]
CANDIDATES: Mapping[str, Sequence[str]] = {
    "the recipe's defaults": ["training.num_epochs=60"],
    "small": [*SMALL, "training.batch_size=16"],
    "batch 8": BATCH,
    "batch 8, smoothing .15": [*BATCH, "loss.label_smoothing=0.15"],
    "batch 8, decay .4, rate .03": [*BATCH, "training.weight_decay=0.4", "training.learning_rate=0.03"],
    "batch 8, 32 channels": [*BATCH, "model.channels=[32]"],
    "batch 8, class weights": [*BATCH, "loss.class_weights=balanced"],
    "scaled": SCALED,
    "scaled, smoothing .15": [*SCALED, "loss.label_smoothing=0.15"],
    "scaled by .5": [*BATCH, "training.augment.scale=0.5"],
    "scaled by .8": [*BATCH, "training.augment.scale=0.8"],
    "scaled by .5, always": [*BATCH, "training.augment.scale=0.5", "training.augment.probability=1"],
    "scaled by .5, EMA": [
        *BATCH, "training.augment.scale=0.5",
        "training.weight_average.name=ema", "training.weight_average.decay=0.99",
    ],
    "scaled, 300 epochs": [*SCALED, "training.num_epochs=300"],
    "gru, both directions, scaled": [
        "model=gru", "model.bidirectional=true", "model.num_layers=1", "model.hidden_size=32", "model.dropout=0.1",
        *[text for text in SCALED if not text.startswith("model")],
    ],
}  # fmt: skip
CHOSEN = "scaled by .5, always"


def choose(runs: Path, target: Path | None, only: Sequence[str] = ()) -> int:
    """Score every candidate, print the table, write the scores to `target`."""
    rows = []
    for name, overrides in CANDIDATES.items():
        if only and name not in only:
            continue
        start = time.perf_counter()
        scores = {where: score(where, overrides, runs) for where in CHOSEN_ON}
        mean = float(np.mean(list(scores.values())))
        rows.append({"name": name, "overrides": list(overrides), "mean": mean, "ours - forest": scores})
        listed = "  ".join(f"{value:+.3f}" for value in scores.values())
        print(f"{name:<30}{mean:+.3f}   {listed}   {time.perf_counter() - start:.0f} s", flush=True)
        if target is not None:
            target.write_text(json.dumps({"candidates": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


def score(where: str, overrides: Sequence[str], runs: Path) -> float:
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
