"""What `Trainer.fit` owes a training script: best weights back, a fresh start each time, loaders with workers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from paceline import Trainer
from paceline.checkpoint.tree import equal
from paceline.tasks import Classification
from tests.contracts.tiny import points, result

SMALL = {"training.batch_size": 8, "numerics.threads": 1}
STILL = {**SMALL, "training.learning_rate": 1e-30, "training.weight_decay": 0.0}


def part(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    columns = points(n, seed=seed)
    return columns["x"], columns["y"]


TRAIN, VAL = part(30, 1), part(12, 2)


def test_the_best_weights_are_back_in_the_model_after_training(tmp_path):
    """C55: its validation loss is the lowest of the history, which is not that of the last epoch."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
    config = {**SMALL, "training.num_epochs": 12, "training.learning_rate": 0.5, "training.optimizer": "sgd"}
    run = Trainer(model, config, folder=tmp_path).fit(TRAIN, VAL)
    losses = run.history()["val_loss"]
    with torch.no_grad():
        assert float(F.cross_entropy(model(VAL[0]), VAL[1])) == pytest.approx(min(losses), rel=1e-6)
    assert losses[-1] > min(losses)


def test_a_second_fit_has_its_own_patience(tmp_path):
    """C56: with a flat loss both trainings have all the epochs that patience allows."""
    trainer = Trainer(nn.Linear(4, 3), {**STILL, "training.num_epochs": 9, "training.early_stopping.patience": 4},
                      folder=tmp_path)  # fmt: skip
    lengths = [len(trainer.fit(TRAIN, VAL).history()["val_loss"]) for _ in range(2)]
    assert lengths == [5, 5]


def test_without_a_tracker_everything_is_in_the_folder_that_was_named(tmp_path):
    """C63."""
    run = Trainer(nn.Linear(4, 3), {**SMALL, "training.num_epochs": 2}, folder=tmp_path / "mine").fit(TRAIN, VAL)
    assert run.path.parent == tmp_path / "mine"
    assert (run.path / "members/seed42/best.pt").is_file()
    assert list((run.path / "checkpoints/seed42").glob("step-*"))


def test_loaders_with_workers_give_the_bits_of_those_without(tmp_path):
    """C79."""

    model = nn.Linear(4, 3)  # every fit starts from the weights that it has then

    def fitted(workers: int) -> object:
        loader = DataLoader(TensorDataset(*TRAIN), batch_size=8, shuffle=True, num_workers=workers,
                            generator=torch.Generator())  # fmt: skip
        trainer = Trainer(copy.deepcopy(model), {**SMALL, "training.num_epochs": 2}, folder=tmp_path,
                          task=Classification(n_classes=3), name=f"with{workers}")  # fmt: skip
        return result(trainer.fit(loader, DataLoader(TensorDataset(*VAL), batch_size=6)))

    assert equal(fitted(2), fitted(0)) == []
