"""A run small enough to be killed hundreds of times, and what differs between two finished ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paceline.api.runs import train
from paceline.checkpoint.store import Store, read_state
from paceline.checkpoint.tree import equal
from paceline.run.folder import Run
from paceline.train.cohort import CohortTraining

from .forking import Board

SAMPLES = 60
EVERY = 4  # steps from save to save
SETTINGS = (
    "data=npz", "data.split.val_fraction=0.2", "model.channels=[8]", "model.hidden_size=8", "training.batch_size=8",
    f"training.save.every_steps={EVERY}", "training.early_stopping.enabled=false", "numerics.threads=1",
    "training.processes=1", "training.compile=false",
)  # fmt: skip
SEEDS = {"eager": "[1]", "cohort": "[1,2]"}  # one cohort each: members of `eager` train apart


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """A configuration and its data; runs of it land in `folder`."""

    folder: Path
    engine: str
    num_epochs: int = 30
    more: tuple[str, ...] = ()

    def overrides(self) -> list[str]:
        """The configuration as overrides."""
        return [*SETTINGS, f"data.path={self.folder / 'data.npz'}", f"members.seeds={SEEDS[self.engine]}",
                f"training.engine={self.engine}", f"training.num_epochs={self.num_epochs}", *self.more]  # fmt: skip

    def write_data(self) -> None:
        rng = np.random.default_rng(0)
        self.folder.mkdir(parents=True, exist_ok=True)
        lengths = rng.integers(3, 7, SAMPLES)
        x = rng.normal(size=(SAMPLES, 6, 3))
        np.savez(self.folder / "data.npz", X=x, y=np.arange(SAMPLES) % 3, lengths=lengths)

    def start(self, name: str, runs: Path | None = None) -> None:
        train("pain", self.overrides(), runs=runs or self.folder, name=name)

    def run(self, name: str) -> Run:
        return Run(self.folder / name)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.folder / name, ignore_errors=True)


def cohorts(run: Run) -> list[str]:
    """The ids of a run's cohorts."""
    return [cohort["id"] for cohort in run.read_json("plan.json")["cohorts"]]


def newest(run: Run) -> int:
    """Return the step of the newest checkpoint that verifies, 0 where there is none. For runs of one cohort."""
    stores = [Store(folder) for folder in sorted((run.path / "checkpoints").glob("*")) if folder.is_dir()]
    found = [pair for store in stores if (pair := store.latest()) is not None]
    return max((step for step, _ in found), default=0)


def differences(run: Run, reference: Run) -> list[str]:
    """Name what differs between two finished runs: the log, every member's files, and the last saved states."""
    found = [name for name in ("log.jsonl", "members.csv") if _bytes(run, name) != _bytes(reference, name)]
    for member in reference.members:
        folder = f"members/{member}"
        names = [f"{folder}/history.json", f"{folder}/history.csv"]
        found += [name for name in names if _bytes(run, name) != _bytes(reference, name)]
        for name in (f"{folder}/best.pt", f"{folder}/latest.pt"):
            found += [
                f"{name}: {path}" for path in equal(read_state(run.path / name), read_state(reference.path / name))
            ]
        ours, theirs = (np.load(r.path / folder / "predictions.npz") for r in (run, reference))
        found += [f"{folder}/predictions.npz {key}" for key in theirs if ours[key].tobytes() != theirs[key].tobytes()]
    for cohort in cohorts(reference):
        found += [f"checkpoint: {path}" for path in equal(*(_last(r, cohort) for r in (run, reference)))]
    return found


def _last(run: Run, cohort: str) -> object:
    """Return the training part of a cohort's last state: what is beside it counts bytes of wall times."""
    found = Store(run.path / "checkpoints" / cohort).latest()
    return None if found is None else (found[0], found[1].get("cohort"))


def _bytes(run: Run, name: str) -> bytes:
    return (run.path / name).read_bytes()


def board() -> Board:
    """What `watch` writes down. `acked`: the highest step whose save returned; `resumed`: -1 until one is loaded."""
    numbers = Board("at", "begun", "ended", "acked", "resumed")
    numbers["resumed"] = -1
    return numbers


@contextmanager
def watch(numbers: Board) -> Iterator[None]:
    """Write down in this process where a training is: its step, its saves, where it went on. For a forked child."""
    real = {(owner, name): getattr(owner, name) for owner, name in _WATCHED}

    def stepped(self: CohortTraining) -> None:
        real[CohortTraining, "step"](self)
        numbers["at"] = self.at

    def loaded(self: CohortTraining, state: Any) -> None:
        real[CohortTraining, "load_state_dict"](self, state)
        numbers["at"] = numbers["resumed"] = self.at

    def saved(self: Store, step: int, *args: Any, **options: Any) -> object:
        numbers["begun"] += 1
        try:
            path = real[Store, "save"](self, step, *args, **options)
            numbers["acked"] = max(numbers["acked"], step)
            return path
        finally:
            numbers["ended"] += 1

    for (owner, name), hook in zip(_WATCHED, (stepped, loaded, saved), strict=True):
        setattr(owner, name, hook)
    try:
        yield
    finally:
        for (owner, name), before in real.items():
            setattr(owner, name, before)


_WATCHED: Sequence[tuple[Any, str]] = (
    (CohortTraining, "step"), (CohortTraining, "load_state_dict"), (Store, "save"),
)  # fmt: skip
