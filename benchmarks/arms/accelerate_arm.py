"""Accelerate: the user's own loop around prepared objects; `save_state` at the end."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from torch.nn.functional import mse_loss

from arms.workload import N_TRAIN, N_VAL, Clock, Outcome, Workload


def run(work: Workload, clock: Clock, folder: Path) -> Outcome:
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    network = work.model()
    model, optimizer, train_loader, val_loader = accelerator.prepare(
        network, work.optimizer(network), work.train_loader(), work.val_loader()
    )
    steps, history = 0, []
    clock.watch(network)
    for _ in range(work.epochs):
        model.train()
        train_sum, val_sum = torch.zeros(()), torch.zeros(())
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = mse_loss(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            train_sum += loss.detach() * len(x)
            steps += 1
        model.eval()
        with torch.inference_mode():
            for x, y in val_loader:
                val_sum += mse_loss(model(x), y, reduction="sum")
        history.append((train_sum.item() / N_TRAIN, val_sum.item() / N_VAL))
    with clock.saving():
        accelerator.save_state(str(folder / "state"))
    clock.stop()
    return Outcome(steps=steps, val_loss=history[-1][1])
