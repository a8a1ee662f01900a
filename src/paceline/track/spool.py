"""What a tracker has taken of a run, kept in the run folder; the journals beside it hold what it has not.

A record is known by (member, split, step). A resumed run makes the same records again, bit for bit, so none is sent
twice; only those of one batch may be, where the process is killed between the tracker's answer and the note of it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from paceline.config.reading import parse_json, read_text
from paceline.track.journal import from_row, read_journal
from paceline.types import Record

FOLDER = "tracking"  # in the run folder
SCHEMA_VERSION = 1


class Acknowledged:
    """The last step that a tracker has taken of each member and split. Without a run folder it is not kept."""

    def __init__(self, run_folder: Path | None, label: str) -> None:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", label)
        self._path = None if run_folder is None else run_folder / FOLDER / f"{name}.json"
        self._steps = {} if self._path is None else _read(self._path)

    def fresh(self, records: Iterable[Record]) -> list[Record]:
        """Return the records that the tracker has not taken yet, each once."""
        found: list[Record] = []
        seen: dict[tuple[str, str], int] = {}
        for record in records:
            key = (record.member, record.split)
            if record.step > seen.get(key, self._steps.get(key, -1)):
                seen[key] = record.step
                found.append(record)
        return found

    def note(self, records: Iterable[Record]) -> None:
        """Remember that the tracker has taken them. A full disk costs no more than that a resume sends them again."""
        self._steps |= {(record.member, record.split): record.step for record in records}
        if self._path is None:
            return
        steps: dict[str, dict[str, int]] = {}
        for (member, split), step in self._steps.items():
            steps.setdefault(member, {})[split] = step
        with suppress(OSError):
            making = self._path.with_suffix(".making")
            self._path.parent.mkdir(exist_ok=True)
            making.write_text(json.dumps({"schema_version": SCHEMA_VERSION, "steps": steps}), "utf-8")
            os.replace(making, self._path)


def recorded(run_folder: Path) -> Iterator[Record]:
    """Yield all records in the journals of a run."""
    for path in sorted((run_folder / "logs").glob("*.jsonl")):
        for row in read_journal(path):
            yield from_row(row)


def _read(path: Path) -> dict[tuple[str, str], int]:
    """Return the noted steps; nothing where the file is absent or damaged: then all is sent again."""
    try:
        members = parse_json(read_text(path))["steps"].items()
        return {(str(member), str(split)): int(step) for member, own in members for split, step in own.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
