"""Reading a run folder for the report. A missing file is an empty one; a broken file is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paceline.config.reading import parse_json, read_text
from paceline.errors import RunError
from paceline.evaluate.predictions import Predictions, read_predictions

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The files of a run folder that the report shows.

    `histories` and `predictions` by the name of the member's folder; predictions by part, too.
    """

    folder: str
    config: str
    summary: Json
    plan: Json
    environment: Json
    splits: Json
    histories: Mapping[str, Json]
    lineage: Json = field(default_factory=dict)
    predictions: Mapping[str, Mapping[str, Predictions]] = field(default_factory=dict)


def read(run_folder: Path, *, predictions: bool = False) -> RunFiles:
    """Read the folder; the members' stored predictions, which can be large, only where they are asked for.

    Raises RunError when the folder is missing or one of its files is not valid.
    """
    if not run_folder.is_dir():
        raise RunError("there is no such run folder", where=str(run_folder), hint="paceline runs lists the runs")
    histories = {path.parent.name: _json(path) for path in sorted(run_folder.glob("members/*/history.json"))}
    return RunFiles(
        folder=run_folder.resolve().name,
        config=_text(run_folder / "config.yaml"),
        summary=_json(run_folder / "summary.json"),
        plan=_json(run_folder / "plan.json"),
        environment=_json(run_folder / "environment.json"),
        splits=_json(run_folder / "splits.json"),
        histories=histories,
        lineage=_json(run_folder / "lineage.json"),
        predictions=_predictions(run_folder) if predictions else {},
    )


def section(tree: object, *names: str) -> Json:
    """Walk down nested mappings; anything missing or of another type is an empty mapping."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, Mapping) else {}


def sections(tree: Json, name: str) -> list[Json]:
    """The mappings in the list under `name`; anything else is left out."""
    return [item for item in items(tree, name) if isinstance(item, Mapping)]


def items(tree: Json, name: str) -> list[Any]:
    """The list under `name`, or an empty one."""
    found = tree.get(name)
    return list(found) if isinstance(found, (list, tuple)) else []


def _predictions(run_folder: Path) -> dict[str, dict[str, Predictions]]:
    paths = sorted(run_folder.glob("members/*/predictions.npz"))
    return {path.parent.name: read_predictions(path) for path in paths}


def _text(path: Path) -> str:
    try:
        return read_text(path) if path.is_file() else ""
    except OSError as error:
        raise RunError("a file of the run cannot be read", where=str(path), got=str(error)) from None


def _json(path: Path) -> Json:
    text = _text(path)
    if not text:
        return {}
    try:
        tree = parse_json(text)
    except ValueError as error:
        raise RunError("a file of the run is not valid JSON", where=str(path), got=str(error)) from None
    if not isinstance(tree, dict):
        raise RunError("a file of the run must hold a JSON object", where=str(path), got=type(tree).__name__)
    return tree
