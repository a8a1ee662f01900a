"""Temperatures and thresholds in a run: fitted on each member's validation part, reported, stored, applied."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, log_loss
from typer.testing import CliRunner

import paceline
from paceline.checkpoint.tree import equal
from paceline.cli.app import app
from paceline.errors import ConfigError, InterruptedRunError
from paceline.evaluate.calibration import expected_calibration_error, tempered
from paceline.evaluate.decisions import Decision, decided, fit_decision
from paceline.evaluate.predictions import read_predictions
from paceline.evaluate.thresholds import weighted
from paceline.run.decide import add_decisions
from paceline.run.folder import Run
from paceline.run.use import load_extension
from paceline.tasks import Classification
from paceline.tasks.config import DecisionConfig, RegressionConfig
from paceline.train.control import LoopControl

USE = Path(__file__).with_name("rare_recipe.py")
BOTH = ("task.decision.temperature=fitted", "task.decision.thresholds=tuned")


def train(runs: Path, *overrides: str, name: str, **options):
    return paceline.train("rare", list(overrides), use=[USE], runs=runs, name=name, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(runs):
    return train(runs, "members.seeds=2", *BOTH, name="both")


@pytest.fixture(scope="module")
def plain(runs):
    return train(runs, "members.seeds=2", name="plain")


def stored(run, member):
    return read_predictions(run.member_folder(member) / "predictions.npz")


def decision(run, member) -> Decision:
    return Decision.from_dict(run.read_json(f"members/{member}/decision.json"))


def test_each_member_has_its_own_fitted_on_its_validation_part_alone(run):
    for member in run.members:
        found = decision(run, member)
        val = stored(run, member)["val"]
        assert found == fit_decision(val, temperature=True, thresholds=True, metric="f1_macro")
        assert found.temperature.kept and found.thresholds.kept and found.n == len(val.y) == 112
        best = torch.load(run.member_folder(member) / "best.pt", weights_only=True)
        assert best["decision"] == found.to_dict()
        assert Decision.from_dict(best["decision"]) == found
    assert decision(run, "seed42") != decision(run, "seed43")


def test_figures_before_and_after_stand_side_by_side_with_intervals(run):
    metrics = run.summary["metrics"]
    raw, after = [], []
    for member in run.members:
        test, found = stored(run, member)["test"], decision(run, member)
        q = tempered(test.probability, found.temperature.values[0])
        row = next(m["metrics"] for m in run.summary["members"] if m["id"] == member)
        assert row["test_log_loss"] == pytest.approx(log_loss(test.y, test.probability), rel=1e-4)
        assert row["test_log_loss_calibrated"] == pytest.approx(log_loss(test.y, q))
        assert row["test_ece"] == pytest.approx(expected_calibration_error(test.probability, test.y))
        assert row["test_ece_calibrated"] == pytest.approx(expected_calibration_error(q, test.y))
        tuned = weighted(q, np.array(found.thresholds.values)).argmax(axis=1)
        assert row["test_f1_macro_tuned"] == pytest.approx(f1_score(test.y, tuned, average="macro"))
        raw.append(row["test_f1_macro"])
        after.append(row["test_f1_macro_tuned"])
    assert metrics["test_f1_macro"]["mean"] == pytest.approx(np.mean(raw))
    assert metrics["test_f1_macro_tuned"]["mean"] == pytest.approx(np.mean(after))
    assert np.mean(after) > np.mean(raw)
    for name in (
        "f1_macro_tuned",
        "accuracy_tuned",
        "recall_macro_tuned",
        "log_loss_calibrated",
        "ece_calibrated",
        "ece",
    ):
        for part in ("val", "test"):
            assert len(metrics[f"{part}_{name}"]["ci95"]) == 2
            assert ("ci95_samples" in metrics[f"{part}_{name}"]) == ("ece" not in name)
    table = pd.read_csv(run.path / "members.csv")
    assert table["test_f1_macro_tuned"].tolist() == pytest.approx(after)


def test_validation_figures_are_those_of_samples_left_out_of_the_fit(run):
    for member in run.members:
        val, found = stored(run, member)["val"], decision(run, member)
        row = next(m["metrics"] for m in run.summary["members"] if m["id"] == member)
        assert row["val_log_loss_calibrated"] == pytest.approx(found.temperature.after)
        assert row["val_f1_macro_tuned"] == pytest.approx(found.thresholds.after)
        assert row["val_log_loss_calibrated"] > log_loss(val.y, found.calibrated(val.probability))


def test_the_test_data_is_opened_no_second_time_and_training_is_the_same(run, plain):
    lines = [json.loads(line) for line in (run.path.parent / "test_openings.jsonl").read_text().splitlines()]
    assert [line["by"] for line in lines if line["run"] == "both"] == ["train"]
    assert [line["by"] for line in lines if line["run"] == "plain"] == ["train"]
    assert (run.path / "log.jsonl").read_bytes() == (plain.path / "log.jsonl").read_bytes()
    for member in run.members:
        assert equal(run.best(member)["model_state_dict"], plain.best(member)["model_state_dict"]) == []
        ours, theirs = stored(run, member), stored(plain, member)
        assert np.array_equal(ours["test"].probability, theirs["test"].probability)  # stored as they were


def test_off_by_default_nothing_is_written_or_reported(plain):
    assert plain.config["task"]["decision"] == {"temperature": "none", "thresholds": "none"}
    assert not list(plain.path.rglob("decision.json"))
    assert plain.best()["decision"] is None
    assert not [name for name in plain.summary["metrics"] if "calibrated" in name or "tuned" in name or "ece" in name]
    assert all("decision" not in member for member in plain.summary["members"])
    assert "probabilities" not in plain.summary["ensemble"]["mean"]


def test_evaluating_again_gives_the_numbers_of_the_run(run):
    for part in ("val", "test"):
        found = paceline.evaluate(run, part, use=[USE])
        names = [name for name in run.summary["metrics"] if name.startswith(part)]
        assert set(found["metrics"]) == set(names)
        for name in names:
            assert found["metrics"][name]["mean"] == pytest.approx(run.summary["metrics"][name]["mean"], abs=1e-6)


def raw_input(run, member) -> np.ndarray:
    data = load_extension(USE).recipe.data["rare"](name="rare").load()
    return np.array(data.columns["x"])[stored(run, member)["test"].index]


def test_predictions_are_calibrated_and_decided_by_the_thresholds(run):
    test, found = stored(run, "seed42")["test"], decision(run, "seed42")
    table = paceline.predict(run, {"x": raw_input(run, "seed42")}, members=["seed42"], use=[USE])
    np.testing.assert_allclose(table[["p_common", "p_rare"]], found.calibrated(test.probability), atol=1e-6)
    expected = decided(found, test, "test")["tuned"].prediction
    assert table["prediction"].tolist() == [("common", "rare")[k] for k in expected]
    share = found.thresholds.values[0] / sum(found.thresholds.values)
    assert (table["prediction"] == "rare").tolist() == (table["p_rare"] > share).tolist()


def test_raw_predictions_are_the_models_own(run):
    test = stored(run, "seed42")["test"]
    table = paceline.predict(run, {"x": raw_input(run, "seed42")}, members=["seed42"], raw=True, use=[USE])
    np.testing.assert_allclose(table[["p_common", "p_rare"]], test.probability, atol=1e-6)
    assert table["prediction"].tolist() == [("common", "rare")[k] for k in test.prediction]


def test_the_command_predicts_after_the_decision_and_raw_on_request(run, tmp_path):
    np.savez(tmp_path / "new.npz", x=raw_input(run, "seed42"))
    words = ["predict", str(run.path), str(tmp_path / "new.npz"), "--member", "seed42", "--use", str(USE)]
    for flags, options in (([], {}), (["--raw"], {"raw": True})):
        done = CliRunner().invoke(app, [*words, *flags])
        assert done.exit_code == 0, done.output
        table = pd.read_csv(io.StringIO(done.output), index_col="sample")
        expected = paceline.predict(run, tmp_path / "new.npz", members=["seed42"], use=[USE], **options)
        pd.testing.assert_frame_equal(table, expected, check_dtype=False, check_index_type=False, rtol=1e-6)


def test_an_ensemble_averages_calibrated_probabilities_and_is_what_predict_gives(run):
    found = run.summary["ensemble"]["mean"]
    assert found["probabilities"] == "calibrated"
    fits = {member: (decision(run, member), stored(run, member)["test"]) for member in run.members}
    mean = np.mean([d.calibrated(test.probability) for d, test in fits.values()], axis=0)
    scores = np.mean([d.weighted(test.probability) for d, test in fits.values()], axis=0)
    y = fits["seed42"][1].y
    assert found["metrics"]["test_log_loss"]["value"] == pytest.approx(log_loss(y, mean))
    assert found["metrics"]["test_accuracy"]["value"] == pytest.approx((mean.argmax(1) == y).mean())
    tuned = found["metrics"]["test_f1_macro_tuned"]
    assert tuned["value"] == pytest.approx(f1_score(y, scores.argmax(1), average="macro"))
    assert tuned["members_mean"] == pytest.approx(run.summary["metrics"]["test_f1_macro_tuned"]["mean"])
    table = paceline.predict(run, {"x": raw_input(run, "seed42")}, use=[USE])
    np.testing.assert_allclose(table[["p_common", "p_rare"]], mean, atol=1e-6)
    assert table["prediction"].tolist() == [("common", "rare")[k] for k in scores.argmax(1)]


@pytest.fixture(scope="module")
def folds(runs):
    options = ["members.folds=3", "training.processes=1", *BOTH]
    return [train(runs, *options, f"training.engine={engine}", name=engine) for engine in ("eager", "cohort")]


def test_every_fold_has_its_own_and_one_engine_decides_as_the_other(folds):
    eager, cohort = ([decision(run, member) for member in run.members] for run in folds)
    assert len({each.temperature.values for each in eager}) == 3
    assert [each.n for each in eager] == [len(stored(folds[0], member)["val"].y) for member in folds[0].members]
    for each, other in zip(eager, cohort, strict=True):
        assert each.temperature.values == pytest.approx(other.temperature.values, rel=1e-4)
        assert each.thresholds.values == pytest.approx(other.thresholds.values, rel=1e-3)


def test_the_folds_of_a_seed_are_pooled_after_their_decisions(folds):
    row = folds[0].summary["metrics"]["val_f1_macro_tuned"]
    found = [(decision(folds[0], member), stored(folds[0], member)["val"]) for member in folds[0].members]
    after = [decided(each, val, "val")["tuned"] for each, val in found]
    y, prediction = (np.concatenate([getattr(each, name) for each in after]) for name in ("y", "prediction"))
    assert row["pooled"] == pytest.approx(f1_score(y, prediction, average="macro"))
    assert "ci95_samples" in row


def test_probabilities_that_are_not_finite_leave_no_number_and_no_decision(run, tmp_path):
    val = stored(run, "seed42")["val"]
    spoiled = replace(val, probability=np.where(np.arange(len(val.y))[:, None] == 3, np.nan, val.probability))
    found = fit_decision(spoiled, temperature=True, thresholds=False, metric="f1_macro")
    folder = tmp_path / "members" / "seed42"
    folder.mkdir(parents=True)
    (folder / "decision.json").write_text(json.dumps(found.to_dict()))
    row = {"id": "seed42", "metrics": {}}
    add_decisions(Run(tmp_path), [row], {"seed42": {"val": spoiled}})
    assert row["metrics"]["val_log_loss_calibrated"] is None
    json.dumps(row, allow_nan=False)


def test_only_one_of_the_two(runs):
    run = train(runs, BOTH[0], name="temperature")
    assert run.best()["decision"]["thresholds"] is None
    names = [name for name in run.summary["metrics"] if name.startswith("test_")]
    assert "test_ece_calibrated" in names and not [name for name in names if name.endswith("_tuned")]
    test = stored(run, "seed42")["test"]
    table = paceline.predict(run, {"x": raw_input(run, "seed42")}, use=[USE])
    assert table["prediction"].tolist() == [("common", "rare")[k] for k in test.prediction]


def test_thresholds_are_tuned_for_the_selection_metric_where_they_move_it(runs):
    metric = {}
    for name in ("val_accuracy", "val_loss", "val_recall_macro"):
        run = train(runs, BOTH[1], f"training.selection.metric={name}", "training.num_epochs=1", name=name)
        metric[name] = run.best()["decision"]["thresholds"]["metric"]
    assert metric == {"val_accuracy": "accuracy", "val_loss": "f1_macro", "val_recall_macro": "recall_macro"}


def test_a_run_that_was_interrupted_decides_the_same(runs, run):
    control = LoopControl()

    def interrupt(record, _):
        if record.epoch == 2 and record.member == "seed43":
            control.interrupt(130)

    with pytest.raises(InterruptedRunError):
        train(runs, "members.seeds=2", *BOTH, name="cut", callbacks=[interrupt], control=control)
    assert paceline.open_run(runs / "cut").best("seed43")["decision"] is None  # not before training is over
    done = paceline.resume(runs / "cut", use=[USE])
    for member in run.members:
        assert decision(done, member) == decision(run, member)
    assert done.summary["metrics"] == run.summary["metrics"]


def test_a_regression_has_nothing_to_decide():
    with pytest.raises(ValueError, match=r"task\.decision.* classification, this is a regression"):
        RegressionConfig(name="numbers", decision={"temperature": "fitted"})


def test_the_trainer_takes_it_with_its_task(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 240)
    x = (rng.normal(size=(240, 3)) + np.eye(3)[y]).astype(np.float32)
    task = Classification(n_classes=3, decision=DecisionConfig(temperature="fitted", thresholds="tuned"))
    trainer = paceline.Trainer(
        torch.nn.Linear(3, 3), {"training.num_epochs": 2, "training.learning_rate": 0.3}, task=task, folder=tmp_path
    )
    run = trainer.fit((x[:100], y[:100]), (x[100:170], y[100:170]), (x[170:], y[170:]))
    found = Decision.from_dict(run.best()["decision"])
    assert found.n == 70 and "test_ece_calibrated" in run.summary["metrics"]
    raw, table = trainer.predict(run, x[170:], raw=True), trainer.predict(run, x[170:])
    np.testing.assert_allclose(table[["p_0", "p_1", "p_2"]], found.calibrated(raw[["p_0", "p_1", "p_2"]]), atol=1e-6)

    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), 32)
    with pytest.raises(ConfigError, match=r"task\.decision"):
        trainer.fit(batches, batches)
