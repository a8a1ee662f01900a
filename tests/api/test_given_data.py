"""A recipe trained on a data set in memory, and `Trainer` with class names and built-in trackers."""

from __future__ import annotations

import html
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import paceline
from paceline.api.runs import configure
from paceline.checkpoint.tree import equal
from paceline.errors import ConfigError, DataError
from paceline.track import event_file
from tests.contracts.tiny import member_result

RNG = np.random.default_rng(0)
Y = np.arange(48) % 3
X = RNG.normal(size=(48, 4, 2)) + Y[:, None, None]
SMALL = {
    "model": "gru",
    "model.hidden_size": 4,
    "training.num_epochs": 3,
    "training.early_stopping.enabled": False,
    "numerics.threads": 1,
}


def data(x: np.ndarray = X) -> paceline.Dataset:
    return paceline.dataset(x=x, y=Y, classes=["a", "b", "c"], channels=["left", "right"])


@pytest.mark.fast
@pytest.mark.parametrize("given", [{"model": "gru", "model.hidden_size": 5}, {"model.hidden_size": 5, "model": "gru"}])
def test_a_choice_and_its_keys_may_stand_side_by_side_in_a_mapping(given):
    config, _ = configure("pain", given)
    assert (config.model.name, config.model.hidden_size) == ("gru", 5)


@pytest.mark.fast
def test_a_choice_on_top_of_a_config_is_refused_whatever_stands_beside_it():
    tree = {"task": {"name": "pain"}, "model": {"name": "gru"}, "data": {"name": "vowels"},
            "loss": {"name": "cross_entropy"}}  # fmt: skip
    assert configure(overrides={"model.hidden_size": 5}, config=tree)[0].model.hidden_size == 5
    with pytest.raises(ConfigError, match="cannot be chosen on top"):
        configure(overrides={"model": "lstm", "model.hidden_size": 5}, config=tree)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> paceline.Run:
    folder = tmp_path_factory.mktemp("given")
    return paceline.train("pain", {**SMALL, "data.split.val_fraction": 0.25}, data=data(), runs=folder, name="run")


def test_data_in_memory_is_split_scaled_and_named_like_any_other(run):
    assert run.config["data"]["name"] == "given"
    assert run.read_json("splits.json")["classes"] == ["a", "b", "c"]
    best = run.best()
    assert len(best["split_idx"]["val"]) == 12
    rows = X[best["split_idx"]["train"].numpy()].astype(np.float32).reshape(-1, 2)
    assert best["scaler"]["mean"] == pytest.approx(rows.mean(0).tolist(), abs=1e-6)


def test_it_is_what_the_same_arrays_in_a_file_give(run, tmp_path):
    np.savez(tmp_path / "same.npz", x=X, y=Y, classes=["a", "b", "c"], channels=["left", "right"])
    values = {**SMALL, "data": "npz", "data.path": str(tmp_path / "same.npz"), "data.split.val_fraction": 0.25}
    by_file = paceline.train("pain", values, runs=tmp_path, name="run")
    assert equal(member_result(by_file, "seed42"), member_result(run, "seed42")) == []


def test_it_is_evaluated_with_the_data_and_its_page_says_how(run):
    again = paceline.evaluate(run, data=data())
    assert again["metrics"]["val_f1_macro"]["mean"] == run.summary["metrics"]["val_f1_macro"]["mean"]
    with pytest.raises(ConfigError, match="came as Python objects"):
        paceline.evaluate(run)
    page = html.unescape((run.path / "report.html").read_text())
    assert "paceline.resume('runs/run', data=...)" in page
    assert "paceline resume" not in page  # the command line does not have the data


def test_its_run_predicts_from_the_folder_alone(run):
    table = paceline.predict(run, {"x": X[:5]})
    assert list(table.columns) == ["prediction", "p_a", "p_b", "p_c"]


def test_a_config_to_start_from_may_be_a_tree_and_has_the_core_s_defaults(tmp_path):
    tree = {"task": {"name": "pain", "inputs": ["x", "mask"]}, "model": {"name": "gru", "hidden_size": 4},
            "loss": {"name": "cross_entropy"}, "data": {"scale": "none"},
            "training": {"num_epochs": 1}, "members": {"folds": 2}}  # fmt: skip
    run = paceline.train(config=tree, data=data(), runs=tmp_path, name="run")
    assert run.members == ["seed42-fold0", "seed42-fold1"]
    assert run.config["training"]["schedule"]["name"] == "none"  # the recipe's own would be cosine
    assert run.best("seed42-fold0")["scaler"] is None


def test_a_resume_needs_the_same_data_again(tmp_path):
    def stop(record, control) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    whole = paceline.train("pain", SMALL, data=data(), runs=tmp_path, name="whole")
    with pytest.raises(KeyboardInterrupt):
        paceline.train("pain", SMALL, data=data(), runs=tmp_path, name="cut", callbacks=[stop])
    with pytest.raises(ConfigError, match="came as Python objects"):
        paceline.resume(tmp_path / "cut")
    with pytest.raises(DataError, match="the data changed"):
        paceline.resume(tmp_path / "cut", data=data(X + 1))
    run = paceline.resume(tmp_path / "cut", data=data())
    assert equal(member_result(run, "seed42"), member_result(whole, "seed42")) == []


@pytest.mark.fast
@pytest.mark.parametrize(
    ("overrides", "given", "message"),
    [
        (["data=vowels"], data(), "given twice"),
        ({"data": "vowels"}, data(), "given twice"),
        ({}, X, "not a data set"),
        (["data=given"], None, "came as Python objects"),
    ],
)
def test_data_that_cannot_be_meant_is_refused(overrides, given, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as caught:
        paceline.train("pain", overrides, data=given, runs=tmp_path)
    assert len(str(caught.value).splitlines()) <= 4
    assert list(tmp_path.iterdir()) == []


NAMES = ["no_pain", "low_pain", "high_pain"]
EPOCH = {"training.num_epochs": 1, "numerics.threads": 1, "tracking.tensorboard.figure_every_epochs": None}


def parts(kind: str) -> tuple:
    x, y = torch.from_numpy(X[:, 0]).float(), torch.from_numpy(Y)
    if kind == "arrays":
        return (x[:30], y[:30]), (x[30:], y[30:])
    return tuple(DataLoader(TensorDataset(x[part], y[part]), batch_size=8) for part in (slice(30), slice(30, None)))


@pytest.mark.parametrize("kind", ["arrays", "loaders"])
def test_a_trainer_s_classes_have_names_everywhere(kind, tmp_path):
    task = paceline.tasks.Classification(n_classes=3)
    trainer = paceline.Trainer(nn.Linear(2, 3), EPOCH, task=task, classes=NAMES, folder=tmp_path, name="run")
    run = trainer.fit(*parts(kind))
    assert run.summary["per_class"]["val"]["classes"] == NAMES
    assert run.best()["classes"] == NAMES
    (path,) = event_file.files(run.path / "tensorboard" / "seed42")
    found = {value.tag for event, _ in event_file.read(path) for value in event.summary.value}
    assert {f"val_f1_class/{name}" for name in NAMES} <= found


@pytest.mark.fast
def test_a_trainer_refuses_trackers_and_classes_that_there_are_not(tmp_path):
    with pytest.raises(ConfigError, match="no tracker of that name"):
        paceline.Trainer(nn.Linear(2, 3), {"tracking.tensorbord.enabled": True})
    with pytest.raises(DataError, match="not indices of the classes"):
        paceline.Trainer(nn.Linear(2, 3), classes=["one", "two"], folder=tmp_path).fit(*parts("arrays"))
    assert json.dumps([path.name for path in tmp_path.iterdir()]) == "[]"
