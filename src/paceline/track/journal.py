"""The local record of one cohort: an append-only file of JSON lines whose length is part of every checkpoint.

Wall times go to a file of their own, so that equal runs have equal records.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from paceline.errors import RunError
from paceline.types import Record, Value


class Journal:
    """`logs/<cohort>.jsonl` and `logs/<cohort>.timing.csv`."""

    def __init__(self, folder: Path, cohort: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._records = _Appended(folder / f"{cohort}.jsonl")
        self._timing = _Appended(folder / f"{cohort}.timing.csv")
        self._started = time.monotonic()

    def write(self, record: Record) -> None:
        """Append one record. It survives the process at once, and a power cut from the next checkpoint on."""
        self._records.append(to_line(record))
        if record.split == "val":
            seconds = time.monotonic() - self._started
            self._timing.append(f"{record.member},{record.step},{record.epoch},{seconds:.6f}\n")

    def restart(self) -> None:
        """Begin an empty record (what an earlier, unsaved start wrote is kept aside)."""
        self.load_state_dict({"records": 0, "timing": 0})

    def state_dict(self) -> dict[str, Any]:
        """Make what was written durable and return the lengths in bytes."""
        return {"records": self._records.sync(), "timing": self._timing.sync()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Cut both files to the saved lengths; the tails are kept aside, so that no line appears twice.

        Wall times go on from the last one. Raises RunError when a file is shorter than it was.
        """
        self._records.cut(state["records"])
        self._timing.cut(state["timing"])
        self._started = time.monotonic() - self._timing.last_number()

    def close(self) -> None:
        self._records.close()
        self._timing.close()


def to_line(record: Record) -> str:
    """Write a record as one JSON line; a value that is not finite becomes null."""
    body = {
        "member": record.member,
        "step": record.step,
        "epoch": record.epoch,
        "split": record.split,
        "values": {name: _plain(value) for name, value in record.values.items()},
    }
    return json.dumps(body, separators=(",", ":"), allow_nan=False) + "\n"


def from_row(row: Mapping[str, Any]) -> Record:
    """Return the record of a line; null becomes NaN."""
    values = {name: math.nan if value is None else value for name, value in row["values"].items()}
    return Record(member=row["member"], step=row["step"], epoch=row["epoch"], split=row["split"], values=values)


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a journal, as written."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):  # a line without its end was cut by a crash
                yield json.loads(line)


def _plain(value: Value) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


class _Appended:
    """A file that only grows, except when it is cut back to a saved length."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("ab", buffering=0)

    def append(self, text: str) -> None:
        self._file.write(text.encode())

    def sync(self) -> int:
        os.fsync(self._file.fileno())
        return self._file.tell()

    def cut(self, length: int) -> None:
        size = self._path.stat().st_size
        if size < length:
            raise RunError(
                "a log lost lines that its checkpoint counts", where=str(self._path), got=f"{size} bytes, not {length}"
            )
        tail = self._path.read_bytes()[length:]
        if tail:
            with self._path.with_name(self._path.name + ".tail").open("ab") as aside:
                aside.write(tail)
        self._file.truncate(length)
        self._file.seek(0, os.SEEK_END)

    def last_number(self) -> float:
        """Return the last field of the last line, 0 for an empty file."""
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return float(lines[-1].rpartition(",")[2]) if lines else 0.0

    def close(self) -> None:
        self._file.close()
