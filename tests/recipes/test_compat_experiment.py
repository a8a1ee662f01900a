"""`run_experiment`, `run_cross_validation`, the sweep and its table; what `<run_name>.pt` holds."""

from __future__ import annotations

import copy
import logging
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import paceline
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointError, ConfigError, DataError, RunError
from paceline.recipes.pain.compat import (
    GRID,
    MAX_SWEEP_RUNS,
    build_model,
    create_dataloaders,
    fit_model,
    load_model,
    predict,
    prepare_config,
    run_cross_validation,
    run_experiment,
    run_sweep,
    set_seed,
    summary_table,
    sweep_configs,
)
from paceline.recipes.pain.compat.config import tree
from paceline.recipes.pain.compat.state import Result

pytestmark = pytest.mark.usefixtures("seeds_put_back")

N, STEPS, CHANNELS = 60, 5, 3
LABELS = {"no_pain": 0, "low_pain": 1, "high_pain": 2}
FEATURES = ["pain_survey_1", "joint_02", "joint_00"]  # not in alphabetical order
SMALL = {"hidden_size": 8, "num_layers": 1, "epochs": 2, "batch_size": 16, "tensorboard": False}

RNG = np.random.default_rng(0)
Y = np.arange(N) % 3
X = RNG.normal(size=(N, STEPS, CHANNELS)) * [1, 10, 100] + Y[:, None, None] * [1, 10, 100] + [0, 5, 0]


@pytest.fixture(scope="module")
def config() -> dict:
    return prepare_config("run", {**SMALL, "epochs": 4, "lr": 0.01, "own": {"note": "mine"}})


@pytest.fixture(scope="module")
def result(tmp_path_factory, config) -> Result:
    with torch.random.fork_rng():
        return run_experiment(
            config, X, Y, feature_names=FEATURES, label2idx=LABELS, runs=tmp_path_factory.mktemp("experiment")
        )


@pytest.fixture(scope="module")
def stored(result) -> dict:
    return torch.load(result.run.path / "run.pt", weights_only=True)


def test_the_file_has_what_is_returned_and_loads_without_running_code(result, stored):
    """A86: the weights, never the module."""
    assert equal(stored, result.best_state) == []
    assert not any(isinstance(value, nn.Module) for value in stored.values())
    assert all(isinstance(value, torch.Tensor) for value in stored["model_state_dict"].values())


def test_the_indices_are_those_of_the_loaders(stored):
    """A82."""
    indices = create_dataloaders(X, Y)[3]
    for name, expected in zip(("train_idx", "valid_idx"), indices, strict=True):
        assert np.array_equal(stored["split_idx"][name], expected)


def test_the_data_is_in_the_file_only_where_it_is_asked_for(stored, result, config, tmp_path):
    """A81."""
    assert "data_split" not in stored
    kept = run_experiment({**config, "save_data_split": True, "epochs": 1}, X, Y, runs=tmp_path).best_state
    arrays, (tr_idx, val_idx) = kept["data_split"], create_dataloaders(X, Y)[3]
    assert list(arrays) == ["X_train", "y_train", "X_valid", "y_valid"]
    for part, rows in (("train", tr_idx), ("valid", val_idx)):
        assert np.array_equal(arrays[f"X_{part}"], X[rows].astype(np.float32))  # raw, not scaled
        assert np.array_equal(arrays[f"y_{part}"], Y[rows])
    for name, rows in result.best_state["split_idx"].items():
        assert np.array_equal(kept["split_idx"][name], rows)


def test_the_config_in_the_best_state_is_a_copy(config, tmp_path):
    """A83."""
    mine = copy.deepcopy(config) | {"epochs": 1, "grid": np.arange(2), "path": Path("a")}
    state = run_experiment(mine, X, Y, runs=tmp_path).best_state
    mine["own"]["note"] = "changed"
    mine["lr"] = 1.0
    assert state["config"]["own"] == {"note": "mine"}
    assert state["config"]["lr"] == 0.01
    assert state["run_name"] == state["config"]["run_name"] == "run"
    assert (state["config"]["grid"].tolist(), state["config"]["path"]) == ([0, 1], "a")


def test_the_file_alone_predicts_raw_input(result, stored, tmp_path):
    """A84."""
    assert stored["label2idx"] == LABELS
    assert stored["idx2label"] == {index: name for name, index in LABELS.items()}
    elsewhere = tmp_path / "copied.pt"
    elsewhere.write_bytes((result.run.path / "run.pt").read_bytes())
    table = predict(elsewhere, X)
    assert list(table.columns) == ["prediction", "p_no_pain", "p_low_pain", "p_high_pain"]
    by_run = paceline.predict(result.run, {"x": X})
    assert np.allclose(table.iloc[:, 1:], by_run.iloc[:, 1:], atol=1e-7)
    scaled = (X - stored["scaler_mean"].numpy()) / stored["scaler_std"].numpy()
    logits = load_model(elsewhere)(torch.tensor(scaled, dtype=torch.float32))
    assert np.allclose(table.iloc[:, 1:], logits.softmax(1).detach(), atol=1e-6)
    assert (table["prediction"] == [stored["idx2label"][int(i)] for i in logits.argmax(1)]).all()


def test_the_scaler_is_fitted_on_the_training_part_and_names_keep_their_channels(stored):
    """A85."""
    rows = X[create_dataloaders(X, Y)[3][0]].astype(np.float32).reshape(-1, CHANNELS).astype(np.float64)
    assert stored["scaler_mean"].tolist() == pytest.approx(rows.mean(0).tolist(), rel=1e-9)
    assert stored["scaler_std"].tolist() == pytest.approx(rows.std(0).tolist(), rel=1e-9)
    assert stored["scaler_mean"].tolist() != pytest.approx(X.reshape(-1, CHANNELS).mean(0).tolist(), rel=1e-4)
    assert stored["feature_names"] == FEATURES
    assert stored["scaler_std"].argmax() == FEATURES.index("joint_00")  # the channel of the largest values


def test_the_model_that_comes_back_has_the_best_weights(result, stored):
    """A75."""
    assert equal(dict(result.model.state_dict()), stored["model_state_dict"]) == []
    assert result.best_state["epoch"] in result.history["epoch"]


def test_an_experiment_seeds_everything_first_and_repeats_exactly(result, config, tmp_path):
    """A35: histories and weights, whatever was drawn before; the generators then stand as after `set_seed`."""
    torch.manual_seed(1)
    again = run_experiment(config, X, Y, feature_names=FEATURES, label2idx=LABELS, runs=tmp_path)
    drawn = random.random(), np.random.random(), torch.rand(()).item()
    assert again.history == result.history
    assert equal(again.best_state, result.best_state) == []
    set_seed(config["seed"])
    assert drawn == (random.random(), np.random.random(), torch.rand(()).item())


def test_the_checklist_of_the_guide_box_1_seed(result, config, monkeypatch, tmp_path):
    """A95: `set_seed` is called in `run_experiment`, with the config's seed."""
    from paceline.recipes.pain.compat import experiment

    called = []
    monkeypatch.setattr(experiment, "set_seed", lambda seed: called.append(seed) or set_seed(seed))
    run_experiment({**config, "seed": 7, "epochs": 1}, X, Y, runs=tmp_path)
    assert called == [7]


def test_the_checklist_box_2_indices_and_generator():
    """A95."""
    train, _, _, (tr_idx, val_idx) = create_dataloaders(X, Y)
    assert len(tr_idx) + len(val_idx) == N
    assert train.generator.initial_seed() == 42


def test_the_checklist_box_3_criterion(tmp_path, config, caplog):
    """A95: what `build_criterion` knows is what is trained with. A56: weights beside the focal loss are a warning."""
    skewed = np.where(RNG.random(N) < 0.5, 0, Y)
    options = {"use_class_weights": True, "use_focal_loss": True, "label_smoothing": 0.1, "epochs": 1}
    run = run_experiment({**config, **options, "lr": 1e-30}, X, skewed, runs=tmp_path).run
    assert run.config["loss"] == {"name": "focal", "gamma": 2.0, "label_smoothing": 0.1, "class_weights": "balanced"}
    (said,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert "class_weights" in said and "focal" in said


def test_the_checklist_box_4_training(result):
    """A95: mixed precision where there is CUDA, clipping, warm-up, the EMA of macro F1, the plateau schedule."""
    training = result.run.config["training"]
    assert training["amp"] == {"enabled": "auto", "dtype": "float16"}
    assert training["gradient_clip"] == {"mode": "norm", "value": 5.0}
    assert (training["schedule"]["name"], training["schedule"]["warmup_epochs"]) == ("plateau", 5)
    assert (training["selection"]["metric"], training["selection"]["smoothing"]) == ("val_f1_macro", "ema")
    assert result.history["lr"] == pytest.approx([0.002, 0.004, 0.006, 0.008])


def test_the_checklist_box_5_stopping(tmp_path, config):
    """A95: by the EMA, not by the raw peak: a rise that the EMA hides is none."""
    settings = {**config, "epochs": 12, "patience": 2, "min_improvement": 0.5}
    found = run_experiment(settings, X, Y, runs=tmp_path)
    assert found.history["epoch"] == [1, 2, 3]  # no EMA rises by a half
    assert max(found.history["valid_f1"]) > found.history["valid_f1"][0]


def test_the_checklist_box_6_best_state(stored):
    """A95: weights, config, split, and what a reload needs."""
    assert {"model_state_dict", "config", "split_idx", "label2idx", "idx2label", "feature_names", "scaler_mean",
            "scaler_std", "run_name"} <= set(stored)  # fmt: skip


def layers(model: nn.Module) -> list[nn.RNNBase]:
    return [module for module in model.modules() if isinstance(module, nn.RNNBase)]


@pytest.mark.parametrize(
    ("name", "choice", "layer", "head"),
    [
        pytest.param("GRU_mono_256x2", {"rnn_type": "gru", "bidirectional": False, "num_layers": 2}, nn.GRU, 256,
                     id="A90"),
        pytest.param("BiGRU_256x1", {"rnn_type": "gru", "bidirectional": True, "num_layers": 1}, nn.GRU, 512, id="A91"),
        pytest.param("LSTM_mono_256x1", {"rnn_type": "lstm", "bidirectional": False, "num_layers": 1}, nn.LSTM, 256,
                     id="A92"),
    ],
)  # fmt: skip
def test_the_guide_s_configurations_train_without_a_warning(name, choice, layer, head, tmp_path, caplog):
    """Two epochs. A89: one layer with dropout .3 gives none either."""
    settings = prepare_config(name, {**choice, "hidden_size": 256, "dropout": 0.3, "epochs": 2, "tensorboard": False})
    found = run_experiment(settings, X, Y, runs=tmp_path)
    assert found.history["epoch"] == [1, 2]
    assert [record.message for record in caplog.records if record.levelno > logging.WARNING] == []
    assert [m for m in caplog.messages if "dropout" in m] == []
    assert {type(inner) for inner in layers(found.model)} == {layer}
    assert found.model.head.in_features == head
    expected = layer(CHANNELS, 256, choice["num_layers"], bidirectional=choice["bidirectional"])
    in_head = head * 3 + 3
    assert sum(p.numel() for p in found.model.parameters()) == sum(p.numel() for p in expected.parameters()) + in_head


def test_two_directions_are_for_offline_use_and_a_line_says_so(tmp_path, caplog, config):
    """A8."""
    said = []
    for both in (False, True):
        with caplog.at_level(logging.INFO, "paceline"):
            run_experiment({**config, "bidirectional": both, "epochs": 1}, X, Y, runs=tmp_path / str(both))
        said.append([message for message in caplog.messages if "offline / non-causal" in message])
    assert [len(lines) for lines in said] == [0, 1]


def test_the_layers_of_each_kind_are_torch_s_own():
    """A4, A5, A87: one direction by default, and the head on the last valid step."""
    for kind, layer in (("gru", nn.GRU), ("lstm", nn.LSTM), ("rnn", nn.RNN)):
        model = build_model(prepare_config("x", {"rnn_type": kind, "dropout": 0.0}), CHANNELS, 3)
        assert [(type(each), each.hidden_size, each.bidirectional) for each in layers(model)] == 2 * [
            (layer, 256, False)
        ]
        first, second = layers(model)
        x = torch.randn(4, STEPS, CHANNELS)
        assert torch.allclose(model(x), model.head(second(first(x)[0])[0][:, -1]), atol=1e-6)


def test_the_default_model_does_not_see_the_future():
    """A94: what it makes of the first steps is the same whatever follows."""
    model = build_model(prepare_config("x", {"hidden_size": 16}), CHANNELS, 3).eval()
    x = torch.randn(4, STEPS, CHANNELS)
    changed = torch.cat([x[:, :3], torch.randn(4, STEPS - 3, CHANNELS)], dim=1)
    states, after = model.recurrent(x)[0], model.recurrent(changed)[0]
    assert torch.equal(states[:, :3], after[:, :3])
    assert not torch.equal(states[:, 3:], after[:, 3:])


def test_folds_are_named_disjoint_and_summed_up(tmp_path):
    """A99."""
    settings = prepare_config("cv", {**SMALL, "hidden_size": 4})
    summary = run_cross_validation(settings, 5, X, Y, label2idx=LABELS, runs=tmp_path)
    results = summary["results"]
    assert [each.best_state["run_name"] for each in results] == [f"cv_fold{k}" for k in range(5)]
    held = [each.best_state["split_idx"]["valid_idx"].tolist() for each in results]
    assert sorted(row for rows in held for row in rows) == list(range(N))
    assert all(np.bincount(Y[rows]).tolist() == [4, 4, 4] for rows in held)
    for each, rows in zip(results, held, strict=True):
        assert sorted([*rows, *each.best_state["split_idx"]["train_idx"].tolist()]) == list(range(N))
    f1 = [each.best_state["val_macro_f1"] for each in results]
    assert summary["f1_mean"] == pytest.approx(np.mean(f1), abs=1e-12)
    assert summary["f1_std"] == pytest.approx(np.std(f1, ddof=1), abs=1e-12)
    accuracy = [each.best_state["val_accuracy"] for each in results]
    assert summary["accuracy_mean"] == pytest.approx(np.mean(accuracy))
    low, high = summary["f1_ci95"]
    assert low <= summary["f1_mean"] <= high
    table = summary_table([summary])
    assert sorted(table["fold"]) == [0, 1, 2, 3, 4]
    assert all(Path(path).is_file() for path in table["checkpoint"])


@pytest.mark.fast
def test_a_sweep_has_twelve_distinct_configs_and_the_same_on_a_rerun():
    """A100."""
    configs = sweep_configs({"epochs": 3})
    points = [tuple(config[key] for key in GRID) for config in configs]
    assert len(configs) == MAX_SWEEP_RUNS == 12
    assert len(set(points)) == 12
    assert all(value in GRID[key] for point in points for key, value in zip(GRID, point, strict=True))
    assert {config["epochs"] for config in configs} == {3}
    assert len({config["run_name"] for config in configs}) == 12
    assert sweep_configs({"epochs": 3}) == configs
    assert [tuple(c[key] for key in GRID) for c in sweep_configs(seed=1)] != points
    assert {key: len(values) for key, values in GRID.items()} == {
        "hidden_size": 3, "num_layers": 2, "dropout": 2, "bidirectional": 2, "lr": 2
    }  # fmt: skip
    with pytest.raises(ConfigError, match="at least one run"):
        sweep_configs(max_runs=0)


def test_the_table_of_a_sweep_has_its_best_run_first(tmp_path):
    """A100."""
    grid = {"hidden_size": (4, 6), "lr": (0.001, 0.02)}
    results = run_sweep(X, Y, {**SMALL, "run_name": "s", "tensorboard": True}, max_runs=2, grid=grid, runs=tmp_path)
    table = summary_table(results)
    assert list(table.columns) == [
        "run_name", "fold", "rnn_type", "hidden_size", "num_layers", "dropout", "bidirectional", "lr", "best_epoch",
        "best_f1", "accuracy", "checkpoint", "log_dir",
    ]  # fmt: skip
    assert sorted(table["run_name"]) == ["s_00", "s_01"]
    assert table["best_f1"].is_monotonic_decreasing
    for row in table.itertuples():
        state = torch.load(row.checkpoint, weights_only=True)
        assert (state["val_macro_f1"], state["epoch"]) == (row.best_f1, row.best_epoch)
    assert all(list(Path(folder).glob("events*")) for folder in table["log_dir"])
    assert isinstance(table, pd.DataFrame) and table["fold"].isna().all()


def test_an_interrupted_experiment_goes_on_and_ends_as_if_it_never_stopped(result, config, tmp_path):
    def stop(record, control) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    data = paceline.dataset(x=X, y=Y, channels=FEATURES, classes=list(LABELS), source="X, y")
    with pytest.raises(KeyboardInterrupt):
        paceline.train(config=tree(config), data=data, runs=tmp_path, name="run", callbacks=[stop])
    options = {"feature_names": FEATURES, "label2idx": LABELS, "runs": tmp_path}
    with pytest.raises(RunError, match="exists already"):
        run_experiment(config, X, Y, **options)
    with pytest.raises(ConfigError, match="the config changed"):
        run_experiment({**config, "lr": 0.02}, X, Y, resume=True, **options)
    with pytest.raises(DataError, match="the data changed"):
        run_experiment(config, X + 1, Y, resume=True, **options)
    again = run_experiment(config, X, Y, resume=True, **options)
    assert equal(again.best_state, result.best_state) == []


def test_data_may_come_from_a_source_of_the_recipe(tmp_path):
    np.savez(tmp_path / "mine.npz", X=X, y=Y, lengths=1 + np.arange(N) % STEPS)
    settings = prepare_config("npz", {**SMALL, "data": {"name": "npz", "path": str(tmp_path / "mine.npz")}})
    found = run_experiment({**settings, "save_data_split": True}, runs=tmp_path)
    assert found.best_state["data_split"]["X_train"].shape == (54, STEPS, CHANNELS)
    assert len(predict(found.best_state, X[:4], lengths=[1, 2, 3, 4])) == 4


def test_lengths_and_class_names_may_be_given_beside_arrays(tmp_path):
    names = np.array(list(LABELS))[Y]
    found = run_experiment(prepare_config("text", SMALL), X, names, lengths=1 + np.arange(N) % STEPS, runs=tmp_path)
    assert found.best_state["label2idx"] == {"high_pain": 0, "low_pain": 1, "no_pain": 2}  # sorted


def test_a_checkpoint_of_a_model_of_one_s_own_says_that_it_is_not_the_config_s(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(STEPS * CHANNELS, 3))
    part = (X.astype(np.float32), Y)
    own = fit_model(net, part, part, config=prepare_config("own", {**SMALL, "epochs": 1}), runs=tmp_path)
    with pytest.raises(CheckpointError, match="do not fit the model"):
        load_model(own.best_state)
    assert "split_idx" not in own.best_state
    ours = build_model(prepare_config("x", SMALL), CHANNELS, 3)
    settings = prepare_config("ours", {**SMALL, "epochs": 1})
    fitted = fit_model(ours, part, part, config=settings, runs=tmp_path)
    ours.eval()
    expected = ours(torch.from_numpy(part[0])).softmax(1).detach()
    assert np.allclose(predict(fitted.best_state, part[0]).iloc[:, 1:], expected, atol=1e-6)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "options", "kind", "message"),
    [
        ((), {}, DataError, "there is no data"),
        ((X,), {}, DataError, "there is no data"),
        ((X, Y[1:]), {}, DataError, "60"),
        ((X, Y), {"label2idx": {"a": 0, "b": 2}}, DataError, "without a gap"),
        ((X, Y), {"label2idx": {"a": 0, "b": 1}}, DataError, "class"),
        ((X, Y), {"feature_names": ["a"]}, DataError, "channel"),
        ((X, Y), {"lengths": [0] * N}, DataError, "lengths"),
        ((X[:, 0], Y), {}, DataError, "needs sequences"),
        ((X, Y * 0.5), {}, DataError, "class"),
    ],
    ids=["nothing", "X alone", "lengths", "a gap", "a class too many", "names", "empty", "no steps", "floats"],
)
def test_wrong_data_is_one_error_and_no_run(arguments, options, kind, message, tmp_path):
    with pytest.raises(kind, match=message) as caught:
        run_experiment(prepare_config("run", SMALL), *arguments, **options, runs=tmp_path)
    assert len(str(caught.value).splitlines()) <= 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fast
def test_data_that_is_given_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="given twice"):
        run_experiment(prepare_config("run", {**SMALL, "data": "vowels"}), X, Y, runs=tmp_path)
