"""Lightning: the Trainer without bars, loggers, summary and sanity check; `save_checkpoint` at the end."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.optim import Optimizer

from arms.workload import Clock, Mlp, Outcome, Workload


class Module(LightningModule):
    """Both losses go to `self.log` with `on_epoch=True`, as Lightning's guide has it."""

    def __init__(self, model: Mlp, work: Workload) -> None:
        super().__init__()
        self.model = model
        self.work = work

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        x, y = batch
        loss = mse_loss(self.model(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        x, y = batch
        self.log("val_loss", mse_loss(self.model(x), y), on_step=False, on_epoch=True)

    def configure_optimizers(self) -> Optimizer:
        return self.work.optimizer(self.model)


def fit(module: Module, work: Workload, clock: Clock, folder: Path) -> Outcome:
    """Train with everything off that costs time and is not training."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        precision="32-true",
        max_epochs=work.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    clock.watch(module.model)
    trainer.fit(module, work.train_loader(), work.val_loader())
    with clock.saving():
        trainer.save_checkpoint(folder / "last.ckpt")
    clock.stop()
    return Outcome(steps=trainer.global_step, val_loss=float(trainer.callback_metrics["val_loss"]))


def run(work: Workload, clock: Clock, folder: Path) -> Outcome:
    return fit(Module(work.model(), work), work, clock, folder)
