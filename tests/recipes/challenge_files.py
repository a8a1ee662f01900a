"""Toy files in the layout of the challenge: 40 columns, 160 steps, three columns of words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

WORDS = {"n_legs": ["one+peg_leg", "two"], "n_hands": ["one+hook_hand", "two"], "n_eyes": ["one+eye_patch", "two"]}
CLASSES = ["no_pain", "low_pain", "high_pain"]
SURVEYS, JOINTS = [f"pain_survey_{i}" for i in range(1, 5)], [f"joint_{i:02d}" for i in range(30, -1, -1)]


def features(n: int, seed: int, steps: int = 160) -> pd.DataFrame:
    """Rows of n samples in order; joint_30, the first of the joints, is i + t / 1000 for sample i and step t."""
    rng = np.random.default_rng(seed)
    rows = n * steps
    frame = pd.DataFrame({"sample_index": np.repeat([f"{i:03d}" for i in range(n)], steps)})
    frame["time"] = np.tile(np.arange(steps), n)
    for name in SURVEYS:
        frame[name] = rng.integers(0, 3, rows)
    for name, words in WORDS.items():
        frame[name] = np.repeat(rng.permutation(np.resize(words, n)), steps)
    for name in JOINTS:
        frame[name] = rng.normal(size=rows)
    frame["joint_30"] = np.repeat(np.arange(n), steps) + frame["time"] / 1000
    return frame


def labels(n: int) -> pd.DataFrame:
    return pd.DataFrame({"sample_index": [f"{i:03d}" for i in range(n)], "label": np.resize(CLASSES, n)})


def write_challenge(folder: Path, n: int = 12, n_test: int = 5, steps: int = 160) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the four files, rows of the features in any order; return the features of training and test."""
    folder.mkdir(parents=True, exist_ok=True)
    train, test = features(n, 0, steps), features(n_test, 1, steps)
    train.sample(frac=1, random_state=0).to_csv(folder / "pirate_pain_train.csv", index=False)
    labels(n).sample(frac=1, random_state=1).to_csv(folder / "pirate_pain_train_labels.csv", index=False)
    test.to_csv(folder / "pirate_pain_test.csv", index=False)
    labels(n_test).assign(label="no_pain").to_csv(folder / "sample_submission.csv", index=False)
    return train, test
