"""Reading TensorBoard's files back with its own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from paceline.run.folder import Run

Points = dict[str, list[tuple[int, float]]]


def scalars(folder: Path) -> Points:
    """Return the points of each tag: (step, value)."""
    found = _reader(folder)
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def pictures(folder: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Return the pictures of each tag: (step, PNG)."""
    found = _reader(folder)
    return {
        tag: [(event.step, event.encoded_image_string) for event in found.Images(tag)] for tag in found.Tags()["images"]
    }


def differences(run: Run, member: str, tags: dict[str, str] | None = None) -> list[str]:
    """Name the columns of a member's history.csv that its event file does not have point by point, as float32."""
    history = pd.read_csv(run.member_folder(member) / "history.csv")
    found, epochs = scalars(run.path / "tensorboard" / member), history["epoch"].tolist()
    wrong = []
    for name in history.columns.drop(["epoch", "step"]):
        points = found.get((tags or {}).get(name, name), [])
        values = np.float32([value for _, value in points])
        same = [step for step, _ in points] == epochs
        same = same and np.array_equal(values, history[name].to_numpy(np.float32), equal_nan=True)
        wrong += [] if same else [name]
    return wrong


def _reader(folder: Path) -> Any:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()
