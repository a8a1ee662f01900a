"""Hugging Face Trainer: evaluation by epoch, no logging, bars or clipping; one full checkpoint at the end."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import TensorDataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from arms.workload import (
    BATCH_SIZE,
    EVAL_BATCH_SIZE,
    LEARNING_RATE,
    SEED,
    WEIGHT_DECAY,
    Clock,
    Mlp,
    Outcome,
    Workload,
)


class WithLoss(nn.Module):
    """A model as the Trainer wants it: it returns its own loss."""

    def __init__(self, model: Mlp) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        prediction = self.model(x)
        return {"loss": mse_loss(prediction, labels), "logits": prediction}


class SaveAtEnd(TrainerCallback):
    """Ask for the Trainer's own checkpoint at the last epoch; it follows that epoch's evaluation."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.evaluated = 0.0

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        control.should_save = state.global_step >= state.max_steps

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self.evaluated = time.perf_counter()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self.clock.save_seconds = time.perf_counter() - self.evaluated


def collate(rows: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    x, y = zip(*rows, strict=True)
    return {"x": torch.stack(x), "labels": torch.stack(y)}


def arguments(work: Workload, folder: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder / "output"),
        num_train_epochs=work.epochs,
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=EVAL_BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        prediction_loss_only=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        use_cpu=True,
        seed=SEED,
    )


def run(work: Workload, clock: Clock, folder: Path) -> Outcome:
    model = WithLoss(work.model())
    trainer = Trainer(
        model=model,
        args=arguments(work, folder),
        data_collator=collate,
        train_dataset=TensorDataset(*work.train),
        eval_dataset=TensorDataset(*work.val),
        optimizers=(work.optimizer(model), None),
        callbacks=[SaveAtEnd(clock)],
    )
    trainer.remove_callback(PrinterCallback)
    clock.watch(model.model)
    trainer.train()
    clock.stop()
    assert clock.save_seconds is not None, "the Trainer made no checkpoint"
    losses = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    return Outcome(steps=trainer.state.global_step, val_loss=losses[-1])
