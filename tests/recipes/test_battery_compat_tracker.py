"""`DualTracker` of the battery group's guide: local files, TensorBoard and MLflow have the same values."""

from __future__ import annotations

import csv
import json
import logging
import sqlite3
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from paceline.errors import ConfigError, RunError
from paceline.recipes.battery.compat import DualTracker
from paceline.recipes.battery.compat.tracker import Reporter
from paceline.track import event_file

CONFIG = {"learning_rate": 1e-3, "hidden_dims": [64, 32], "np": np.float32(2), "api_key": "do not tell"}


def local(**more: Any) -> DualTracker:
    return DualTracker(local_base_dir="artifacts/runs", use_tensorboard=False, **more)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "step_metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.fast
def test_the_constructor_takes_the_guide_s_keywords(workdir):
    """C64: and writes nothing yet."""
    DualTracker(local_base_dir="artifacts/runs", use_tensorboard=True, mlflow_tracking_uri="file:./artifacts/mlruns")
    DualTracker(mlflow_experiment_name="battery_degradation")
    assert list(workdir.iterdir()) == []


def test_a_run_has_an_id_of_its_own_and_its_config(workdir):
    """C65: two runs of one second too."""
    tracker = local()
    ids = []
    for _ in range(2):
        ids.append(tracker.start_run("my experiment", CONFIG))
        tracker.end_run()
    assert len(set(ids)) == 2 and all(name.startswith("my_experiment_") for name in ids)
    config = json.loads((Path("artifacts/runs") / ids[0] / "config.json").read_text())
    assert config["learning_rate"] == 1e-3 and config["hidden_dims"] == [64, 32] and config["np"] == 2.0
    assert config["api_key"] == "***"


def test_manual_values_are_in_the_files_at_their_step(workdir):
    """C52: C66: in `metrics.json` by name, in `step_metrics.csv` by step."""
    tracker = local()
    folder = Path("artifacts/runs") / tracker.start_run("manual", {})
    assert tracker.get_run_dir() == folder
    tracker.log_metrics({"train_rmse": 0.05, "val_rmse": np.float64(0.04)}, step=3)
    tracker.log_metrics({"lr": 1e-3}, step=3)
    tracker.log_metrics({"val_rmse": float("nan")}, step=4)
    tracker.log_metrics({"val_rmse": 0.03})
    tracker.end_run()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["val_rmse"] == [{"step": 3, "value": 0.04}, {"step": 4, "value": None}, {"step": 5, "value": 0.03}]
    assert metrics["train_rmse"] == [{"step": 3, "value": 0.05}]
    assert [(row["step"], row["val_rmse"], row["lr"]) for row in rows(folder)] == [
        ("3", "0.04", "0.001"), ("4", "nan", ""), ("5", "0.03", "")
    ]  # fmt: skip
    assert tracker.get_run_dir() is None


def test_tensorboard_has_the_same_values(workdir):
    """C66: C74: an event file with a tag per name."""
    tracker = DualTracker(local_base_dir="artifacts/runs")
    folder = Path("artifacts/runs") / tracker.start_run("events", {})
    for step in range(3):
        tracker.log_metrics({"train_loss": 1.0 / (step + 1), "val_loss": 0.5}, step=step)
    tracker.end_run()
    (path,) = event_file.files(folder / "tensorboard")
    found = [(v.tag, event.step, v.simple_value) for event, _ in event_file.read(path) for v in event.summary.value]
    assert [(tag, step) for tag, step, _ in found] == [(t, s) for s in range(3) for t in ("train_loss", "val_loss")]
    assert [value for tag, _, value in found if tag == "train_loss"] == pytest.approx([1, 1 / 2, 1 / 3])


def test_params_tags_figures_and_files_leave_something(workdir):
    """C75."""
    tracker = DualTracker(local_base_dir="artifacts/runs")
    folder = Path("artifacts/runs") / tracker.start_run("parts", {})
    tracker.log_params({"model": "mlp", "layers": [64, 32]})
    tracker.log_params({"dropout": 0.1})
    tracker.set_tag("cell", "A")
    Path("notes.txt").write_text("hello")
    assert tracker.log_artifact("notes.txt") == folder / "artifacts/notes.txt"
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    assert tracker.log_figure(figure, "loss curve", step=2) == folder / "figures/loss_curve_2.png"
    plt.close(figure)
    tracker.end_run()
    assert json.loads((folder / "params.json").read_text()) == {"model": "mlp", "layers": [64, 32], "dropout": 0.1}
    assert json.loads((folder / "tags.json").read_text()) == {"cell": "A"}
    assert (folder / "artifacts/notes.txt").read_text() == "hello"
    assert (folder / "figures/loss_curve_2.png").read_bytes().startswith(b"\x89PNG")
    (path,) = event_file.files(folder / "tensorboard")
    assert [v.tag for event, _ in event_file.read(path) for v in event.summary.value] == ["loss_curve"]


@pytest.mark.fast
def test_calls_without_a_run_are_an_error(workdir):
    tracker = local()
    for call in (lambda: tracker.log_metrics({"a": 1}), lambda: tracker.log_params({}), lambda: tracker.set_tag("a", 1),
                 lambda: tracker.log_artifact("x")):  # fmt: skip
        with pytest.raises(RunError, match=r"no run is open\nwhere: DualTracker\.\w+\ntry: tracker\.start_run"):
            call()
    tracker.end_run()  # nothing to end
    tracker.start_run("one", {})
    with pytest.raises(RunError, match="a run is open already"):
        tracker.start_run("two", {})
    with pytest.raises(RunError, match="a metric must be a number"):
        tracker.log_metrics({"loss": "low"})
    with pytest.raises(RunError, match="no such file"):
        tracker.log_artifact("nowhere.txt")
    with pytest.raises(RunError, match=r"no such status\nwhere: .*\ngot: DONE"):
        tracker.end_run("DONE")
    with pytest.raises(ConfigError, match="no store at such an address"):
        local(mlflow_tracking_uri="ftp://somewhere")


@pytest.mark.fast
def test_a_package_that_is_missing_is_one_warning(workdir, monkeypatch, caplog):
    """C68: the local files have everything."""
    real = __import__("importlib.util").util.find_spec
    gone = ("mlflow", "tensorboard")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name in gone else real(name, *rest))
    with caplog.at_level(logging.WARNING, "paceline"):
        tracker = DualTracker(local_base_dir="runs", mlflow_tracking_uri="file:./mlruns")
        folder = Path("runs") / tracker.start_run("alone", {})
        tracker.log_metrics({"loss": 1.0}, step=0)
        tracker.end_run()
    assert [record.message.partition(":")[2].strip() for record in caplog.records] == [
        "pip install tensorboard", "pip install mlflow"
    ]  # fmt: skip
    assert rows(folder)[0]["loss"] == "1.0"
    assert not (folder / "tensorboard").exists() and not Path("mlruns").exists()


class Failing:
    """A tracker that cannot log."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        raise OSError("the disk is full")


@pytest.mark.fast
def test_a_tracker_that_fails_is_one_warning_for_the_trainer(caplog):
    """C68."""
    reporter = Reporter(Failing())
    with caplog.at_level(logging.WARNING, "paceline"):
        for epoch in (1, 2):
            reporter.epoch(epoch, {"member": "seed42", "val_loss": 0.5})
    assert [record.message for record in caplog.records] == [
        "the tracker gets nothing more of this training: OSError: the disk is full"
    ]


def test_mlflow_has_the_same_values_and_is_opened_by_the_line_that_is_printed(workdir, capsys):
    """C52: C66: C67: C73: C91: a `file:` address is served by SQLite in that folder."""
    mlflow = pytest.importorskip("mlflow")
    tracker = DualTracker(local_base_dir="artifacts/runs", mlflow_tracking_uri="file:./artifacts/mlruns")
    folder = Path("artifacts/runs") / tracker.start_run("both", {**CONFIG, "long": "x" * 600})
    history = [{"train_loss": 1.0 / s, "val_rmse": 0.1 * s} for s in (1, 2, 3)]
    for step, values in enumerate(history, start=1):
        tracker.log_metrics(values, step=step)
    tracker.log_params({"dropout": 0.1})
    tracker.set_tag("cell", "A")
    Path("notes.txt").write_text("hello")
    tracker.log_artifact("notes.txt")
    tracker.end_run()
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "to look at it" in line]
    uri = said.partition("--backend-store-uri ")[2].strip()
    assert uri.startswith("sqlite:///")
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("battery_degradation")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["cell"] == "A" and run.data.tags["run_id"] == folder.name
    assert run.data.params["learning_rate"] == "0.001" and run.data.params["dropout"] == "0.1"
    assert len(run.data.params["long"]) == 500 and run.data.params["api_key"] == "***"
    for name in history[0]:
        points = sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name))
        assert points == [(int(row["step"]), float(row[name])) for row in rows(folder)]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["notes.txt"]
    with sqlite3.connect("artifacts/mlruns/mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone() == (1,)


def test_a_server_that_is_away_is_one_warning(workdir, caplog, monkeypatch):
    """C68: and closing takes a bounded time."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = local(mlflow_tracking_uri="http://127.0.0.1:9")
    folder = Path("artifacts/runs") / tracker.start_run("away", {})
    with caplog.at_level(logging.WARNING, "paceline"):
        tracker.log_metrics({"loss": 1.0}, step=1)
        tracker.end_run()
    warnings = [record.message for record in caplog.records if record.name.startswith("paceline")]
    assert sum("failed and is tried again" in text for text in warnings) == 1
    assert rows(folder)[0]["loss"] == "1.0"
