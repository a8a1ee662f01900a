"""paceline: `Trainer.fit` with its metrics, selection, log and run folder on; one durable checkpoint at the end."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

import paceline
from arms.workload import BATCH_SIZE, EVAL_BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY, Clock, Outcome, Workload
from paceline.checkpoint.store import Store
from paceline.tasks import Regression
from paceline.types import Control, Record


def config(work: Workload) -> dict[str, object]:
    return {
        "training.num_epochs": work.epochs,
        "training.batch_size": BATCH_SIZE,
        "training.evaluate.batch_size": EVAL_BATCH_SIZE,
        "training.learning_rate": LEARNING_RATE,
        "training.weight_decay": WEIGHT_DECAY,
        "training.schedule.name": "none",
        "training.early_stopping.enabled": False,
        "training.save.every_seconds": None,
        "training.compile": False,
        "numerics.threads": torch.get_num_threads(),
        "device": "cpu",
    }


class Watch:
    """Stops the clock at the first record after the final save; that includes one more evaluation than others make."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.steps, self.val_loss = 0, float("nan")

    def __call__(self, record: Record, control: Control) -> None:
        if record.split == "val":
            self.steps, self.val_loss = record.step, float(record.values["loss"])
        elif record.split == "last":
            self.clock.stop()


def run(work: Workload, clock: Clock, folder: Path) -> Outcome:
    model = work.model()
    watch = Watch(clock)
    clock.watch(model)  # before Trainer takes its copy of the initial weights
    trainer = paceline.Trainer(model, config(work), task=Regression(), folder=folder / "runs", callbacks=[watch])
    trainer.fit(work.train, work.val)
    return Outcome(steps=watch.steps, val_loss=watch.val_loss)


def save_seconds(folder: Path) -> float:
    """Save the run's own final state a few times more, as the run did: synced, renamed, read back."""
    (checkpoints,) = (folder / "runs").glob("*/checkpoints/*/")
    found = Store(checkpoints).latest()
    assert found is not None, "the run saved no checkpoint"
    store, seconds = Store(folder / "again"), []
    for step in range(5):
        started = time.perf_counter()
        store.save(step, found[1])
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
