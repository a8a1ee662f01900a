"""`paceline ui`: MLflow's own pages, on this machine alone, over the store that runs were sent to."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError

from rich.text import Text

from paceline.cli.console import make_console
from paceline.errors import RunError
from paceline.launch.signals import Stopped
from paceline.track.mlflow_record import store_of

HOST = "127.0.0.1"
PORTS = range(5000, 5100)  # the first free one, unless one is named
START_SECONDS, END_SECONDS = 60.0, 5.0
SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def ui_command(path: Path, port: int | None) -> None:
    """Serve until Ctrl-C; or say where it is served already. Raises RunError where there is no store, or no port."""
    console = make_console()
    store = store_of(path)
    if store.is_server:
        console.print(Text(f"MLflow serves these runs: {store.opened_by}"), soft_wrap=True)
        return
    chosen = _free_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri, "--host", HOST,
               "--port", str(chosen), "--workers", "1"]  # fmt: skip
    address = f"http://{HOST}:{chosen}"
    console.print(Text(f"command: {shlex.join(['mlflow', *shlex.split(store.opened_by)[1:], '--port', str(chosen)])}"),
                  soft_wrap=True)  # fmt: skip
    process = subprocess.Popen(
        command, env=os.environ | SETTINGS, cwd=store.folder, start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,  # pages of start-up lines, and a line per request
    )  # fmt: skip
    try:
        _wait_for(process, address)
        console.print(Text(f"MLflow: {address}   (Ctrl-C ends it)"), soft_wrap=True)
        code = process.wait()
    except (KeyboardInterrupt, Stopped):  # which is how it ends
        return
    finally:
        _end(process)
    if code:
        raise RunError("mlflow ended by itself", where=str(path), got=f"exit code {code}",
                       hint=shlex.join(["mlflow", *command[3:]]))  # fmt: skip


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and everything that it started: asked first, then killed. A second Ctrl-C leaves none behind."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(END_SECONDS)
    for kind, handler in before.items():
        signal.signal(kind, handler)


def _wait_for(process: subprocess.Popen[bytes], address: str) -> None:
    """Wait until the server answers. Raises RunError where it ends before, or takes too long."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise RunError("mlflow does not start", where=address, got=f"exit code {process.poll()}",
                   hint=shlex.join(map(str, process.args)))  # type: ignore[arg-type]  # fmt: skip


def _free_port(port: int | None) -> int:
    for candidate in PORTS if port is None else [port]:
        with socket.socket() as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                found.bind((HOST, candidate))
            except OSError:
                continue
            return candidate
    raise RunError("the port is taken", where="--port", got=port, hint="another --port, or none for the first free one")
