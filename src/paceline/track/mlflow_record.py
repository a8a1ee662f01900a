"""Where the MLflow runs of a run folder are, as `tracking/mlflow_runs.json` there says. Imports no MLflow."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paceline.config.reading import parse_json, read_text
from paceline.errors import ConfigError, RunError, visible, without_credentials
from paceline.track.mlflow_store import DATABASE, FOLDER, Place, place
from paceline.track.optional import installed

NAME = "tracking/mlflow_runs.json"
SCHEMA_VERSION = 1


def write_record(run_folder: Path, store: Place, ids: Mapping[str, str]) -> None:
    """Say in a run folder where its values are, and under which ids."""
    path = run_folder / NAME
    content = {"schema_version": SCHEMA_VERSION, "uri": without_credentials(store.uri), "opened_by": store.opened_by}
    path.parent.mkdir(exist_ok=True)
    making = path.with_suffix(".making")
    making.write_text(json.dumps({**content, **ids}, indent=1) + "\n", "utf-8")
    os.replace(making, path)


def opened_by(run_folder: Path) -> str | None:
    """Return the line that shows a run in MLflow; None where it was not sent there, or the record is damaged."""
    uri = _read(run_folder).get("uri")
    return visible(Place(uri=uri).opened_by) if isinstance(uri, str) else None


def store_of(folder: Path) -> Place:
    """Return the store of a run, of a folder of runs, or of MLflow's own folder.

    Raises RunError where there is none, or several; ConfigError where the package is missing.
    """
    if not installed("mlflow"):
        raise ConfigError("the package mlflow is not installed", where="paceline ui", hint="pip install mlflow")
    if not folder.is_dir():
        raise RunError("there is no such folder", where=str(folder), hint="a run, or the folder of the runs")
    for own in (folder, folder / FOLDER):
        if (own / DATABASE).is_file():
            return place(str(own), folder)
    runs = [folder] if (folder / NAME).is_file() else [path.parents[1] for path in sorted(folder.glob(f"*/{NAME}"))]
    found = {uri: run for run in runs if isinstance(uri := _read(run).get("uri"), str)}
    if not found:
        raise RunError("nothing here was sent to MLflow", where=str(folder), hint="paceline train ... tracking=mlflow")
    if len(found) > 1:
        raise RunError("these runs were sent to several places: name one of them", where=str(folder),
                       got=", ".join(found), hint=f"paceline ui {next(iter(found.values()))}")  # fmt: skip
    (uri,) = found
    store = Place(uri=uri) if uri.startswith("http") else place(uri, folder)
    if store.folder is not None and not Path(store.uri.removeprefix("sqlite:///")).is_file():
        raise RunError("the store is no longer there", where=store.uri, hint="paceline ui FOLDER, where it is now")
    return store


def _read(run_folder: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_text(run_folder / NAME))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
