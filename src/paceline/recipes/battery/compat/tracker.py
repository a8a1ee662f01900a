"""`DualTracker`: a run's values in local files, TensorBoard and MLflow at the same time.

    <local_base_dir>/<run_id>/ config.json params.json tags.json metrics.json step_metrics.csv
                               tensorboard/ figures/ artifacts/ checkpoints/

The local files have everything. The others are fed by threads: what fails there is one warning, and training goes on.
"""

from __future__ import annotations

import json
import logging
import math
import re
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paceline.checkpoint.files import write_text_atomic
from paceline.config.tree import flatten
from paceline.errors import ConfigError, PacelineError, RunError
from paceline.recipes.battery.compat.destinations import Events, MlflowRun, missing
from paceline.recipes.battery.compat.files import copy_into
from paceline.track.mlflow_store import place
from paceline.track.queue import TrackerQueue
from paceline.track.redact import shown
from paceline.types import Record, Tracker

LOG = logging.getLogger("paceline")
FLUSH_SECONDS = 2.0  # between two writings of the local files
ENDS = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted"}
Rows = dict[int, dict[str, float]]  # step -> name -> value


class DualTracker:
    """Track one run after another.

    local_base_dir: where the runs' folders are. use_tensorboard: write event files too. mlflow_tracking_uri: a folder
    (`file:./mlruns`), which is served by a SQLite file in it, a database, or a server; None: no MLflow. Without the
    package tensorboard or mlflow, or where MLflow cannot be reached, there is one warning and the rest goes on.
    """

    def __init__(
        self,
        local_base_dir: str | Path = "artifacts/runs",
        use_tensorboard: bool = True,
        mlflow_tracking_uri: str | None = None,
        mlflow_experiment_name: str = "battery_degradation",
    ) -> None:
        self.local_base_dir = Path(local_base_dir)
        self.use_tensorboard = use_tensorboard and not missing("tensorboard")
        self.mlflow_experiment_name = mlflow_experiment_name
        self._store = None if mlflow_tracking_uri is None else place(mlflow_tracking_uri, self.local_base_dir)
        self._use_mlflow = self._store is not None and not missing("mlflow")
        self._run: _Open | None = None
        self.run_id: str | None = None

    def start_run(self, run_name: str, config: Mapping[str, Any] | None = None) -> str:
        """Open a run and return its id, which no other run has: `<run_name>_<date>_<time>_<6 letters>`.

        The config goes to `config.json` and to MLflow's parameters; values whose key says that they are secret are
        hidden. Raises RunError while another run is open.
        """
        if self._run is not None:
            raise RunError("a run is open already", where="DualTracker.start_run", got=self.run_id,
                           hint="tracker.end_run()")  # fmt: skip
        self.run_id = f"{_slug(run_name)}_{time.strftime('%Y%m%d_%H%M%S')}_{secrets.token_hex(3)}"
        folder = self.local_base_dir / self.run_id
        folder.mkdir(parents=True)
        config = dict(config or {})
        _write(folder / "config.json", config)
        mlflow = self._mlflow_run(run_name, config)
        parts: dict[str, Tracker] = {"tensorboard": Events(folder / "tensorboard")} if self.use_tensorboard else {}
        self._run = _Open(folder, mlflow, TrackerQueue({**parts, **({} if mlflow is None else {"mlflow": mlflow})}))
        return self.run_id

    def get_run_dir(self) -> Path | None:
        """Return the folder of the open run; None where there is none."""
        return None if self._run is None else self._run.folder

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers at a step (an epoch, say); without one, at that after the last."""
        self._open("log_metrics").log(metrics, step)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Add parameters: to `params.json`, and to MLflow's, cut to 500 characters there."""
        run = self._open("log_params")
        fresh = {name: value for name, value in params.items() if run.params.get(name, run) != value}
        run.params |= fresh
        _write(run.folder / "params.json", run.params)
        if run.mlflow is not None:
            run.mlflow.add_params(fresh)

    def set_tag(self, key: str, value: Any) -> None:
        """Set a tag: in `tags.json`, and in MLflow."""
        run = self._open("set_tag")
        run.tags[key] = str(value)
        _write(run.folder / "tags.json", run.tags)
        if run.mlflow is not None:
            run.mlflow.add_tag(key, str(value))

    def log_artifact(self, path: str | Path, name: str | None = None) -> Path:
        """Keep a file, also in MLflow; return where: in `artifacts/`, unless it is in the run's folder already."""
        run, source = self._open("log_artifact"), Path(path)
        if not source.exists():
            raise RunError("there is no such file", where="DualTracker.log_artifact", got=str(path))
        own = source if source.resolve().is_relative_to(run.folder.resolve()) else copy_into(
            source, run.folder / "artifacts")  # fmt: skip
        if own.is_file():
            run.queue.artefact(name or own.name, own)
        return own

    def log_figure(self, figure: Any, name: str, step: int | None = None) -> Path:
        """Keep a figure of matplotlib as `figures/<name>.png`; return the file."""
        run = self._open("log_figure")
        file = run.folder / "figures" / f"{_slug(name)}{'' if step is None else f'_{step}'}.png"
        file.parent.mkdir(exist_ok=True)
        figure.savefig(file, format="png", bbox_inches="tight")
        run.queue.artefact(_slug(name), file)
        return file

    def end_run(self, status: str = "FINISHED") -> None:
        """Write the local files, send what waits, end the MLflow run as `FINISHED`, `FAILED` or `KILLED`.

        Prints the line that opens MLflow. Nothing happens where no run is open.
        """
        if self._run is None:
            return
        if status not in ENDS:
            raise RunError("there is no such status", where="DualTracker.end_run", got=status, hint=", ".join(ENDS))
        run, self._run = self._run, None
        run.flush()
        run.queue.close(ENDS[status])
        if run.mlflow is not None and run.mlflow.run_id and self._store is not None:
            sys.stdout.write(f"MLflow has the run {run.mlflow.run_id}; to look at it: {self._store.opened_by}\n")

    def _mlflow_run(self, run_name: str, config: Mapping[str, Any]) -> MlflowRun | None:
        if not self._use_mlflow or self._store is None:
            return None
        run = MlflowRun(self._store, self.mlflow_experiment_name, run_name, _plain(config))
        assert self.run_id is not None
        run.add_tag("run_id", self.run_id)
        return run

    def _open(self, who: str) -> _Open:
        if self._run is None:
            raise RunError("no run is open", where=f"DualTracker.{who}", hint="tracker.start_run(name, config)")
        return self._run


class _Open:
    """A run that is open: what was logged so far, and where it goes."""

    def __init__(self, folder: Path, mlflow: MlflowRun | None, queue: TrackerQueue) -> None:
        self.folder, self.mlflow, self.queue = folder, mlflow, queue
        self.params: dict[str, Any] = {}
        self.tags: dict[str, str] = {}
        self._rows: Rows = {}
        self._calls = 0
        self._written_at = -math.inf

    def log(self, metrics: Mapping[str, Any], step: int | None) -> None:
        values = {str(name): _number(name, value) for name, value in metrics.items()}
        at = max(self._rows, default=-1) + 1 if step is None else int(step)
        self._rows.setdefault(at, {}).update(values)
        self._calls += 1
        self.queue.put(Record(member="run", step=self._calls, epoch=at, split="logged", values=values))
        if time.monotonic() - self._written_at > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write `metrics.json` and `step_metrics.csv`."""
        names = list(dict.fromkeys(name for row in self._rows.values() for name in row))
        found = {
            name: [{"step": s, "value": _finite(row[name])} for s, row in sorted(self._rows.items()) if name in row]
            for name in names
        }
        _write(self.folder / "metrics.json", found)
        lines = [",".join(["step", *map(_cell, names)])]
        for step, row in sorted(self._rows.items()):
            lines.append(",".join([str(step), *(repr(row[name]) if name in row else "" for name in names)]))
        write_text_atomic(self.folder / "step_metrics.csv", "\n".join(lines) + "\n")
        self._written_at = time.monotonic()


class Reporter:
    """What a trainer tells a tracker: a `DualTracker`, or anything with `log_metrics`. Its failure is one warning."""

    def __init__(self, tracker: Any) -> None:
        if tracker is not None and not callable(getattr(tracker, "log_metrics", None)):
            raise ConfigError("the tracker has no method log_metrics", where="Trainer(tracker=...)",
                              got=type(tracker).__name__, hint="DualTracker(...)")  # fmt: skip
        self._tracker = tracker
        self._failed = False
        self._several = False

    def start(self, config: Mapping[str, Any], loss: Any) -> None:
        """Log the trainer's settings, if the tracker has a run to log to."""
        seeds = config["seed"]
        self._failed, self._several = False, isinstance(seeds, (list, tuple)) and len(seeds) > 1
        known = {**config, "loss": f"{type(loss).__name__}({loss.extra_repr()})"}
        self._call("log_params", known)

    def epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Log an epoch's figures at that step; of several members under `<member>/`."""
        prefix = f"{metrics['member']}/" if self._several else ""
        values = {prefix + name: value for name, value in metrics.items() if name != "member"}
        self._call("log_metrics", values, step=epoch)

    def file(self, path: Path) -> None:
        """Hand over a file."""
        self._call("log_artifact", str(path))

    def _call(self, method: str, *arguments: Any, **named: Any) -> None:
        found = getattr(self._tracker, method, None)
        if found is None or self._failed:
            return
        try:
            found(*arguments, **named)
        except Exception as error:  # the journal of the run has it all: no training ends for a tracker
            self._failed = True
            said = error.what if isinstance(error, PacelineError) else f"{type(error).__name__}: {error}"
            hint = f" ({error.hint})" if isinstance(error, PacelineError) and error.hint else ""
            LOG.warning("the tracker gets nothing more of this training: %s%s", said, hint)


def _slug(name: str) -> str:
    """Return a name that a folder can have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", str(name)).strip("._")[:80] or "run"


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise RunError("a metric must be a number", where=f"log_metrics, {name}", got=repr(value)) from None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN


def _cell(name: str) -> str:
    return f'"{name}"' if "," in name or '"' in name else name


def _write(path: Path, content: Mapping[str, Any]) -> None:
    hidden = {name: shown(name, value) for name, value in flatten(_plain(content))}
    nested = _plain(content) if hidden == dict(flatten(_plain(content))) else hidden
    write_text_atomic(path, json.dumps(nested, indent=1, allow_nan=False, default=str) + "\n")


def _plain(tree: Any) -> Any:
    """Return what JSON can hold: arrays as lists, NumPy scalars as numbers, what is not finite as text."""
    if isinstance(tree, Mapping):
        return {str(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_plain(item) for item in tree]
    if isinstance(tree, (np.ndarray, np.generic)) or hasattr(tree, "detach"):
        return _plain(tree.tolist())
    if isinstance(tree, float) and not math.isfinite(tree):
        return str(tree)
    return tree if isinstance(tree, (str, int, float, bool)) or tree is None else str(tree)
