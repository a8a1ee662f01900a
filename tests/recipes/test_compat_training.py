"""`fit_model`: what the guide says of the training, seen from its own face."""

from __future__ import annotations

import logging
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from paceline.checkpoint.tree import equal
from paceline.errors import ConfigError, ModelError, RunError
from paceline.recipes.pain.compat import build_criterion, build_model, create_dataloaders, fit_model, prepare_config
from paceline.recipes.pain.compat.state import Result
from paceline.track import event_file

N, STEPS, CHANNELS = 60, 5, 3
NAMES = ["no_pain", "low_pain", "high_pain"]
STILL = 1e-30  # a learning rate at which no weight moves


def data(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return (rng.normal(size=(n, STEPS, CHANNELS)) + y[:, None, None]).astype(np.float32), y


X, Y = data()


def config(**overrides) -> dict:
    small = {"hidden_size": 8, "epochs": 7, "batch_size": 16, "tensorboard": False, "device": "cpu"}
    return prepare_config("run", {**small, **overrides})


def net(settings: dict | None = None) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build_model(settings or config(), CHANNELS, 3)


def parts() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    return (X[:47], Y[:47]), (X[47:], Y[47:])


def fit(folder: Path, model: nn.Module | None = None, **overrides) -> Result:
    return fit_model(model or net(), *parts(), config=config(**overrides), runs=folder)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> tuple[nn.Module, Result]:
    """One run on the guide's loaders, with event files."""
    folder, settings = tmp_path_factory.mktemp("fitted"), config(tensorboard=True, lr=0.01)
    train, valid, _, _ = create_dataloaders(X, Y, valid_size=0.2, batch_size=16)
    model = net()
    criterion, optimizer = build_criterion(settings), torch.optim.Adam(model.parameters(), lr=settings["lr"])
    return model, fit_model(
        model, train, valid, criterion, optimizer, settings, class_names=NAMES, runs=folder
    )  # fmt: skip


def test_the_history_has_a_list_per_figure_and_an_entry_per_epoch(fitted):
    """A74."""
    history = fitted[1].history
    assert set(history) == {
        "epoch", "train_loss", "valid_loss", "valid_accuracy", "valid_precision", "valid_recall", "valid_f1",
        "valid_f1_ema", "lr",
    }  # fmt: skip
    assert {len(column) for column in history.values()} == {7}
    assert history["epoch"] == [1, 2, 3, 4, 5, 6, 7]


def test_the_ema_is_the_guide_s(fitted):
    """A64: and the one that was selected by."""
    history, ema = fitted[1].history, None
    for f1, found in zip(history["valid_f1"], history["valid_f1_ema"], strict=True):
        ema = f1 if ema is None else 0.1 * f1 + 0.9 * ema
        assert found == pytest.approx(ema, abs=1e-9)
    assert fitted[1].run.history()["val_f1_macro_smoothed"] == history["valid_f1_ema"]


def test_the_rate_warms_up_before_the_epochs_that_it_is_for(fitted):
    """A65."""
    assert fitted[1].history["lr"] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01, 0.01, 0.01], rel=1e-9)


def test_the_best_state_has_the_guide_s_entries(fitted):
    """A70."""
    state, history = fitted[1].best_state, fitted[1].history
    assert {
        "model_state_dict", "optimizer_state_dict", "epoch", "val_macro_f1", "val_macro_f1_ema", "val_loss"
    } <= set(state)  # fmt: skip
    at = state["epoch"] - 1
    for name, column in (
        ("val_macro_f1", "valid_f1"),
        ("val_macro_f1_ema", "valid_f1_ema"),
        ("val_loss", "valid_loss"),
    ):
        assert state[name] == history[column][at]


def test_the_weight_decay_of_the_config_reaches_the_optimizer_s_groups(fitted):
    """A10."""
    assert [group["weight_decay"] for group in fitted[1].best_state["optimizer_state_dict"]["param_groups"]] == [1e-5]


def test_the_model_has_the_best_weights_and_the_file_too(fitted):
    """A75."""
    model, result = fitted
    stored = torch.load(result.run.path / "run.pt", weights_only=True)
    assert equal(dict(model.state_dict()), stored["model_state_dict"]) == []
    assert equal(stored, result.best_state) == []
    assert result.model is model


def test_the_best_state_is_a_copy(fitted):
    """A71."""
    model, result = fitted
    before = {name: tensor.clone() for name, tensor in result.best_state["model_state_dict"].items()}
    live = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert equal(result.best_state["model_state_dict"], before) == []
    model.load_state_dict(live)


def tags(folder: Path) -> dict[str, list[int]]:
    """Tag -> the epochs at which it has a value."""
    found: dict[str, list[int]] = {}
    for path in event_file.files(folder):
        for event, _ in event_file.read(path):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
    return found


def test_the_guide_s_tags_have_a_value_per_epoch_the_last_included(fitted):
    """A73, A76."""
    found = tags(fitted[1].run.path / "tensorboard" / "seed42")
    for tag in ("Loss/train", "Loss/val", "F1/macro", "F1/macro_ema", "LR", "ConfusionMatrix"):
        assert found[tag] == [1, 2, 3, 4, 5, 6, 7], tag


def test_the_classes_have_their_real_names(fitted):
    """A77."""
    found = tags(fitted[1].run.path / "tensorboard" / "seed42")
    assert {tag for tag in found if tag.startswith("F1_class/")} == {f"F1_class/{name}" for name in NAMES}


def test_without_tensorboard_there_is_no_event_file(tmp_path):
    """A28, A80: by the config, and by the argument."""
    runs = [fit(tmp_path / "a", epochs=1).run]
    runs.append(fit_model(net(), *parts(), config=config(epochs=1, tensorboard=True), tensorboard=False,
                          runs=tmp_path / "b").run)  # fmt: skip
    for run in runs:
        assert list(run.path.rglob("events*")) == []
        assert not (run.path / "tensorboard").exists()


class Writer:
    """The part of `SummaryWriter` that is used."""

    def __init__(self) -> None:
        self.values: dict[str, list[tuple[int, float]]] = {}
        self.images: list[tuple[str, int, tuple[int, ...]]] = []

    def add_scalar(self, tag: str, value: float, epoch: int) -> None:
        self.values.setdefault(tag, []).append((epoch, value))

    def add_image(self, tag: str, pixels: np.ndarray, epoch: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        self.images.append((tag, epoch, pixels.shape))


def test_a_writer_of_one_s_own_gets_the_guide_s_tags_and_nothing_is_written_beside_it(tmp_path):
    writer = Writer()
    result = fit_model(net(), *parts(), config=config(epochs=2), writer=writer, class_names=NAMES, runs=tmp_path)
    assert list(result.run.path.rglob("events*")) == []
    assert writer.values["F1/macro"] == list(enumerate(result.history["valid_f1"], start=1))
    assert writer.values["LR"] == list(enumerate(result.history["lr"], start=1))
    assert {tag for tag in writer.values if "class" in tag} >= {f"F1_class/{name}" for name in NAMES}
    assert [(tag, epoch) for tag, epoch, _ in writer.images] == [("ConfusionMatrix", 1), ("ConfusionMatrix", 2)]


def test_a_writer_that_fails_costs_one_warning_and_no_training(tmp_path, caplog):
    """A79."""

    class Full(Writer):
        def add_image(self, tag, pixels, epoch, dataformats):
            raise OSError("disk full")

    writer = Full()
    result = fit_model(net(), *parts(), config=config(epochs=3), writer=writer, runs=tmp_path)
    assert result.run.summary["status"] == "finished"
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "the writer gets no confusion matrices: OSError: disk full"
    ]
    assert len(writer.values["Loss/val"]) == 3


def test_training_on_a_cpu_gives_no_warning_and_no_mixed_precision(tmp_path, caplog):
    """A57: warnings are errors here."""
    result = fit(tmp_path, epochs=1, use_amp=True)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert {p.dtype for p in result.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("bound", "expected"), [(5.0, 5.0), (None, None), (0, None)])
def test_a_huge_gradient_is_clipped_to_its_bound_and_none_turns_that_off(tmp_path, bound, expected):
    """A59: one step of plain gradient descent at rate 1 moves the weights by the gradient."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(STEPS * CHANNELS, 3))
    before = [p.detach().clone() for p in model.parameters()]
    x = (1000 * X[:47], Y[:47])
    settings = config(epochs=1, batch_size=64, max_grad_norm=bound, lr=1.0, warmup_epochs=0, weight_decay=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    fit_model(model, x, parts()[1], optimizer=optimizer, config=settings, runs=tmp_path)
    moved = torch.cat([(p.detach() - q).flatten() for p, q in zip(model.parameters(), before, strict=True)]).norm()
    assert moved.item() == pytest.approx(expected, rel=1e-4) if expected else moved.item() > 100


def test_the_losses_of_an_epoch_are_means_over_samples(tmp_path):
    """A61: the last batch has 15 of 16 samples."""
    model, criterion = net(config(dropout=0.0)), build_criterion(config())
    result = fit(tmp_path, model, lr=STILL, epochs=1, weight_decay=0.0)
    with torch.no_grad():
        for part, name in zip(parts(), ("train_loss", "valid_loss"), strict=True):
            x, y = map(torch.from_numpy, part)
            assert result.history[name] == pytest.approx([criterion(model(x), y).item()], rel=1e-6)


class Recorder(nn.Module):
    """Notes how it was called; its constant logits favour the first class."""

    calls: list[tuple[int, bool, bool]] = []

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([1.0, 0.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        logits = self.bias + torch.zeros(len(x), 3)
        self.calls.append((len(x), self.training, logits.requires_grad))
        return logits


def test_validation_is_in_evaluation_mode_and_makes_no_graph(tmp_path):
    """A62."""
    Recorder.calls.clear()
    model = Recorder()
    fit(tmp_path, model, epochs=2)
    assert {call for call in Recorder.calls if call[0] == 13} == {(13, False, False)}  # the validation part
    assert {call for call in Recorder.calls if call[0] in (16, 15)} == {(16, True, True), (15, True, True)}
    assert model.training  # as it was


def test_the_scores_are_scikit_learn_s_over_all_classes(tmp_path):
    """A63: the third class is neither there nor predicted, and counts as 0 without a warning."""
    valid = (X[:9], np.array([0, 1, 0, 1, 0, 0, 1, 0, 0]))
    result = fit_model(Recorder(), parts()[0], valid, config=config(epochs=1, lr=STILL), runs=tmp_path)
    predicted, over = np.zeros(9), {"labels": [0, 1, 2], "average": "macro", "zero_division": 0}
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        assert result.history[f"valid_{name}"] == pytest.approx([score(valid[1], predicted, **over)], abs=1e-12)
    assert result.history["valid_accuracy"] == [accuracy_score(valid[1], predicted)]


def test_without_a_warm_up_the_first_epoch_trains_at_the_base_rate(tmp_path):
    """A66."""
    assert fit(tmp_path, warmup_epochs=0, epochs=2).history["lr"] == [2e-3, 2e-3]


def test_the_rate_is_halved_after_more_than_three_flat_epochs(tmp_path):
    """A67: none of them in the warm-up of two."""
    result = fit(tmp_path, lr=STILL, warmup_epochs=2, epochs=8, patience=None)
    assert np.array(result.history["lr"]) / STILL == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.5])


def test_without_a_scheduler_the_rate_stays(tmp_path):
    """A19."""
    result = fit(tmp_path, lr=STILL, warmup_epochs=2, epochs=8, patience=None, scheduler="none")
    assert np.array(result.history["lr"]) / STILL == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 1])


def test_a_metric_that_never_moves_stops_the_training_before_its_epochs_are_over(tmp_path):
    """A68, A97: at epoch 1 + 8 of 60."""
    result = fit(tmp_path, Recorder(), lr=STILL, epochs=60)
    assert result.history["epoch"][-1] == 9
    assert result.best_state["epoch"] == 1


@pytest.mark.parametrize("metric", ["accuracy", "val_loss"])
def test_another_metric_is_what_is_smoothed_and_selected(tmp_path, metric):
    """A17."""
    result = fit(tmp_path, metric_for_best=metric, lr=0.01)
    name = {"accuracy": "accuracy", "val_loss": "loss"}[metric]
    smoothed = result.run.history()[f"val_{name}_smoothed"]
    assert smoothed[0] == result.history[f"valid_{name}"][0]
    best = max(smoothed) if metric == "accuracy" else min(smoothed)
    assert abs(smoothed[result.best_state["epoch"] - 1] - best) <= 5e-4
    assert len(result.history["valid_f1_ema"]) == 7  # the guide's, whatever is selected by


class NoNumber(nn.Module):
    """Its logits are not numbers in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        logits = self.bias.expand(len(x), 3)
        return logits if self.training else logits * math.nan


def test_a_metric_that_is_never_a_number_still_gives_a_best_state(tmp_path, caplog):
    """A72."""
    result = fit(tmp_path, NoNumber(), metric_for_best="val_loss", epochs=3)
    assert result.best_state["epoch"] == 1
    assert math.isnan(result.best_state["val_loss"])
    assert "val_loss was never finite; epoch 1 is kept" in caplog.text


class Breaks(nn.Module):
    """Gives no numbers any more after three batches, which are an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.batches = nn.Parameter(torch.zeros(3)), 0

    def forward(self, x: Tensor) -> Tensor:
        self.batches += self.training
        return self.bias.expand(len(x), 3) * (math.nan if self.batches > 3 else 1.0)


def test_a_training_that_fails_says_so_and_keeps_what_was_before(tmp_path, caplog):
    result = fit(tmp_path, Breaks())
    assert result.run.summary["failed"] == ["seed42"]
    assert (result.best_state["epoch"], result.history["epoch"]) == (1, [1, 2])
    assert math.isnan(result.history["train_loss"][1])
    assert "run failed: the training loss was not finite in epoch 2; epoch 1 is kept" in caplog.text


class Augmented(Dataset):
    """Draws from all three generators, in the workers."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        noise = random.random() + np.random.random() + float(torch.rand(()))
        return torch.from_numpy(X[i]) + noise, int(Y[i])


def test_augmentation_in_workers_is_repeatable(tmp_path):
    """A46."""
    losses = []
    for name in ("a", "b"):
        random.seed(len(losses))
        np.random.seed(len(losses))
        torch.manual_seed(len(losses))
        loader = DataLoader(Augmented(), batch_size=8, shuffle=True, num_workers=2)
        valid = DataLoader(TensorDataset(*map(torch.from_numpy, parts()[1])), batch_size=8)
        result = fit_model(net(), loader, valid, config=config(epochs=2), runs=tmp_path / name)
        losses.append(result.history["train_loss"])
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]


def test_loaders_that_only_shuffle_are_trained_from_memory_with_their_batch_size(tmp_path):
    """A44: sample by sample, collating would take longer than a small model's step."""
    train, valid, (x_tr, y_tr, x_val, y_val), _ = create_dataloaders(X, Y, batch_size=8)
    by_loader = fit_model(net(), train, valid, config=config(epochs=2), runs=tmp_path / "loader")
    arrays = ((x_tr, y_tr), (x_val, y_val))
    by_array = fit_model(net(), *arrays, config=config(epochs=2, batch_size=8), runs=tmp_path / "array")
    assert by_loader.history == by_array.history
    assert by_loader.run.config["training"]["batch_size"] == 8


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
def test_an_optimizer_of_one_s_own_makes_the_steps_that_it_would_have_made(tmp_path, kind):
    """One full batch of its own update, by hand."""
    model, twin = net(config(dropout=0.0)), net(config(dropout=0.0))
    options = {"lr": 0.01, "weight_decay": 0.1}
    settings = config(dropout=0.0, epochs=1, batch_size=64, warmup_epochs=0, max_grad_norm=None, lr=0.01)
    optimizer = kind(model.parameters(), **options)
    result = fit_model(model, *parts(), build_criterion(settings), optimizer, settings, runs=tmp_path)
    own = kind(twin.parameters(), **options)
    x, y = map(torch.from_numpy, parts()[0])
    build_criterion(settings)(twin(x), y).backward()
    own.step()
    for found, expected in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert equal(optimizer.state_dict()["state"], result.best_state["optimizer_state_dict"]["state"]) == []


def refused(model: nn.Module, name: str) -> torch.optim.Optimizer:
    first, *others = model.parameters()
    if name == "stepped":
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        return optimizer
    made = {
        "RMSprop": lambda: torch.optim.RMSprop(model.parameters(), lr=2e-3),
        "rate": lambda: torch.optim.Adam(model.parameters(), lr=1e-3),
        "groups": lambda: torch.optim.Adam([{"params": [first]}, {"params": others}], lr=2e-3),
        "part": lambda: torch.optim.Adam(others, lr=2e-3),
        "amsgrad": lambda: torch.optim.Adam(model.parameters(), lr=2e-3, amsgrad=True),
        "eps": lambda: torch.optim.AdamW(model.parameters(), lr=2e-3, eps=1e-6),
        "momentum": lambda: torch.optim.SGD(model.parameters(), lr=2e-3, momentum=0.9),
    }
    return made[name]()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RMSprop", "none that paceline makes steps with"),
        ("rate", "learning rate is not the config's"),
        ("groups", "as its one group"),
        ("part", "as its one group"),
        ("amsgrad", "amsgrad=True"),
        ("eps", "eps=1e-06"),
        ("momentum", "nesterov=False"),
        ("stepped", "has made steps already"),
    ],
)
def test_an_optimizer_that_would_have_to_be_ignored_is_refused(tmp_path, name, message):
    model = net()
    with pytest.raises(ConfigError, match=message) as caught:
        fit_model(model, *parts(), optimizer=refused(model, name), config=config(), runs=tmp_path)
    assert len(str(caught.value).splitlines()) <= 4
    assert list(tmp_path.iterdir()) == []


class Forgotten(nn.Module):
    """Two directions, and a head that is made for one."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(CHANNELS, 8, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[1].transpose(0, 1).flatten(1))


@pytest.mark.fast
def test_a_head_that_forgets_the_second_direction_is_told_its_size(tmp_path):
    """A87: `2*hidden_size`."""
    with pytest.raises(ModelError) as caught:
        fit_model(Forgotten(), *parts(), config=config(), runs=tmp_path)
    assert "16" in str(caught.value) and "8" in str(caught.value) and "head" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 4


@pytest.mark.fast
def test_a_model_that_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    class Steps(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)  # (B, T, 3)

    for model in (Steps(CHANNELS, 3), nn.Linear(7, 3)):
        with pytest.raises(ModelError):
            fit_model(model, *parts(), config=config(), runs=tmp_path)
    with pytest.raises(ConfigError, match="logging is turned off"):
        fit_model(net(), *parts(), config=config(), writer=Writer(), tensorboard=False, runs=tmp_path)
    with pytest.raises(ConfigError, match="no method add_scalar"):
        fit_model(net(), *parts(), config=config(), writer="runs/tb", runs=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_the_same_name_is_replaced_only_when_asked(tmp_path):
    fit(tmp_path, epochs=1)
    with pytest.raises(RunError, match="exists already"):
        fit(tmp_path, epochs=1)
    result = fit_model(net(), *parts(), config=config(epochs=2), runs=tmp_path, overwrite=True)
    assert result.history["epoch"] == [1, 2]
