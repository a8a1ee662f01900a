"""Runs of estimators: the same splits, record, files, report and commands as those of networks."""

from __future__ import annotations

import json

import numpy as np
import pytest

import paceline
from paceline.api.checkpoints import publish, verify
from paceline.errors import CheckpointCorruptError, CheckpointError, ConfigError, ModelError
from paceline.evaluate.predictions import metrics_of, read_predictions

LGBM = {"model": "lgbm", "model.n_estimators": 40, "model.min_child_samples": 5, "model.early_stopping_rounds": 5}
FEW = {"data.split.rule": "group", "numerics.threads": 1}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(8), 12)
    x = rng.normal(size=(96, 3))
    y = 1 - 0.1 * x[:, 0] + 0.05 * np.sign(x[:, 1]) + 0.01 * rng.normal(size=96)
    return paceline.dataset(x=x, y=y, group=group, channels=["a", "b", "c"], test=np.flatnonzero(group == 7))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return paceline.train("battery", {**FEW, **LGBM, "members.folds": 3}, data=data, runs=folder, name="lgbm")


def rows(run, member):
    return [
        row for row in map(json.loads, (run.path / "log.jsonl").read_text().splitlines()) if row["member"] == member
    ]


def test_a_run_of_trees_has_a_record_per_round_and_the_files_of_any_run(trained):
    """C25: early stopping on validation; the selected epoch is the best iteration."""
    member = trained.summary["members"][0]
    val = [row for row in rows(trained, member["id"]) if row["split"] == "val"]
    assert [row["epoch"] for row in val] == list(range(1, len(val) + 1))
    losses = [row["values"]["loss"] for row in val]
    chosen = member["selection"]["epoch"]
    assert chosen == int(np.argmin(losses)) + 1
    assert len(val) == 40 or len(val) == chosen + 5
    assert trained.history()["val_loss"] == [row["values"]["loss"] for row in rows(trained, trained.members[0])
                                             if row["split"] == "val"]  # fmt: skip
    for name in ("summary.json", "members.csv", "report.html", "splits.json", "timing.csv"):
        assert (trained.path / name).is_file()
    assert (trained.member_folder(member["id"]) / "model.txt").read_text().startswith("tree\n")


def test_predictions_metrics_and_evaluation_say_the_same(trained, data):
    found = paceline.evaluate(trained, "val", data=data)
    for member, again in zip(trained.summary["members"], found["members"], strict=True):
        stored = metrics_of(read_predictions(trained.member_folder(member["id"]) / "predictions.npz")["val"])
        assert again["metrics"]["val_rmse"] == pytest.approx(member["metrics"]["val_rmse"], rel=1e-6)
        assert stored["rmse"] == pytest.approx(member["metrics"]["val_rmse"], rel=1e-5)


def test_new_input_is_predicted_from_the_folder_alone(trained, data):
    first = trained.members[0]
    stored = read_predictions(trained.member_folder(first) / "predictions.npz")["val"]
    table = paceline.predict(trained, {"x": data.columns["x"][stored.index]}, members=[first])
    np.testing.assert_array_equal(table["prediction"].to_numpy(), stored.prediction)


def test_another_fit_gives_the_same_bits(trained, data, tmp_path):
    again = paceline.train("battery", {**FEW, **LGBM, "members.folds": 3}, data=data, runs=tmp_path, name="again")
    assert (again.path / "log.jsonl").read_bytes() == (trained.path / "log.jsonl").read_bytes()
    for member in trained.members:
        texts = [(run.member_folder(member) / "model.txt").read_bytes() for run in (again, trained)]
        assert texts[0] == texts[1]


def test_a_run_that_was_cut_off_is_fitted_again_to_the_same_bits(data, tmp_path, trained):
    class CutError(Exception):
        pass

    def cut(record, control):
        if record.step == 7:
            raise CutError

    values = {**FEW, **LGBM, "members.folds": 3}
    with pytest.raises(CutError):
        paceline.train("battery", values, data=data, runs=tmp_path, name="cut", callbacks=[cut])
    done = paceline.resume(tmp_path / "cut", data=data)
    assert (done.path / "log.jsonl").read_bytes() == (trained.path / "log.jsonl").read_bytes()


def test_a_model_that_was_changed_is_refused(data, tmp_path):
    run = paceline.train("battery", {**FEW, "model": "ols"}, data=data, runs=tmp_path, name="ols")
    path = run.member_folder(run.members[0]) / "model.json"
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(CheckpointCorruptError) as error:
        paceline.predict(run, {"x": data.columns["x"]})
    assert "SHA-256" in str(error.value)
    assert len(str(error.value).splitlines()) <= 4
    (found,) = verify(run)
    assert "SHA-256" in found.problem


def test_networks_and_trees_are_compared_on_the_same_splits(trained, data, tmp_path):
    from paceline.report import compare

    network = paceline.train("battery", {**FEW, "members.folds": 3, "training.num_epochs": 2}, data=data,
                             runs=tmp_path, name="mlp")  # fmt: skip
    assert network.read_json("splits.json") == trained.read_json("splits.json")
    assert compare is not None


def test_members_of_one_run_may_be_networks_and_estimators(data, tmp_path):
    values = {**FEW, "members.vary": {"model": ["mlp", "ols", "mean"]}, "training.num_epochs": 3, "members.seeds": 2}
    run = paceline.train("battery", values, data=data, runs=tmp_path, name="both")
    engines = {c["engine"] for c in run.read_json("plan.json")["cohorts"]}
    assert "estimator" in engines and len(engines) == 2
    assert {v["name"] for v in run.summary["variants"]} == {"mlp", "ols", "mean"}
    ols = next(v for v in run.summary["variants"] if v["name"] == "ols")
    mean = next(v for v in run.summary["variants"] if v["name"] == "mean")
    assert ols["metrics"]["val_rmse"]["mean"] < mean["metrics"]["val_rmse"]["mean"]


def test_keys_that_do_not_concern_an_estimator_are_named_once(data, tmp_path, caplog):
    values = {**FEW, "model": "ols", "training.learning_rate": 0.1, "members.seeds": 2}
    paceline.train("battery", values, data=data, runs=tmp_path, name="warned")
    lines = [text for text in caplog.messages if "takes no notice" in text]
    assert lines == ["model=ols is no network: it takes no notice of training.learning_rate"]


def test_sequences_classes_several_targets_and_loaders_are_refused(tmp_path):
    """C27: several targets are refused clearly."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    cases = {
        "data.form=rows": {"x": rng.normal(size=(30, 4, 3)), "y": y},
        "one run per target": {"x": x, "y": rng.normal(size=(30, 2))},
    }
    for expected, columns in cases.items():
        with pytest.raises(ModelError) as error:
            paceline.train("battery", {"model": "ols", "data.split.rule": "random"}, data=paceline.dataset(**columns),
                           runs=tmp_path, name="refused")  # fmt: skip
        assert expected in str(error.value)
        assert not (tmp_path / "refused").exists()


def test_a_metric_that_does_not_exist_is_refused_before_anything_is_fitted(data, tmp_path):
    with pytest.raises(ConfigError, match="val_rmse"):
        paceline.train("battery", {**FEW, "model": "ols", "training.selection.metric": "val_rmsee"}, data=data,
                       runs=tmp_path, name="refused")  # fmt: skip


def test_what_needs_tensors_or_checkpoints_says_that_there_are_none(trained, tmp_path):
    with pytest.raises(CheckpointError, match="no tensors"):
        publish(trained, tmp_path / "out")
    with pytest.raises(ConfigError, match="saves nothing on its way"):
        paceline.prove("battery", {"model": "mean"}, folder=tmp_path / "proof")


def test_a_callback_may_stop_an_estimator(data, tmp_path):
    def stop(record, control):
        if record.split == "val" and record.step == 3:
            control.stop(record.member)

    run = paceline.train("battery", {**FEW, **LGBM}, data=data, runs=tmp_path, name="stopped", callbacks=[stop])
    assert run.summary["members"][0]["epochs"] == 3
    assert run.summary["members"][0]["stopped"] == "stopped by a callback"


def test_boosted_trees_grow_in_a_worker_process(tmp_path):
    """C25: as a command would, from data that a worker can have."""
    values = {"model": "lgbm", "model.n_estimators": 5, "members.seeds": 2}
    run = paceline.train("battery", values, runs=tmp_path, name="worker")
    assert run.summary["status"] == "finished"
    assert (run.member_folder(run.members[1]) / "model.txt").is_file()
