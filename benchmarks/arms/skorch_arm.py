"""skorch: NeuralNetRegressor over tensor data sets, its default callbacks without the printed log."""

from __future__ import annotations

from pathlib import Path

import torch
from skorch import NeuralNetRegressor
from skorch.helper import predefined_split
from torch.utils.data import TensorDataset

from arms.workload import (
    BATCH_SIZE,
    EVAL_BATCH_SIZE,
    LEARNING_RATE,
    WEIGHT_DECAY,
    Clock,
    Outcome,
    Workload,
)


def run(work: Workload, clock: Clock, folder: Path) -> Outcome:
    model = work.model()
    net = NeuralNetRegressor(
        model,
        max_epochs=work.epochs,
        batch_size=BATCH_SIZE,
        iterator_train__shuffle=True,
        iterator_valid__batch_size=EVAL_BATCH_SIZE,
        optimizer=torch.optim.AdamW,
        optimizer__lr=LEARNING_RATE,
        optimizer__weight_decay=WEIGHT_DECAY,
        optimizer__fused=True,
        train_split=predefined_split(TensorDataset(*work.val)),
        callbacks__print_log=None,
        device="cpu",
        verbose=0,
    )
    clock.watch(model)
    net.fit(TensorDataset(*work.train), y=None)
    with clock.saving():
        net.save_params(
            f_params=folder / "model.pt", f_optimizer=folder / "optimizer.pt", f_history=folder / "history.json"
        )
    clock.stop()
    assert net.module_ is model, "skorch trained another module than the one watched"
    steps = sum(len([row for row in epoch if "train_batch_size" in row]) for epoch in net.history[:, "batches"])
    return Outcome(steps=steps, val_loss=float(net.history[-1, "valid_loss"]))
