"""A real MLflow server on this machine that is away at the start, dies in mid-run, or at the end of a training."""

from __future__ import annotations

import csv
import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from paceline.api.runs import resume, train
from paceline.run.folder import Run
from paceline.track import mlflow as tracker
from paceline.track.mlflow import Mlflow
from paceline.track.mlflow_record import NAME
from paceline.types import Control, Record

from .kills import WHOLE
from .outcome import Row, skipped
from .runs import Tiny, differences

FAULTS = ("at the start", "in mid-run", "at the end")
EPOCHS = 24
START_SECONDS = 90.0
Values = Counter[tuple[str, str, int, float]]  # member, name, epoch, value


class Server:
    """`mlflow server` over a SQLite file, which outlives it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self._port = found.getsockname()[1]
        self.address, self.database = f"http://127.0.0.1:{self._port}", f"sqlite:///{folder / 'mlflow.db'}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port),
                   "--workers", "1", "--backend-store-uri", self.database]  # fmt: skip
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=os.environ | quiet, cwd=self._folder, stdout=log, stderr=log,
                                             start_new_session=True)  # fmt: skip
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            with suppress(OSError), urllib.request.urlopen(f"{self.address}/health", timeout=1):
                return
            time.sleep(0.05)
        raise TimeoutError((self._folder / "server.log").read_text("utf-8")[-2000:])

    def kill(self) -> None:
        """SIGKILL it and all that it started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def killed_server(times: int, *, seed: int, folder: Path, faults: Sequence[str] = FAULTS) -> Row:
    """Train with a server that dies, `times` in each way; start it again, resume, and read everything back."""
    if importlib.util.find_spec("mlflow") is None:
        return skipped("MLflow server killed", "there is no mlflow")
    row = Row(name="MLflow server killed", aim="left it unfinished", planned=len(faults) * times)
    rng, server = random.Random(seed), Server(folder / "server")
    plain = Tiny(folder=folder, engine="cohort", num_epochs=EPOCHS)
    sent = Tiny(folder=folder, engine="cohort", num_epochs=EPOCHS, more=(
        f"+tracking.mlflow.uri={server.address}", "+tracking.mlflow.every_seconds=0.05",
        "+tracking.mlflow.timeout_seconds=2",
    ))  # fmt: skip
    plain.write_data()
    plain.start(WHOLE)
    with without_spool():  # the server is not up yet
        forgetful = train("pain", sent.overrides(), runs=folder, name="broken")
    try:
        for number in range(times):
            for fault in faults:
                _one(row, sent, server, fault, f"{fault.replace(' ', '-')}-{number}", rng)
        with without_spool():
            resume(forgetful.path)
        row.broken["a tracker without a spool"] = int(values_there(forgetful, server) != recorded_values(forgetful))
    finally:
        server.kill()
    return row.judge(all_fired=row.fired == row.planned, all_left_unfinished=row.landed == row.planned)


def _one(row: Row, tiny: Tiny, server: Server, fault: str, name: str, rng: random.Random) -> None:
    """One training and its resume. The server is left running."""
    killer = _Killer(server, fault, rng)
    if fault == "at the start":
        server.kill()
        killer.fired = True
    elif not server.runs:
        server.start()
    run = train("pain", tiny.overrides(), runs=tiny.folder, name=name, callbacks=[killer])
    server.kill()  # whatever the fault left of it
    row.fired += killer.fired
    row.landed += status(run, server) != "FINISHED" or values_there(run, server) != recorded_values(run)
    server.start()
    resume(run.path)
    row.outcomes[f"{fault}: resumed"] += 1
    for difference in differences(run, tiny.run(WHOLE)):
        if "config.tracking" not in difference:
            row.lose(f"{fault}: {difference}")
    ours, theirs = recorded_values(run), values_there(run, server)
    if ours != theirs:
        row.lose(f"{fault}: MLflow lost {(ours - theirs).total()} values and has {(theirs - ours).total()} too many")
    if status(run, server) != "FINISHED":
        row.lose(f"{fault}: the remote run is {status(run, server)}")
    tiny.remove(name)


class _Killer:
    """A callback that kills the server: in the middle of the epochs, or when the last of them is over."""

    def __init__(self, server: Server, fault: str, rng: random.Random) -> None:
        self._server, self._fault, self.fired = server, fault, False
        self._epoch = rng.randint(EPOCHS // 3, 2 * EPOCHS // 3) if fault == "in mid-run" else EPOCHS
        self._delay = rng.uniform(0, 0.1)

    def __call__(self, record: Record, control: Control) -> None:
        if self.fired or record.split != "val":
            return
        time.sleep(0.02)  # so that values are on their way in mid-run
        if record.epoch >= self._epoch:
            time.sleep(self._delay)
            self._server.kill()
            self.fired = True


def recorded_values(run: Run) -> Values:
    """Count the values of the run's histories."""
    found: Values = Counter()
    for member in run.members:
        with (run.member_folder(member) / "history.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                epoch = int(row.pop("epoch"))
                found.update((member, name, epoch, float(text)) for name, text in row.items() if name != "step")
    return found


def values_there(run: Run, server: Server) -> Values:
    """Count the values of the remote runs under names that histories have; read from the database, not the server."""
    found: Values = Counter()
    client, names = _client(server), {name for _, name, _, _ in recorded_values(run)}
    for child in _runs(run, client):
        member = child.data.tags.get("paceline.member")
        for name in names & set(child.data.metrics) if member else ():
            history = client.get_metric_history(child.info.run_id, name)
            found.update((member, name, metric.step, metric.value) for metric in history)
    return found


def status(run: Run, server: Server) -> str:
    """The status of the parent run, and that of its children where it is another."""
    found = {one.info.status for one in _runs(run, _client(server))} if (run.path / NAME).exists() else set()
    return ", ".join(sorted(found)) or "not there"


def _runs(run: Run, client: Any) -> list[Any]:
    experiments = [one.experiment_id for one in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`paceline.run` = '{run.id}'"))


def _client(server: Server) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=server.database)


@contextmanager
def without_spool() -> Iterator[None]:
    """The known-broken variant: a tracker that forgets what it could not send, and reads no journal."""
    scalars, recorded = Mlflow.scalars, tracker.recorded

    def forgetful(self: Mlflow, rows: Sequence[Record]) -> None:
        with suppress(Exception):
            scalars(self, rows)

    Mlflow.scalars, tracker.recorded = forgetful, lambda folder: iter(())  # type: ignore[method-assign]
    try:
        yield
    finally:
        Mlflow.scalars, tracker.recorded = scalars, recorded  # type: ignore[method-assign]
