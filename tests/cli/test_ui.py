"""`paceline ui`: a real MLflow server on this machine, asked once, ended by Ctrl-C with all that it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.contracts.tiny import train


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def processes_naming(text: str) -> list[int]:
    """The ids of the processes whose command has this text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_it_serves_the_store_of_a_run_on_loopback_until_ctrl_c_and_leaves_no_process(workdir):
    pytest.importorskip("mlflow")
    train(workdir / "runs", "training.num_epochs=1", "tracking=mlflow")
    port = free_port()
    command = [sys.executable, "-m", "paceline", "ui", "runs/run", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONUNBUFFERED": "1"})  # fmt: skip
    try:
        said = [process.stdout.readline(), process.stdout.readline()]
        database = f"sqlite:///{workdir}/runs/mlruns/mlflow.db"
        assert said[0].strip() == f"command: mlflow ui --backend-store-uri {database} --port {port}"
        assert f"http://127.0.0.1:{port}" in said[1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:
            assert page.status == 200
        assert len(processes_naming(database)) >= 1
        with socket.socket() as outside:
            outside.settimeout(2)
            assert outside.connect_ex(("127.0.0.2", port)), "it listens on more than 127.0.0.1"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    end = time.monotonic() + 5
    while processes_naming(database) and time.monotonic() < end:
        time.sleep(0.1)
    assert processes_naming(database) == []
    assert sorted(path.name for path in (workdir / "runs" / "mlruns").iterdir()) == ["artifacts", "mlflow.db"]


def test_a_port_that_is_taken_and_a_folder_without_runs_are_named(cli, workdir):
    pytest.importorskip("mlflow")
    (workdir / "runs" / "mlruns").mkdir(parents=True)
    done = cli("ui")
    assert (done.code, "nothing here was sent to MLflow" in done.err) == (2, True)
    (workdir / "runs" / "mlruns" / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = cli("ui", "--port", str(taken.getsockname()[1]))
    assert (done.code, "the port is taken" in done.err) == (2, True)


def test_a_server_elsewhere_is_only_named(cli, workdir):
    pytest.importorskip("mlflow")
    record = workdir / "runs" / "a" / "tracking" / "mlflow_runs.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"uri": "http://***@server:5000"}')
    done = cli("ui", "runs/a")
    assert (done.code, done.out.strip()) == (0, "MLflow serves these runs: http://***@server:5000")
