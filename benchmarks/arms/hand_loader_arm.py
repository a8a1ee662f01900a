"""The hand-written loop over a `DataLoader`, as most tutorials have it: what batching by sample costs on its own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import mse_loss

from arms.workload import N_TRAIN, N_VAL, Clock, Outcome, Workload


def run(work: Workload, clock: Clock, folder: Path) -> Outcome:
    model = work.model()
    optimizer = work.optimizer(model)
    train_loader, val_loader = work.train_loader(), work.val_loader()
    steps, history = 0, []
    clock.watch(model)
    for _ in range(work.epochs):
        model.train()
        train_sum, val_sum = torch.zeros(()), torch.zeros(())
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            train_sum += loss.detach() * len(x)
            steps += 1
        model.eval()
        with torch.inference_mode():
            for x, y in val_loader:
                val_sum += mse_loss(model(x), y, reduction="sum")
        history.append((train_sum.item() / N_TRAIN, val_sum.item() / N_VAL))
    with clock.saving():
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "last.pt")
    clock.stop()
    return Outcome(steps=steps, val_loss=history[-1][1])
