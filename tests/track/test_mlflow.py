"""MLflow as a tracker, over real SQLite stores: values, resume, kills, failures, addresses, secrets."""

from __future__ import annotations

import json
import logging
import re
import shlex
import socket
import time
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

import paceline
from paceline.api.runs import resume
from paceline.checkpoint.tree import equal
from paceline.errors import ConfigError, InterruptedRunError, ModelError, RunError
from paceline.run.folder import Run
from paceline.track import mlflow_values
from paceline.track import queue as queue_module
from paceline.track.mlflow_record import store_of
from paceline.track.mlflow_store import place
from paceline.track.redact import is_secret, shown_words
from paceline.types import Record
from tests.contracts.tiny import USE, result, train
from tests.e2e.forked import forked
from tests.track import events, served

QUICK = ("training.num_epochs=4", "members.seeds=2", "training.save.every_steps=2")
SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "PAUSES_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(queue_module, "SHARE", 1.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all runs of this file: making one takes a second."""
    return f"file:{tmp_path_factory.mktemp('mlruns')}"


@pytest.fixture
def on(store: str) -> list[str]:
    return [*QUICK, f"tracking.mlflow.uri={store}", "tracking.mlflow.every_seconds=0.02"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, store: str) -> Run:
    """Two seeds, tracked here, in TensorBoard and in MLflow."""
    words = [*QUICK, "tracking=dual", f"tracking.mlflow.uri={store}", "tracking.mlflow.checkpoints=true"]
    return train(tmp_path_factory.mktemp("runs"), *words, "data.split.test_fraction=0.2")


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("runs"), *QUICK)


def parent(run: Run):
    (found,) = [one for one in served.parents(served.uri(run)) if one.data.tags["paceline.run"] == run.id]
    return found


def statuses(run: Run) -> set[str]:
    """The statuses of a run's parent and children."""
    return {one.info.status for one in (parent(run), *served.children(served.uri(run), parent(run)).values())}


def test_mlflow_and_tensorboard_have_the_values_of_the_histories_each_once(run):
    """C67, C74."""
    assert served.differences(run) == []
    assert [events.differences(run, member) for member in run.members] == [[], []]


def test_a_run_is_a_parent_with_a_child_per_member_all_finished(run):
    """C66."""
    nested = served.children(served.uri(run), parent(run))
    assert sorted(nested) == ["seed42", "seed43"]
    assert parent(run).info.run_name == "run"
    assert {one.info.run_name for one in nested.values()} == set(nested)
    assert statuses(run) == {"FINISHED"}
    assert json.loads((run.path / "tracking" / "mlflow_runs.json").read_text())["run_id"] == parent(run).info.run_id


def test_the_parameters_are_the_config_and_what_a_member_has_of_its_own(run):
    """C73."""
    found = parent(run).data.params
    assert found["training.learning_rate"] == "0.01"
    assert found["model.name"] == "net"
    assert found["members.seeds"] == "[42, 43]"
    nested = served.children(served.uri(run), parent(run))
    assert {name: one.data.params["member"] for name, one in nested.items()} == {"seed42": "seed42", "seed43": "seed43"}


def test_tags_say_what_the_run_was_made_of(run):
    tags = parent(run).data.tags
    assert tags["paceline.data_fingerprint"] == json.loads((run.path / "splits.json").read_text())["fingerprint"]
    assert re.fullmatch("[0-9a-f]{64}", tags["paceline.config_sha256"])
    assert tags["paceline.task"] == "blobs"
    commit = json.loads((run.path / "environment.json").read_text())["git_commit"]
    assert tags.get("mlflow.source.git.commit") == commit


def test_the_files_of_a_run_are_its_artefacts(run):
    """C75."""
    client = served.client(served.uri(run))
    names = {file.path for file in client.list_artifacts(parent(run).info.run_id)}
    assert names >= {"config.yaml", "plan.json", "environment.json", "splits.json", "summary.json", "report.html"}
    pictures = {file.path for file in client.list_artifacts(parent(run).info.run_id, "figures")}
    assert pictures == {"figures/val_confusion.png", "figures/test_confusion.png"}
    for member, child in served.children(served.uri(run), parent(run)).items():
        path = client.download_artifacts(child.info.run_id, "checkpoints/best.pt")
        assert Path(path).read_bytes() == (run.member_folder(member) / "best.pt").read_bytes()


def test_the_parent_has_the_means_over_members_with_their_intervals(run):
    found, expected = parent(run).data.metrics, run.summary["metrics"]["test_loss"]
    assert found["test_loss"] == expected["mean"]
    assert [found["test_loss_ci95_low"], found["test_loss_ci95_high"]] == expected["ci95"]


def test_the_printed_line_opens_the_store_that_has_the_run(store, workdir, monkeypatch):
    """C91."""
    import mlflow
    from typer.testing import CliRunner

    from paceline.cli.app import app

    words = ["train", "--use", str(USE), "training.num_epochs=1", "tracking.mlflow.uri=file:./artifacts/mlruns"]
    done = CliRunner().invoke(app, [*words, "--name", "printed"])
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("MLflow: ")]
    command = shlex.split(line.removeprefix("MLflow: "))
    assert command[:3] == ["mlflow", "ui", "--backend-store-uri"]
    monkeypatch.chdir(workdir.parent)  # the address holds wherever it is opened
    mlflow.set_tracking_uri(command[3])
    try:
        found = mlflow.search_runs(search_all_experiments=True)
    finally:
        mlflow.set_tracking_uri(None)
    assert "printed" in set(found["tags.mlflow.runName"])
    assert (workdir / "artifacts" / "mlruns" / "mlflow.db").is_file()
    assert store_of(workdir / "runs" / "printed").uri == command[3]


def test_an_interrupted_run_is_killed_there_and_goes_on_as_the_same_run(tmp_path, on, untracked):
    def interrupt(record, control):
        if record.epoch == 2:
            control.interrupt(143)

    with pytest.raises(InterruptedRunError):
        train(tmp_path, *on, callbacks=[interrupt])
    run = Run(tmp_path / "run")
    first = parent(run).info.run_id
    assert statuses(run) == {"KILLED"}
    resume(run, use=[USE])
    assert parent(run).info.run_id == first
    assert statuses(run) == {"FINISHED"}
    assert served.differences(run) == []
    assert equal(result(run), result(untracked)) == []


def test_a_run_that_an_error_ended_is_failed_there(tmp_path, on):
    def crash(record, control):
        raise ModelError("broken")

    with pytest.raises(ModelError):
        train(tmp_path, *on, callbacks=[crash])
    assert statuses(Run(tmp_path / "run")) == {"FAILED"}


def test_a_killed_run_is_failed_at_the_next_start_and_finished_by_its_resume(tmp_path, on, untracked):
    path = tmp_path / "run" / "tracking"
    slow = [lambda record, control: time.sleep(0.1)]
    killed = forked(lambda: train(tmp_path, *on, callbacks=slow), 0.1, once=(path / "mlflow.json").exists)
    assert killed is None, "the kill came too late"
    run = Run(tmp_path / "run")
    assert statuses(run) == {"RUNNING"}
    train(tmp_path, *on, "training.num_epochs=1", name="another")
    assert statuses(run) == {"FAILED"}
    resume(run, use=[USE])
    assert statuses(run) == {"FINISHED"}
    assert served.differences(run) == []
    assert equal(result(run), result(untracked)) == []


def test_a_request_that_arrived_although_it_timed_out_is_not_sent_twice(tmp_path, on, untracked, monkeypatch):
    from mlflow import MlflowClient

    log_batch, calls = MlflowClient.log_batch, [0]

    def unlucky(self, run_id, metrics=(), **others):
        log_batch(self, run_id, metrics, **others)
        if metrics:
            calls[0] += 1
            if calls[0] % 3:
                raise TimeoutError("no answer")

    monkeypatch.setattr(MlflowClient, "log_batch", unlucky)
    run = train(tmp_path, *on, callbacks=[lambda record, control: time.sleep(0.02)])
    assert calls[0] > 3
    assert served.differences(run) == []
    assert statuses(run) == {"FINISHED"}
    assert equal(result(run), result(untracked)) == []


def test_nothing_is_doubled_where_the_note_of_what_was_sent_is_lost(tmp_path, on):
    run = train(tmp_path, *on)
    (run.path / "tracking" / "mlflow.json").unlink()
    (run.path / "tracking" / "mlflow_runs.json").unlink()
    resume(run, ["training.num_epochs=6"], use=[USE])
    assert served.differences(run) == []
    assert len(run.history()["epoch"]) == 6


def test_a_run_that_was_deleted_there_is_sent_again_whole(tmp_path, on):
    run = train(tmp_path, *on)
    deleted, client = parent(run).info.run_id, served.client(served.uri(run))
    for one in (parent(run), *served.children(served.uri(run), parent(run)).values()):
        client.delete_run(one.info.run_id)
    resume(run, ["training.num_epochs=5"], use=[USE])
    assert parent(run).info.run_id != deleted
    assert served.differences(run) == []


def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_server_that_is_away_is_one_warning_and_no_bit_and_its_credentials_are_nowhere(tmp_path, untracked, caplog):
    """C68."""
    caplog.set_level(logging.INFO)
    address = f"http://me:{SECRET}@127.0.0.1:{closed_port()}"
    started = time.monotonic()
    run = train(tmp_path, *QUICK, f"tracking.mlflow.uri={address}")
    assert time.monotonic() - started < 20
    assert equal(result(run), result(untracked)) == []
    ours = [entry.getMessage() for entry in caplog.records if entry.name == "paceline"]
    assert len([text for text in ours if "failed and is tried again" in text]) == 1
    assert f"paceline resume {run.path}" in ours[-1]
    assert SECRET not in caplog.text
    written = [path for path in run.path.rglob("*") if path.is_file()]
    assert [str(path) for path in written if SECRET.encode() in path.read_bytes()] == []
    assert "http://***@127.0.0.1" in (run.path / "config.yaml").read_text()


def test_what_a_server_missed_is_sent_to_where_a_resume_says(tmp_path, on, store):
    run = train(tmp_path, *QUICK, f"tracking.mlflow.uri=http://127.0.0.1:{closed_port()}")
    resume(run, [f"tracking.mlflow.uri={store}"], use=[USE])
    assert served.differences(run) == []
    assert statuses(run) == {"FINISHED"}


def test_credentials_that_are_not_on_record_come_from_the_environment(tmp_path, monkeypatch):
    recorded = "http://***@server:5000"
    with pytest.raises(ConfigError, match="without its credentials") as caught:
        place(recorded, tmp_path)
    assert "MLFLOW_TRACKING_URI" in caught.value.hint
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@server:5000")
    assert place(recorded, tmp_path).uri == f"http://me:{SECRET}@server:5000"
    assert SECRET not in place(recorded, tmp_path).opened_by
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@another:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    assert place(recorded, tmp_path).uri == "http://server:5000"


@pytest.mark.fast
@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("file:./artifacts/mlruns", "sqlite:///{here}/artifacts/mlruns/mlflow.db"),
        ("file:{here}/a b", "sqlite:///{here}/a b/mlflow.db"),
        ("file://{here}/a%20b", "sqlite:///{here}/a b/mlflow.db"),
        ("mlruns", "sqlite:///{here}/mlruns/mlflow.db"),
        ("sqlite:///own.db", "sqlite:///{here}/own.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("databricks", "databricks"),
        ("postgresql+psycopg2://db/mlflow", "postgresql+psycopg2://db/mlflow"),
        (None, "sqlite:///{here}/runs/mlruns/mlflow.db"),
    ],
    ids=str,
)
def test_an_address_becomes_what_the_client_takes(workdir, monkeypatch, given, uri):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = place(None if given is None else given.format(here=workdir), workdir / "runs" / "one")
    assert found.uri == uri.format(here=workdir)
    assert (found.folder is None) == (not uri.startswith("sqlite"))


@pytest.mark.fast
@pytest.mark.parametrize("given", ["ftp://a/b", "sqlite://", "sqlite:///:memory:", "what?/mlruns"])
def test_an_address_that_is_none_is_refused(tmp_path, given):
    with pytest.raises(ConfigError) as caught:
        place(given, tmp_path)
    assert caught.value.where == "tracking.mlflow.uri"


@pytest.mark.fast
def test_names_keep_apart_and_values_keep_to_their_length():
    """C75."""
    names = ["val_f1/a", "a/../b", "../up", "=1+1", "größe 温度", "x\ny", "\ud800", " ", "", "a" * 300, "a" * 299 + "b"]
    keys = [mlflow_values.key(name) for name in names]
    assert len(set(keys)) == len(keys)
    assert keys[0] == names[0]
    assert keys[4] == names[4]
    for found in keys:
        assert re.fullmatch(r"[/\w.\- :]{1,250}", found)
        assert ".." not in found.split("/")
    tree = {"data": {"path": "p" * 600, "columns": ["a", "b"]}, "model": {"api_key": SECRET}, "tracking": {"x": 1}}
    found = mlflow_values.params(tree)
    assert found == {"data.path": "p" * 499 + "…", "data.columns": '["a", "b"]', "model.api_key": "***"}


@pytest.mark.fast
def test_a_call_has_at_most_a_thousand_values_and_no_half_of_a_record():
    record = Record(member="m", step=1, epoch=1, split="val", values={})
    sizes = [300, 300, 300, 300, 1000, 1, 1200, 5]
    made = [(record, [("x", 0.0, 1)] * size) for size in sizes]
    together = [[len(own) for _, own in part] for part in mlflow_values.batches(made)]
    assert together == [[300, 300, 300], [300], [1000], [1], [1200], [5]]


@pytest.mark.fast
@pytest.mark.parametrize(
    "key", ["api_key", "a.password", "wandb-token", "apiKey", "tracking.x.client_secret", "AUTH_KEY"]
)
def test_a_key_that_names_a_secret_is_known(key):
    assert is_secret(key)


@pytest.mark.fast
@pytest.mark.parametrize("key", ["max_tokens", "model.keys", "secretary", "monkey", "key", "tokenizer"])
def test_other_keys_are_none(key):
    assert not is_secret(key)


@pytest.mark.fast
def test_a_command_is_on_record_without_its_secrets():
    words = ["paceline", "train", f"tracking.x.uri=https://me:{SECRET}@host/a", f"++tracking.x.api_key={SECRET}",
             "--token", SECRET, "training.num_epochs=3"]  # fmt: skip
    found = shown_words(words)
    assert SECRET not in " ".join(found)
    assert found[2] == "tracking.x.uri=https://***@host/a"
    assert found[-1] == "training.num_epochs=3"


@pytest.mark.fast
def test_an_error_shows_no_credentials():
    error = ConfigError("no", where="uri", got=f"http://me:{SECRET}@host", hint=f"see ftp://{SECRET}@host")
    assert SECRET not in str(error)
    assert "http://***@host" in str(error)


@pytest.mark.fast
def test_a_folder_without_a_store_and_one_with_two_are_named(tmp_path):
    with pytest.raises(RunError, match="nothing here was sent to MLflow"):
        store_of(tmp_path)
    with pytest.raises(RunError, match="no such folder"):
        store_of(tmp_path / "none")
    for name in ("a", "b"):
        record = tmp_path / name / "tracking" / "mlflow_runs.json"
        record.parent.mkdir(parents=True)
        record.write_text(json.dumps({"uri": f"http://{name}:5000"}))
    with pytest.raises(RunError, match="several places") as caught:
        store_of(tmp_path)
    assert str(tmp_path / "a") in caught.value.hint
    assert store_of(tmp_path / "a").uri == "http://a:5000"
    record.write_text(json.dumps({"uri": f"sqlite:///{tmp_path}/gone.db"}))
    with pytest.raises(RunError, match="no longer there"):
        store_of(tmp_path / "b")
    assert not (tmp_path / "gone.db").exists()


@pytest.mark.fast
@pytest.mark.parametrize("value", ["''", "' '"])
def test_an_empty_address_is_refused(value):
    with pytest.raises(ConfigError, match="empty"):
        paceline.api.runs.configure("pain", [f"tracking.mlflow.uri={value}"])
