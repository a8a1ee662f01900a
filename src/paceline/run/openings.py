"""The register of openings of test data: one line whenever a run or a command evaluates on it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paceline.types import Batch

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
    with (runs / REGISTER).open("a", encoding="utf-8") as register:
        register.write(json.dumps({**line, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}) + "\n")


def count_openings(runs: Path, fingerprint: str) -> int:
    """Return how often the test data of this fingerprint has been opened, by any run in the folder."""
    opened = {(line["run"], line.get("id"), line["by"]) for line in _lines(runs) if line["fingerprint"] == fingerprint}
    return len(opened)  # workers of one run may each have recorded it


def _lines(runs: Path) -> list[dict[str, str]]:
    try:
        text = (runs / REGISTER).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]
