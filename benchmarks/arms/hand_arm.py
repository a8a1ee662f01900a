"""A loop written by hand: plain indexing, loss sums on the device, one host sync per epoch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import mse_loss

from arms.workload import BATCH_SIZE, EVAL_BATCH_SIZE, N_TRAIN, N_VAL, SEED, Clock, Outcome, Workload


def evaluate(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Mean squared error over x (N, F), y (N,), in batches."""
    model.eval()
    total = torch.zeros(())
    with torch.inference_mode():
        for start in range(0, N_VAL, EVAL_BATCH_SIZE):
            rows = slice(start, start + EVAL_BATCH_SIZE)
            total += mse_loss(model(x[rows]), y[rows], reduction="sum")
    return total.item() / N_VAL


def run(work: Workload, clock: Clock, folder: Path) -> Outcome:
    model = work.model()
    optimizer = work.optimizer(model)
    (x, y), steps, history = work.train, 0, []
    generator = torch.Generator().manual_seed(SEED)
    clock.watch(model)
    for _ in range(work.epochs):
        model.train()
        total = torch.zeros(())
        order = torch.randperm(N_TRAIN, generator=generator)
        for start in range(0, N_TRAIN, BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            optimizer.zero_grad()
            loss = mse_loss(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
            steps += 1
        history.append((total.item() / N_TRAIN, evaluate(model, *work.val)))
    with clock.saving():
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "last.pt")
    clock.stop()
    return Outcome(steps=steps, val_loss=history[-1][1])
