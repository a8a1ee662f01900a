"""The register of openings of test data: one line whenever a run or a command evaluates on it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paceline.types import Batch

from paceline.config.reading import parse_json, read_text
from paceline.errors import RunError
from paceline.run.folder import Run

REGISTER = "test_openings.jsonl"


class RecordedPass:
    """A pass over test data that is put on record the moment it begins."""

    def __init__(self, batches: Iterable[Batch], record: Callable[[], None]) -> None:
        self._batches, self._record = batches, record

    def __iter__(self) -> Iterator[Batch]:
        self._record()
        return iter(self._batches)


def record_opening(run: Run, *, fingerprint: str, by: str) -> None:
    """Append one opening, unless this very run has recorded it for the same purpose already (a resumed run has).

    A run that replaced another of its name (`--overwrite`) is another run, with another id.
    """
    runs = run.path.parent
    line = {"fingerprint": fingerprint, "run": run.name, "id": run.id, "by": by}
    if any(line.items() <= known.items() for known in _lines(runs)):
        return
    if (runs / REGISTER).is_symlink():
        raise RunError("the register of openings is a link: it is not followed", where=str(runs / REGISTER))
    text = json.dumps({**line, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}) + "\n"
    with (runs / REGISTER).open("a", encoding="utf-8") as register:
        register.write(text if _ends_whole(runs / REGISTER) else "\n" + text)


def count_openings(runs: Path, fingerprint: str) -> int:
    """Return how often the test data of this fingerprint has been opened, by any run in the folder."""
    opened = {(line["run"], line.get("id"), line["by"]) for line in _lines(runs) if line["fingerprint"] == fingerprint}
    return len(opened)  # workers of one run may each have recorded it


def _lines(runs: Path) -> list[dict[str, str]]:
    """Return the lines that are whole: a power cut may have torn the last one of its time."""
    try:
        text = read_text(runs / REGISTER)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError("the register of openings cannot be read", where=str(runs / REGISTER), got=str(error)) from None
    return [line for line in map(_parsed, text.splitlines()) if line is not None]


def _parsed(line: str) -> dict[str, str] | None:
    try:
        found = parse_json(line)
    except ValueError:
        return None
    whole = isinstance(found, dict) and all(isinstance(found.get(key, ""), str) for key in found)
    whole = whole and found.keys() >= {"fingerprint", "run", "by"}
    return found if whole else None


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as register:
        size = register.seek(0, os.SEEK_END)
        register.seek(max(0, size - 1))
        return register.read(1) in (b"", b"\n")
