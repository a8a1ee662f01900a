"""Callbacks of the battery group's guide: who is called when, who stops, and whose exception it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paceline.errors import ConfigError, TrainingError
from paceline.recipes.battery.compat import (
    BaseCallback,
    EarlyStopping,
    LRScheduler,
    MLPModel,
    ModelCheckpoint,
    Progress,
    Trainer,
    temperature_split,
)
from tests.recipes.battery_cells import rows

SHORT = {"epochs": 3, "batch_size": 64, "learning_rate": 0.01}
PARTS = temperature_split(rows(), train_temps=[10, 40], val_temps=[25])


class Recording(BaseCallback):
    """Notes its calls; a constructor of its own need not know the base's."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.metrics: list[dict[str, object]] = []

    def on_train_start(self) -> None:
        self.calls.append("start")

    def on_epoch_start(self, epoch: int) -> None:
        self.calls.append(("begin", epoch))

    def on_epoch_end(self, epoch, metrics) -> None:
        self.calls.append(("end", epoch))
        self.metrics.append(dict(metrics))

    def on_train_end(self) -> None:
        self.calls.append("done")


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return 0.9 + 0.0 * x[:, 0] * self.weight


def test_callbacks_are_called_in_order_with_the_metrics_of_a_member(workdir):
    """C70: the trainer takes them, and an epoch's metrics say whose they are."""
    own = Recording()
    history = Trainer(MLPModel(3, [4]), SHORT, callbacks=[own]).fit(*PARTS)
    epochs = [call for epoch in (1, 2, 3) for call in (("begin", epoch), ("end", epoch))]
    assert own.calls == ["start", *epochs, "done"]
    assert [m["member"] for m in own.metrics] == ["seed42"] * 3
    for name in ("train_loss", "val_loss", "val_rmse", "lr"):
        assert [m[name] for m in own.metrics] == pytest.approx(history[name])


def test_no_epoch_is_announced_that_never_begins(workdir):
    own = Recording()
    config = {**SHORT, "epochs": 30, "early_stopping_patience": 2, "grace_after_restart": 0}
    assert len(Trainer(Constant(), config, callbacks=[own]).fit(*PARTS)["epoch"]) == 3
    assert own.calls[-3:] == [("begin", 3), ("end", 3), "done"]


def test_several_seeds_are_told_apart(workdir):
    own = Recording()
    Trainer(lambda: MLPModel(3, [4]), {**SHORT, "epochs": 1, "seed": [1, 2]}, callbacks=[own]).fit(*PARTS)
    assert sorted(m["member"] for m in own.metrics) == ["seed1", "seed2"]


def test_a_callback_stops_the_training_after_its_epoch(workdir):
    """C72."""

    class Enough(BaseCallback):
        def on_epoch_end(self, epoch, metrics) -> None:
            self.stop_training = epoch == 2

    own = Enough()
    trainer = Trainer(MLPModel(3, [4]), SHORT, callbacks=[own])
    assert trainer.fit(*PARTS)["epoch"] == [1, 2]
    assert trainer.fit(*PARTS)["epoch"] == [1, 2]  # the flag of the first training does not end the second


@pytest.mark.parametrize("hook", ["on_train_start", "on_epoch_end", "on_train_end"])
def test_an_exception_names_the_callback(hook, workdir):
    """C72."""

    def fail(self, *_) -> None:
        raise ZeroDivisionError("by me")

    broken = type("Broken", (BaseCallback,), {hook: fail})()
    with pytest.raises(
        TrainingError, match=rf"callback Broken failed: ZeroDivisionError: by me\nwhere: Broken\.{hook}"
    ):
        Trainer(MLPModel(3, [4]), {**SHORT, "epochs": 1}, callbacks=[broken]).fit(*PARTS)


def test_early_stopping_ends_a_flat_training(workdir):
    """C71: two epochs without improvement after the first."""
    config = {**SHORT, "epochs": 30}
    trainer = Trainer(Constant(), config, callbacks=[EarlyStopping("val_mae", patience=2)])
    assert len(trainer.fit(*PARTS)["epoch"]) == 3
    assert len(trainer.fit(*PARTS)["epoch"]) == 3


def test_a_checkpoint_is_kept_where_it_is_asked_for(workdir):
    """C71: the best by the metric that it names."""
    trainer = Trainer(MLPModel(3, [4]), SHORT, callbacks=[ModelCheckpoint("mine/kept.pt", monitor="val_mae")])
    history = trainer.fit(*PARTS)
    state = torch.load("mine/kept.pt", weights_only=True)
    assert state["selection"]["metric"] == "val_mae"
    assert state["epoch"] == 1 + history["val_mae"].index(min(history["val_mae"]))
    assert Path(trainer.run_dir / "checkpoints/best.pt").read_bytes() == Path("mine/kept.pt").read_bytes()


def test_a_scheduler_moves_the_learning_rate(workdir):
    """C71."""
    trainer = Trainer(Constant(), {**SHORT, "epochs": 4}, callbacks=[LRScheduler("linear", min_factor=0.1)])
    assert trainer.fit(*PARTS)["lr"] == pytest.approx([0.01, 0.007, 0.004, 0.001])
    with pytest.raises(ConfigError, match="warmup_epochs"):
        Trainer(Constant(), {}, callbacks=[LRScheduler("cosine", warmup_epoch=2)])


def test_progress_prints_a_line(workdir, capsys):
    """C71."""
    Trainer(MLPModel(3, [4]), SHORT, callbacks=[Progress(every=2)]).fit(*PARTS)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert line.startswith("seed42 epoch 2: ") and "val_loss" in line


@pytest.mark.fast
def test_what_is_no_callback_is_an_error(workdir):
    with pytest.raises(ConfigError, match="no such mode"):
        EarlyStopping(mode="lowest")
    with pytest.raises(ConfigError, match="at least 1"):
        EarlyStopping(patience=0)
    for wrong in (Recording, object(), print):
        with pytest.raises(ConfigError, match="is no callback"):
            Trainer(MLPModel(3, [4]), SHORT, callbacks=[wrong]).fit(*PARTS)
    assert list(workdir.iterdir()) == []


def test_a_metric_that_is_not_there_is_named(workdir):
    with pytest.raises(ConfigError, match=r"no such metric\nwhere: EarlyStopping.*\ngot: val_f1\ntry: .*val_rmse"):
        Trainer(MLPModel(3, [4]), SHORT, callbacks=[EarlyStopping("val_f1", mode="max")]).fit(*PARTS)
