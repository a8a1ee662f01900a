"""PyTorch-Ignite: an Engine per pass, a Loss metric for validation, a Checkpoint when training completes."""

from __future__ import annotations

from pathlib import Path

import torch
from ignite.engine import Engine, Events, create_supervised_evaluator
from ignite.handlers import Checkpoint, DiskSaver
from ignite.metrics import Loss
from torch.nn.functional import mse_loss

from arms.workload import N_TRAIN, Clock, Outcome, Workload


def run(work: Workload, clock: Clock, folder: Path) -> Outcome:
    model = work.model()
    optimizer = work.optimizer(model)
    train_loader, val_loader = work.train_loader(), work.val_loader()
    train_sum, history = torch.zeros(()), []

    def update(engine: Engine, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        train_sum.add_(loss.detach() * len(x))
        return loss.detach()

    trainer = Engine(update)
    evaluator = create_supervised_evaluator(model, metrics={"mse": Loss(mse_loss)})

    @trainer.on(Events.EPOCH_STARTED)
    def begin_epoch() -> None:
        model.train()
        train_sum.zero_()

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate() -> None:
        evaluator.run(val_loader)
        history.append((train_sum.item() / N_TRAIN, evaluator.state.metrics["mse"]))

    state = {"model": model, "optimizer": optimizer, "trainer": trainer}
    checkpoint = Checkpoint(state, DiskSaver(str(folder / "checkpoints"), create_dir=True))

    @trainer.on(Events.COMPLETED)
    def save() -> None:
        with clock.saving():
            checkpoint(trainer)

    clock.watch(model)
    trainer.run(train_loader, max_epochs=work.epochs)
    clock.stop()
    return Outcome(steps=trainer.state.iteration, val_loss=history[-1][1])
