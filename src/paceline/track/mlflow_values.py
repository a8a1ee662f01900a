"""What MLflow takes of a run: metrics, parameters and tags under names and lengths that it accepts."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paceline.config.reading import parse_json, read_text
from paceline.config.tree import flatten, read_yaml, to_yaml
from paceline.track.names import Names, plain_text
from paceline.track.redact import shown
from paceline.types import Record

MOST_METRICS, MOST_PARAMS = 1000, 100  # of one call
MOST_LETTERS = 500  # of a parameter's value
MOST_KEY = 250
LEFT_OUT = {"schema_version", "tracking"}  # sections that say nothing about the training
Point = tuple[str, float, int]  # key, value, step
Measured = tuple[Record, list[Point]]


def key(name: str) -> str:
    """Return a name that MLflow accepts: its own characters, and no path that leads elsewhere.

    What had to be changed gets a mark of the original, so that two names stay two.
    """
    plain = re.sub(r"[^/\w.\- :]", "_", plain_text(name))
    plain = "/".join(part for part in plain.split("/") if part.strip() and part not in (".", ".."))
    plain = plain if plain.strip() else "_"
    if plain == name and len(name) <= MOST_KEY:
        return name
    return f"{plain[: MOST_KEY - 9]}-{zlib.crc32(name.encode('utf-8', 'backslashreplace')):08x}"


def points(record: Record, names: Names, axis: str) -> list[Point]:
    """Return a record's scalars and per-class values."""
    step = record.epoch if axis == "epoch" else record.step
    return [(key(n), float(v), step) for n, v in names.points(record, figures=False) if not isinstance(v, list)]


def batches(records: Iterable[Measured]) -> Iterator[list[Measured]]:
    """Put whole records together up to what one call takes: a call is all or nothing, so no record is ever halved."""
    held: list[Measured] = []
    for measured in records:
        if held and sum(len(own) for _, own in held) + len(measured[1]) > MOST_METRICS:
            yield held
            held = []
        held.append(measured)
    if held:
        yield held


def params(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return a config as parameters: dotted keys, secrets hidden, long values cut."""
    found = {}
    for dotted, value in flatten({name: part for name, part in tree.items() if name not in LEFT_OUT}):
        visible = shown(dotted, value)
        text = visible if isinstance(visible, str) else json.dumps(visible, default=str)
        found[key(dotted)] = cut(plain_text(text))
    return found


def cut(text: str) -> str:
    """Return a parameter's value, shortened where it is too long."""
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"


def parent_tags(run_folder: Path) -> dict[str, str]:
    """Return what a run is known by: hash of its config, commit, fingerprint of its data, versions."""
    environment, splits = (_json(run_folder / name) for name in ("environment.json", "splits.json"))
    config = config_of(run_folder)
    found = {
        "mlflow.source.name": "paceline",
        "mlflow.source.git.commit": environment.get("git_commit"),
        "paceline.version": environment.get("paceline"),
        "paceline.torch": environment.get("torch"),
        "paceline.config_sha256": hashlib.sha256(to_yaml(config).encode()).hexdigest() if config else None,
        "paceline.data_fingerprint": splits.get("fingerprint"),
        "paceline.folder": str(run_folder.absolute()),
        **{f"paceline.{name}": (config.get(name) or {}).get("name") for name in ("task", "model", "data")},
    }
    return {name: plain_text(str(value)) for name, value in found.items() if value}


def run_identity(run_folder: Path) -> str:
    """Return what tells a run from every other one."""
    known = _json(run_folder / "environment.json").get("run_id")
    if known:
        return re.sub(r"[^\w-]", "_", str(known))[:64]  # it stands in searches
    return hashlib.sha256(str(run_folder.absolute()).encode()).hexdigest()[:16]


def config_of(run_folder: Path) -> dict[str, Any]:
    """Return a run's config, nothing where there is none."""
    path = run_folder / "config.yaml"
    return read_yaml(path) if path.is_file() else {}


def member_params(run_folder: Path, member: str) -> dict[str, str]:
    """Return a member's own choices: its name and every value that differs from the run's."""
    path = run_folder / "members" / member / "overrides.yaml"
    own = read_yaml(path) if path.is_file() else {}
    return {"member": cut(plain_text(member)), **params(own)}


def summary_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the means over members with the ends of their intervals, for the parent run."""
    found: dict[str, float] = {}
    for name, interval in summary.get("metrics", {}).items():
        low, high = interval.get("ci95") or (None, None)
        for suffix, value in (("", interval.get("mean")), ("_ci95_low", low), ("_ci95_high", high)):
            if value is not None:
                found[key(name + suffix)] = float(value)
    return found


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut a sequence into parts of at most so many."""
    return (items[at : at + size] for at in range(0, len(items), size))


def _json(path: Path) -> dict[str, Any]:
    content = parse_json(read_text(path)) if path.is_file() else {}
    return content if isinstance(content, dict) else {}
