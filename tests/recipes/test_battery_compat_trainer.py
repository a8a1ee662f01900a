"""`Trainer` of the battery group's guide: its calls, its config, what it gives back and writes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paceline.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ModelError,
    PacelineError,
    RunError,
    TrainingError,
)
from paceline.recipes.battery.compat import (
    DEFAULTS,
    OPTIONS,
    BaseCallback,
    BaseLoss,
    DualTracker,
    EarlyStopping,
    LossRegistry,
    LSTMModel,
    MLPModel,
    NeuralODEModel,
    Trainer,
    compute_metrics,
    temperature_split,
)
from paceline.recipes.battery.compat.config import sections, settled
from tests.recipes.battery_cells import rows, sequences

SHORT = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01}


def parts(samples=None):
    return temperature_split(samples or rows(), train_temps=[10, 40], val_temps=[25])


def small(**more: Any) -> MLPModel:
    torch.manual_seed(0)
    return MLPModel(3, [8], dropout=0.0, **more)


class Flat(nn.Module):
    """A model whose predictions never change: its one parameter does not reach them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return 0.9 + 0.0 * x[:, 0] + 0.0 * self.weight.sum()


@pytest.mark.parametrize("form", ["keywords", "two", "three", "loss"])
def test_every_form_of_the_call_trains(form, workdir):
    """C2: and C3: the history has lists of equal length."""
    tracker = DualTracker(use_tensorboard=False)
    config = {**SHORT, "epochs": 1}
    trainer = {
        "keywords": lambda: Trainer(model=small(), config=config, tracker=tracker),
        "two": lambda: Trainer(small(), config),
        "three": lambda: Trainer(small(), config, tracker),
        "loss": lambda: Trainer(small(), config, loss_config={"name": "huber", "delta": 0.5}),
    }[form]()
    history = trainer.fit(*parts())
    assert {"epoch", "train_loss", "val_loss", "lr", "val_rmse", "val_mae", "val_mape", "val_r2"} <= set(history)
    assert {len(column) for column in history.values()} == {1}


@pytest.mark.fast
@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("epochs", 200, id="C4"),
        pytest.param("batch_size", 32, id="C5"),
        pytest.param("learning_rate", 1e-3, id="C6"),
        pytest.param("weight_decay", 0.01, id="C7"),
        pytest.param("early_stopping_patience", 20, id="C8"),
        pytest.param("gradient_clip", 1.0, id="C9"),
        pytest.param("use_amp", True, id="C10"),
        pytest.param("scheduler_T0", 50, id="C11"),
    ],
)
def test_what_is_left_out_has_the_guide_s_default(key, value):
    trainer = Trainer(small(), {})
    assert trainer.config[key] == DEFAULTS[key] == value
    assert set(trainer.config) == {*DEFAULTS, *OPTIONS}
    training = trainer._training  # what the core is told
    told = {
        "epochs": training.num_epochs, "batch_size": training.batch_size, "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay, "early_stopping_patience": training.early_stopping.patience,
        "gradient_clip": training.gradient_clip.value, "use_amp": training.amp.enabled == "auto",
        "scheduler_T0": training.schedule.t0,
    }  # fmt: skip
    assert told[key] == value


@pytest.mark.fast
def test_without_cuda_there_is_no_mixed_precision(recwarn):
    """C12: and no warning."""
    trainer = Trainer(small(), {"use_amp": True, "device": "cpu"})
    assert (trainer.use_amp, trainer.config["use_amp"], len(recwarn)) == (False, True, 0)


def test_the_first_epoch_trains_at_the_learning_rate_and_decay_is_decoupled(workdir):
    """C6: C7: C13: a parameter without gradient shrinks by learning rate x decay of itself in a step."""
    model = Flat()
    config = {"epochs": 1, "batch_size": 64, "early_stopping_patience": None, "scheduler_T0": 0}
    history = Trainer(model, config).fit(*parts())
    assert history["lr"] == [1e-3]
    assert model.weight.tolist() == pytest.approx([1 - 1e-3 * 0.01] * 2, abs=1e-7)


def test_a_flat_loss_stops_after_twenty_epochs_and_again(workdir):
    """C8: C53: C56: 21 epochs, in a second fit too."""
    trainer = Trainer(Flat(), {"grace_after_restart": 0})
    assert len(trainer.fit(*parts())["val_loss"]) == 21
    assert len(trainer.fit(*parts())["val_loss"]) == 21
    assert trainer.run.path.name == "training" and trainer.run_dir != Path("artifacts/runs")


def test_the_learning_rate_restarts_in_ever_longer_cycles(workdir):
    """C57: T0=2: cycles of 2, 4 and 8 epochs, each from the full rate."""
    config = {"epochs": 14, "scheduler_T0": 2, "early_stopping_patience": None, "batch_size": 64}
    rates = Trainer(Flat(), config).fit(*parts())["lr"]
    assert [epoch for epoch, rate in enumerate(rates) if rate == 1e-3] == [0, 2, 6]
    reference = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(reference, T_0=2, T_mult=2)
    expected = []
    for _ in rates:
        expected.append(reference.param_groups[0]["lr"])
        reference.step()
        schedule.step()
    assert rates == pytest.approx(expected)


def test_the_best_weights_are_in_the_model_and_in_the_file(workdir):
    """C55: C61: C62: C63: without a tracker, in a folder that can be chosen, readable by torch alone."""
    model = small()
    train, val = parts()
    trainer = Trainer(model, {**SHORT, "epochs": 6, "learning_rate": 0.05, "checkpoint_dir": "kept"})
    history = trainer.fit(train, val)
    predictions = trainer.predict(val)
    mse = compute_metrics([s.y[0] for s in val], predictions)["rmse"] ** 2
    assert mse == pytest.approx(min(history["val_loss"]), rel=1e-5)
    state = torch.load("kept/best.pt", weights_only=True)
    assert state["epoch"] == 1 + int(np.argmin(history["val_loss"]))
    fresh = MLPModel(3, [8], dropout=0.0)
    fresh.load_state_dict(state["model_state_dict"])
    assert np.array_equal(Trainer(fresh, {}).predict(val), predictions)


def test_the_file_changes_where_the_loss_is_lower_and_nowhere_else(workdir):
    """C54: seen from a callback, while it trains."""
    seen = []

    class Look(BaseCallback):
        def on_epoch_end(self, epoch, metrics):
            path = Path("kept/best.pt")
            seen.append((torch.load(path, weights_only=True)["epoch"], path.stat().st_mtime_ns))

    config = {**SHORT, "epochs": 8, "learning_rate": 0.1, "checkpoint_dir": "kept"}
    losses = Trainer(small(), config, callbacks=[Look()]).fit(*parts())["val_loss"]
    best = [1 + int(np.argmin(losses[: epoch + 1])) for epoch in range(8)]
    assert [epoch for epoch, _ in seen] == best
    assert len(set(seen)) == len(set(best)) < 8, "the file was written without an improvement"


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(workdir):
    """X5: also where the last checkpoint is of an earlier epoch, and with a callback that counts."""

    class Cut(EarlyStopping):
        def on_epoch_end(self, epoch, metrics):
            super().on_epoch_end(epoch, metrics)
            if epoch == 3 and self.cuts:
                self.cuts.pop()
                raise RuntimeError("power")

    def trained(cuts: int) -> tuple[dict[str, Any], np.ndarray]:
        callback = Cut(patience=6)
        callback.cuts = [None] * cuts
        trainer = Trainer(small(), {**SHORT, "epochs": 5}, callbacks=[callback])
        resume = None
        while True:
            try:
                return trainer.fit(*parts(), resume=resume), trainer.predict(rows())
            except TrainingError:
                resume = trainer.run_dir / "training"

    whole, cut = trained(0), trained(1)
    assert whole[0] == cut[0]
    assert np.array_equal(whole[1], cut[1])


def test_the_tracker_s_run_has_the_checkpoint_and_every_epoch(workdir):
    """C50: C61: C69: C73: the trainer was made before the run was started."""
    tracker = DualTracker(local_base_dir="artifacts/runs", use_tensorboard=False)
    trainer = Trainer(small(), SHORT, tracker)
    run_id = tracker.start_run("experiment_name", SHORT)
    history = trainer.fit(*parts())
    tracker.end_run()
    folder = Path("artifacts/runs") / run_id
    assert torch.load(folder / "checkpoints/best.pt", weights_only=True)["model_state_dict"]
    assert '"learning_rate": 0.01' in (folder / "config.json").read_text()
    assert '"weight_decay": 0.01' in (folder / "params.json").read_text()
    with (folder / "step_metrics.csv").open() as file:
        logged = list(csv.DictReader(file))
    assert [int(row["step"]) for row in logged] == [1, 2, 3]
    names = {"train_loss", "val_loss", "val_rmse", "val_mae", "val_mape", "val_r2", "lr"}
    assert names <= set(logged[0])
    for name in names:
        assert [float(row[name]) for row in logged] == pytest.approx(history[name])


def test_the_gradient_s_norm_is_in_the_history(workdir):
    """C80."""
    history = Trainer(small(), SHORT).fit(*parts())
    assert all(norm > 0 for norm in history["grad_norm"])


@pytest.mark.parametrize("mode", ["norm", "value"])
def test_gradients_are_clipped(mode, workdir):
    """C9: C59: by their norm, or each element; plain SGD shows the step that was made."""
    model = nn.Linear(3, 1)
    before = [p.detach().clone() for p in model.parameters()]
    huge = rows()
    for sample in huge:
        sample.y = sample.y * 1e4
    config = {"epochs": 1, "batch_size": 64, "optimizer": "sgd", "learning_rate": 1.0, "weight_decay": 0.0,
              "scheduler_T0": 0, "gradient_clip": 0.5, "gradient_clip_mode": mode}  # fmt: skip
    Trainer(model, config).fit(*parts(huge))
    moved = torch.cat([(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)]).detach()
    bound = 1.9 * 0.5  # a first step of Nesterov's momentum is 1.9 gradients
    size = moved.norm().item() if mode == "norm" else moved.abs().max().item()
    assert size == pytest.approx(bound, rel=1e-4)


@pytest.mark.parametrize(
    ("model", "samples"),
    [
        pytest.param(lambda: small(), rows, id="mlp, rows"),
        pytest.param(lambda: small(), sequences, id="mlp, sequences"),
        pytest.param(lambda: LSTMModel(3, 4, 1), rows, id="lstm, rows"),
        pytest.param(lambda: LSTMModel(3, 4, 1), sequences, id="lstm, sequences"),
        pytest.param(lambda: NeuralODEModel(3, 2, 4), rows, id="ode, rows"),
        pytest.param(lambda: NeuralODEModel(3, 2, 4), sequences, id="ode, sequences"),
    ],
)
def test_rows_and_sequences_train_with_every_kind_of_model(model, samples, workdir):
    """C14: C15: sequences of 5 and 9 steps in one batch."""
    made = model()
    if isinstance(made, NeuralODEModel):
        pytest.importorskip("torchdiffeq")
    train, val = parts(samples())
    trainer = Trainer(made, {"epochs": 1, "batch_size": 8})
    trainer.fit(train, val)
    found = trainer.predict([*train, *val])
    assert len(found) == len(train) + len(val)
    for sample, own in zip([*train, *val], found, strict=True):
        if sample.seq_len is not None:
            assert np.isfinite(own[: sample.seq_len]).all() and np.isnan(own[sample.seq_len :]).all()


def test_padding_changes_nothing(workdir):
    """C15: the same training with more padding on every sequence gives the same weights and predictions."""
    train, val = parts(sequences())
    longer = [*train, *[s.clone() for s in sequences((14,) * 6)[:1]]]
    weights = []
    for samples in (train, longer):
        model = LSTMModel(3, 4, 1, dropout=0.0)
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(0.1)
        trainer = Trainer(model, {"epochs": 2, "batch_size": 8, "early_stopping_patience": None, "device": "cpu"})
        trainer.fit(train, [*val, *samples[len(train) :]])  # the long one is validated, so the training is the same
        weights.append(trainer.predict(train))
    assert np.allclose(weights[0], weights[1][:, : weights[0].shape[1]], atol=1e-6, equal_nan=True)


def test_predictions_are_in_the_order_of_the_samples(workdir):
    """C16."""

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1] + self.shift

    samples = rows()
    for number, sample in enumerate(samples):
        sample.x[0] = number
    assert Trainer(First(), {}).predict(samples).tolist() == list(range(len(samples)))


def test_a_saved_trainer_predicts_the_same(workdir):
    """C16: with the state of the optimizer and of the schedule, and the best loss."""
    train, val = parts()
    trainer = Trainer(small(), SHORT)
    trainer.fit(train, val)
    trainer.save("saved/model.pt")
    other = Trainer(MLPModel(3, [8], dropout=0.0), SHORT)
    state = other.load("saved/model.pt")
    assert np.array_equal(other.predict(val), trainer.predict(val))
    assert other.best_val_loss == trainer.best_val_loss == min(trainer.history["val_loss"])
    assert other.history == trainer.history
    assert state["optimizer_state_dict"]["param_groups"][0]["weight_decay"] == 0.01
    assert state["scheduler_state_dict"]["t0"] == 50
    assert state["scheduler_state_dict"]["last_lr"] == [trainer.history["lr"][state["epoch"] - 1]]
    with pytest.raises(ModelError, match="do not fit the model"):
        Trainer(MLPModel(3, [4]), {}).load("saved/model.pt")
    Path("saved/model.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError):
        other.load("saved/model.pt")


def test_the_same_seed_gives_the_same_history(workdir):
    """C19: and another one another."""
    histories = [Trainer(small(), SHORT, seed=seed).fit(*parts()) for seed in (1, 1, 2)]
    assert histories[0] == histories[1] != histories[2]


def test_a_new_network_starts_at_the_targets_and_keeps_its_scale(workdir):
    """Its scale is part of the weights, so that a fresh model takes it from the file; a second fit leaves it."""
    train, val = parts()
    model = small()
    trainer = Trainer(model, {**SHORT, "epochs": 1})
    trainer.fit(train, val)
    targets = np.float32([s.y[0] for s in train])
    scale = (model.rescaled.mean.item(), model.rescaled.std.item())
    assert scale == pytest.approx((targets.mean(), targets.std()), rel=1e-5)
    for sample in train:
        sample.y = sample.y + 1
    trainer.fit(train, val)
    assert (model.rescaled.mean.item(), model.rescaled.std.item()) == scale
    plain = small()
    Trainer(plain, {**SHORT, "epochs": 1, "rescale": False}).fit(train, val)
    assert not plain.is_scaled


def test_workers_change_nothing(workdir):
    """C79: the data is in memory, and fed without."""
    histories = [Trainer(small(), {**SHORT, "num_workers": n}).fit(*parts()) for n in (0, 2)]
    assert histories[0] == histories[1]


@pytest.mark.fast
def test_the_loss_is_the_one_that_was_asked_for():
    """C30: C31: C32."""
    assert type(Trainer(small(), {}).criterion).__name__ == "MSELoss"
    assert Trainer(small(), {}, loss_config={"name": "huber", "delta": 0.5}).criterion.delta == 0.5
    physics = {"name": "physics_informed", "monotonicity_weight": 0.1, "smoothness_weight": 0.05}
    criterion = Trainer(small(), {}, loss_config=physics).criterion
    assert (criterion.monotonicity_weight, criterion.smoothness_weight) == (0.1, 0.05)


def test_time_and_mask_reach_a_loss_of_one_s_own(workdir, monkeypatch):
    """C40: C43: chosen by its name in `loss_config`."""
    monkeypatch.setattr(LossRegistry, "_added", {})
    seen = []

    @LossRegistry.register("my_custom_loss")
    class MyCustomLoss(BaseLoss):
        def __init__(self, alpha: float = 1.0, reduction: str = "mean"):
            super().__init__()
            self.alpha = alpha
            self.reduction = reduction

        def forward(self, pred: Tensor, target: Tensor, t: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
            seen.append((t, mask))
            return self.alpha * ((pred - target)[mask] ** 2).mean()

    trainer = Trainer(small(), {"epochs": 1}, loss_config={"name": "my_custom_loss", "alpha": 2})
    history = trainer.fit(*parts(sequences()))
    assert history["val_loss"][0] == pytest.approx(2 * history["val_rmse"][0] ** 2, rel=1e-5)
    assert all(t is not None and mask.dtype == torch.bool and t.shape == mask.shape for t, mask in seen)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_another_reduction_trains(reduction, workdir):
    """C35."""
    loss = {"name": "mse", "reduction": reduction}
    history = Trainer(small(), {**SHORT, "epochs": 1}, loss_config=loss).fit(*parts())
    assert np.isfinite(history["train_loss"]).all()


def test_several_seeds_train_together_from_a_factory(workdir):
    trainer = Trainer(lambda: MLPModel(3, [4]), {**SHORT, "epochs": 1, "seed": [1, 2]})
    train, val = parts()
    trainer.fit(train, val)
    assert trainer.run.members == ["seed1", "seed2"]
    assert trainer.predict(val).shape == (len(val),)
    assert {p.name for p in (trainer.run_dir / "checkpoints").iterdir()} == {"best-seed1.pt", "best-seed2.pt"}


def test_what_stops_a_training_is_no_test_of_it(workdir):
    """C90: with two lists the figure is of validation; a third list is evaluated once, at the end."""
    two = Trainer(small(), {**SHORT, "epochs": 1})
    two.fit(*parts())
    assert not [name for name in two.run.summary["metrics"] if name.startswith("test")]
    three = Trainer(small(), {**SHORT, "epochs": 1})
    three.fit(*temperature_split(rows(), [10], [25], [40]))
    names = set(three.run.summary["metrics"])
    assert {"val_rmse", "test_rmse"} <= names


@pytest.mark.fast
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"epoch": 5}, "unknown config key\nwhere: epoch\ngot: 5\ntry: epochs"),
        ({"learning_rate": -1}, "where: learning_rate"),
        ({"epochs": 0}, "where: epochs"),
        ({"use_amp": "yes"}, "where: use_amp"),
        ({"gradient_clip_mode": "total"}, "where: gradient_clip_mode"),
        ({"seed": -1}, "where: seed"),
        ({"device": "gpu"}, "device"),
    ],
)
def test_a_config_that_cannot_be_meant_is_an_error(config, said):
    """X8: unknown keys, and values out of range, in the words of the flat dict."""
    with pytest.raises(ConfigError, match=said):
        Trainer(small(), config)


@pytest.mark.fast
def test_text_from_yaml_is_a_number():
    """X8."""
    config = settled({"learning_rate": "1e-4", "weight_decay": np.float64(0.1)})
    assert (config["learning_rate"], config["weight_decay"]) == (1e-4, 0.1)


@pytest.mark.fast
def test_nothing_and_none_turn_things_off():
    found = sections(settled({"gradient_clip": None, "early_stopping_patience": None, "scheduler_T0": None}))
    training = found["training"]
    assert training["gradient_clip"]["value"] is None
    assert training["early_stopping"] == {"enabled": False}
    assert training["schedule"] == {"name": "none"}


@pytest.mark.fast
def test_what_cannot_be_trained_is_an_error():
    with pytest.raises(ConfigError, match="chosen by its name"):
        Trainer(small(), {}, loss_config={"delta": 0.5})
    with pytest.raises(PacelineError, match="no loss of that name"):
        Trainer(small(), {}, loss_config={"name": "mes"})
    with pytest.raises(ModelError, match="neither a module"):
        Trainer(lambda: 3, {})
    with pytest.raises(ConfigError, match="log_metrics"):
        Trainer(small(), {}, tracker=object())
    with pytest.raises(RunError, match="before fit"):
        Trainer(small(), {}).save("x.pt")
    with pytest.raises(RunError, match="no model yet"):
        Trainer(lambda: small(), {}).predict(rows())


@pytest.mark.fast
def test_a_list_without_samples_is_an_error_before_anything_is_written(workdir):
    """C18: C17: and a value that is not finite names its sample."""
    with pytest.raises(DataError, match="a part is empty\nwhere: val"):
        Trainer(small(), {}).fit(rows(), [])
    bad = rows()
    bad[3].x[1] = np.nan
    with pytest.raises(DataError, match=r"sample 3 of train \(cell_id A, temperature_C 10"):
        Trainer(small(), {}).fit(bad, rows())
    assert list(workdir.iterdir()) == []
