"""Where a `DualTracker` sends values besides its own files: TensorBoard and MLflow, each behind a thread of the core.

A record here is one call of `log_metrics`: `step` counts the calls, `epoch` is the step that the caller named, and
`values` has the caller's names.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paceline.track import event_file
from paceline.track.mlflow_client import (
    HOST,
    PROCESS,
    connect,
    end_the_dead,
    experiment_of,
    hostname,
    process_mark,
)  # fmt: skip
from paceline.track.mlflow_store import Place
from paceline.track.mlflow_values import MOST_METRICS, MOST_PARAMS, chunks, key, params
from paceline.types import Record, Tracker

LOG = logging.getLogger("paceline")
TIMEOUT_SECONDS = 10
STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


def missing(package: str) -> bool:
    """Say in one line that a package is not there; training and the local files go on without it."""
    if importlib.util.find_spec(package) is not None:
        return False
    LOG.warning("the package %s is not installed, so %s gets nothing: pip install %s", package, package, package)
    return True


class Events(Tracker):
    """TensorBoard: one event file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None

    def scalars(self, rows: Sequence[Record]) -> None:
        """Append the values, in order."""
        event_file.append(self._file(), [
            event_file.event(row.epoch, [event_file.scalar(name, value) for name, value in numbers(row)])
            for row in rows
        ])  # fmt: skip

    def figure(self, name: str, path: str, step: int) -> None:
        """Append a PNG file as a picture."""
        event_file.append(self._file(), [event_file.event(step, [event_file.image(name, Path(path).read_bytes())])])

    def artefact(self, name: str, path: str) -> None:
        """Append what is a picture; TensorBoard shows no other files."""
        if path.endswith(".png"):
            self.figure(name, path, 0)

    def close(self, status: str) -> None:
        """Leave an event file even where nothing was logged."""
        self._file()

    def _file(self) -> Path:
        if self._path is None:
            self._path = event_file.replace(self._folder, [])
        return self._path


class MlflowRun(Tracker):
    """One run on an MLflow server. Everything but the constructor runs in the thread of the core's queue."""

    def __init__(self, store: Place, experiment: str, name: str, config: Mapping[str, Any]) -> None:
        self._store, self._experiment, self._name = store, experiment, name
        self._known: set[str] = set()  # parameters that MLflow has or will have: it takes no second value
        self._params: deque[dict[str, str]] = deque()
        self.add_params(config)
        self._tags: deque[tuple[str, str]] = deque()
        self._client: Any = None
        self.run_id = ""

    def add_params(self, config: Mapping[str, Any]) -> None:
        """Queue parameters: they go out with the next values, or at the end. A name's first value stays."""
        fresh = {name: value for name, value in params(config).items() if name not in self._known}
        self._known |= set(fresh)
        if fresh:
            self._params.append(fresh)

    def add_tag(self, name: str, value: str) -> None:
        self._tags.append((key(name), value))

    def scalars(self, rows: Sequence[Record]) -> None:
        """Send the values."""
        from mlflow.entities import Metric

        client, now = self._ready(), round(time.time() * 1000)
        metrics = [Metric(key(name), value, now, row.epoch) for row in rows for name, value in numbers(row)]
        for part in chunks(metrics, MOST_METRICS):
            client.log_batch(self.run_id, metrics=part)

    def figure(self, name: str, path: str, step: int) -> None:
        """Keep a picture."""
        self._ready().log_artifact(self.run_id, path, "figures")

    def artefact(self, name: str, path: str) -> None:
        """Keep a file; figures and checkpoints in folders of these names."""
        folder = Path(path).parent.name
        where = folder if folder in ("figures", "checkpoints") else None
        self._ready().log_artifact(self.run_id, path, where)

    def close(self, status: str) -> None:
        """Send what is left and end the run."""
        self._ready().set_terminated(self.run_id, STATUS[status])

    def _ready(self) -> Any:
        """Connect, make the run, send what waits."""
        from mlflow.entities import Param, RunTag

        if self._client is None:
            client = connect(self._store, TIMEOUT_SECONDS)
            experiment = experiment_of(client, self._experiment, self._store.artefacts)
            end_the_dead(client, experiment)
            tags = {HOST: hostname(), PROCESS: process_mark()}
            self.run_id = client.create_run(experiment, tags=tags, run_name=self._name).info.run_id
            self._client = client
        while self._params:
            waiting = [Param(name, value) for name, value in self._params[0].items()]
            for part in chunks(waiting, MOST_PARAMS):
                self._client.log_batch(self.run_id, params=part)
            self._params.popleft()
        while self._tags:
            self._client.log_batch(self.run_id, tags=[RunTag(*self._tags[0])])
            self._tags.popleft()
        return self._client


def numbers(row: Record) -> Iterator[tuple[str, float]]:
    """Yield the names and values of a record."""
    for name, value in row.values.items():
        assert not isinstance(value, list)
        yield name, float(value)
