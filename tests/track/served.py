"""Reading MLflow's values back with its own client."""

from __future__ import annotations

import csv
import json
from collections import Counter
from typing import Any

from paceline.run.folder import Run

Points = dict[str, list[tuple[int, float]]]


def uri(run: Run) -> str:
    """Return the address on record in a run folder."""
    return json.loads((run.path / "tracking" / "mlflow_runs.json").read_text())["uri"]


def client(address: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=address)


def all_runs(address: str) -> list[Any]:
    """Return every run of every experiment."""
    served = client(address)
    return list(served.search_runs([one.experiment_id for one in served.search_experiments()]))


def parents(address: str) -> list[Any]:
    return [run for run in all_runs(address) if "mlflow.parentRunId" not in run.data.tags]


def children(address: str, parent: Any) -> dict[str, Any]:
    """Return a parent's nested runs by member."""
    nested = [run for run in all_runs(address) if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len({run.data.tags["paceline.member"] for run in nested}) == len(nested), "a member has two runs"
    return {run.data.tags["paceline.member"]: run for run in nested}


def points(address: str, run: Any) -> Points:
    """Return (step, value) of each metric, in order."""
    served = client(address)
    found = {name: served.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: sorted((metric.step, metric.value) for metric in history) for name, history in found.items()}


def history(run: Run, member: str) -> Points:
    """Return (epoch, value) of each column of a member's history.csv, to the last digit."""
    with (run.member_folder(member) / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("epoch", "step")]
    return {name: [(int(row["epoch"]), float(row[name])) for row in rows] for name in names}


def differences(run: Run) -> list[str]:
    """Name the columns of the histories that MLflow does not have point by point, to the bit, each once."""
    (parent,) = [one for one in parents(uri(run)) if one.data.tags["paceline.run"] == run.id]
    nested, wrong = children(uri(run), parent), []
    for member in run.members:
        found = points(uri(run), nested[member])
        for name, expected in history(run, member).items():
            wrong += [] if Counter(found.get(name, [])) == Counter(expected) else [f"{member} {name}"]
    return wrong
