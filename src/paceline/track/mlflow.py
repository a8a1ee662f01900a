"""MLflow: a parent run with a child per member, each value of the journal there once, in batches.

Runs in the trackers' background thread, which alone imports MLflow (two seconds) and makes its database. What is there
is asked of the server, never assumed: its runs are found by a tag that is the run's own, and after a start or a failure
the last step of each member and split is read back. So nothing is lost or doubled by a kill between an answer and the
note of it, by a request that arrived although it timed out, or by a server that was away.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.config.reading import parse_json, read_text
from paceline.errors import ConfigError
from paceline.track import mlflow_client as server
from paceline.track import mlflow_values as values
from paceline.track.mlflow_figures import logged_figures
from paceline.track.mlflow_record import write_record
from paceline.track.mlflow_store import Place, place
from paceline.track.mlflow_values import MOST_METRICS, MOST_PARAMS, Measured, chunks, config_of
from paceline.track.names import Names, class_names
from paceline.track.optional import installed
from paceline.track.spool import recorded

if TYPE_CHECKING:
    from paceline.track.config import MlflowConfig
    from paceline.types import Record

STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class Mlflow:
    """The tracker of one run. Raises ConfigError where the address is none of MLflow's."""

    def __init__(self, run_folder: Path, config: MlflowConfig) -> None:
        self.pause_seconds = config.every_seconds
        self._run, self._config = run_folder, config
        self._place = place(config.uri, run_folder)
        self._names = Names(classes=class_names(run_folder))
        self._remote: _Remote | None = None

    def scalars(self, rows: Sequence[Record]) -> None:
        """Send the values that the server does not have."""
        with self._connected() as remote:
            remote.send(self._measured(rows))

    def figure(self, name: str, path: str, step: int) -> None:
        """Keep a picture of the run beside its other files."""
        with self._connected() as remote:
            remote.client.log_artifact(remote.parent, path, "figures")

    def artefact(self, name: str, path: str) -> None:
        """Keep a file; with the summary come the means, the pictures, and the best weights where they are asked for."""
        with self._connected() as remote:
            remote.client.log_artifact(remote.parent, path)
            if name == "summary.json":
                self._results(remote, parse_json(read_text(Path(path))))

    def close(self, status: str) -> None:
        """End the runs there with a status; a member that failed is FAILED."""
        summary = self._run / "summary.json"
        known = status == "finished" and summary.is_file()
        failed = parse_json(read_text(summary)).get("failed", ()) if known else ()
        with self._connected() as remote:
            remote.end(STATUS[status], failed=failed)

    @contextmanager
    def _connected(self) -> Iterator[_Remote]:
        """Connect, find the runs or make them, send what they miss of the journal; after a failure all of it again."""
        try:
            if self._remote is None:
                if not installed("mlflow"):  # the training goes on, and a resume sends it all
                    raise ConfigError(
                        "the package mlflow is not installed", where="tracking", hint="pip install mlflow"
                    )
                self._remote = _Remote.opened(self._place, self._run, self._config)
                self._remote.send(self._measured(recorded(self._run)))
            yield self._remote
        except Exception:
            self._remote = None
            raise

    def _measured(self, rows: Iterable[Record]) -> Iterator[Measured]:
        return ((row, values.points(row, self._names, self._config.axis)) for row in rows)

    def _results(self, remote: _Remote, summary: Mapping[str, Any]) -> None:
        remote.summarise(values.summary_metrics(summary))
        with logged_figures(summary.get("confusion", {})) as paths:
            for path in paths:
                remote.client.log_artifact(remote.parent, str(path), "figures")
        if self._config.checkpoints:
            for member in summary.get("members", ()):
                best = self._run / "members" / member["id"] / "best.pt"
                if best.is_file():
                    remote.client.log_artifact(remote.child(member["id"]), str(best), "checkpoints")


class _Remote:
    """The runs on the server, and what they are known to have."""

    def __init__(self, client: Any, experiment: str, parent: str, children: dict[str, str], run_folder: Path) -> None:
        self.client, self.parent = client, parent
        self._experiment, self._children, self._run = experiment, children, run_folder
        self._marks = {
            server.RUN: values.run_identity(run_folder),
            server.HOST: server.hostname(),
            server.PROCESS: server.process_mark(),
        }
        self._taken: dict[tuple[str, str], int] = {}  # the last step of each member and split, where it is known
        self._new: set[str] = set()  # runs made here: nothing else wrote to them
        self._described: set[str] = set()  # members whose parameters are there

    @classmethod
    def opened(cls, store: Place, run_folder: Path, config: MlflowConfig) -> _Remote:
        """Find the runs of a run folder, or make the parent; say in the folder where they are."""
        client = server.connect(store, config.timeout_seconds)
        name = config.experiment or (config_of(run_folder).get("task") or {}).get("name") or "paceline"
        experiment = server.experiment_of(client, name, store.artefacts)
        server.end_the_dead(client, experiment)
        known = server.runs_of(client, experiment, values.run_identity(run_folder))
        self = cls(client, experiment, known.pop("", ""), known, run_folder)
        for run_id in (self.parent, *known.values()) if self.parent else ():
            self._go_on(run_id)
        if not self.parent:
            self.parent = self._made(run_folder.name, {**config.tags, **values.parent_tags(run_folder)})
        self._describe(self.parent, values.params(config_of(run_folder)))
        write_record(run_folder, store, {"experiment_id": experiment, "run_id": self.parent})
        return self

    def child(self, member: str) -> str:
        """Return the id of a member's run, which is made when it is first asked for."""
        if member not in self._children:
            tags = {server.MEMBER: member, server.CHILD_OF: self.parent}
            self._children[member] = self._made(member, tags)
        if member not in self._described:
            self._describe(self._children[member], values.member_params(self._run, member))
            self._described.add(member)
        return self._children[member]

    def send(self, rows: Iterable[Measured]) -> None:
        """Send each member's records in order, without those that its run has."""
        by_member: dict[str, list[Measured]] = {}
        for record, own in rows:
            if own:
                by_member.setdefault(record.member, []).append((record, own))
        for member, records in by_member.items():
            self._send(member, records)

    def summarise(self, means: Mapping[str, float]) -> None:
        """Log the means over members to the parent, unless it has them."""
        from mlflow.entities import Metric

        had = self.client.get_run(self.parent).data.metrics
        now = round(time.time() * 1000)
        fresh = [Metric(name, value, now, 0) for name, value in means.items() if had.get(name) != value]
        for part in chunks(fresh, MOST_METRICS):
            self.client.log_batch(self.parent, metrics=part)

    def end(self, status: str, failed: Sequence[str]) -> None:
        """Set the status of all runs."""
        for member, run_id in self._children.items():
            self.client.set_terminated(run_id, "FAILED" if member in failed else status)
        self.client.set_terminated(self.parent, status)

    def _send(self, member: str, records: list[Measured]) -> None:
        from mlflow.entities import Metric

        run_id, now = self.child(member), round(time.time() * 1000)
        for together in values.batches(self._fresh(member, run_id, records)):
            metrics = [Metric(name, value, now, step) for _, own in together for name, value, step in own]
            for part in chunks(metrics, MOST_METRICS):  # several for one record of over a thousand classes
                self.client.log_batch(run_id, metrics=part)
            self._taken |= {(member, record.split): own[0][2] for record, own in together}

    def _fresh(self, member: str, run_id: str, records: list[Measured]) -> list[Measured]:
        """Leave out what the run has. A record arrives whole, so any of its metrics tells the last step."""
        found, last = [], dict[str, int]()
        for record, own in records:
            split, (name, _, step) = record.split, own[0]
            if split not in last:
                if (member, split) not in self._taken:
                    self._taken[member, split] = -1 if run_id in self._new else self._last_step(run_id, name)
                last[split] = self._taken[member, split]
            if step > last[split]:
                last[split] = step
                found.append((record, own))
        return found

    def _last_step(self, run_id: str, name: str) -> int:
        return max((metric.step for metric in self.client.get_metric_history(run_id, name)), default=-1)

    def _made(self, name: str, tags: Mapping[str, str]) -> str:
        run_id: str = self.client.create_run(self._experiment, tags={**tags, **self._marks}, run_name=name).info.run_id
        self._new.add(run_id)
        return run_id

    def _go_on(self, run_id: str) -> None:
        for tag in (server.PROCESS, server.HOST):
            self.client.set_tag(run_id, tag, self._marks[tag])
        self.client.update_run(run_id, status="RUNNING")

    def _describe(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log the parameters that the run does not have; those that it has cannot change."""
        from mlflow.entities import Param

        had = {} if run_id in self._new else self.client.get_run(run_id).data.params
        missing = [Param(name, value) for name, value in params.items() if name not in had]
        for part in chunks(missing, MOST_PARAMS):
            self.client.log_batch(run_id, params=part)
