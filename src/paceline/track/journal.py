"""The local record of one cohort: an append-only file of JSON lines whose length is part of every checkpoint.

Wall times go to a file of their own, so that equal runs have equal records.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from paceline.config.reading import parse_json, read_text
from paceline.errors import CheckpointMismatchError, CheckpointWriteError, RunError
from paceline.types import Record, Value


class Journal:
    """`logs/<cohort>.jsonl` and `logs/<cohort>.timing.csv`."""

    def __init__(self, folder: Path, cohort: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._records = _Appended(folder / f"{cohort}.jsonl")
        self._timing = _Appended(folder / f"{cohort}.timing.csv")
        self._started = time.monotonic()
        self._named = False  # whether the folder's entries are durable

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
        """Return the lengths in bytes. Raises CheckpointWriteError where lines wait for room on the disk."""
        return {"records": self._records.length(), "timing": self._timing.length()}

    def sync(self) -> None:
        """Make durable what was written, and the files' names; from any thread. Raises CheckpointWriteError."""
        self._records.sync()
        self._timing.sync()
        if not self._named:
            self._records.sync_name()
            self._named = True

    def finish(self) -> None:
        """Make all of it durable. Raises CheckpointWriteError where the disk refuses lines."""
        self.state_dict()
        self.sync()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Cut both files to the saved lengths; the tails are kept aside, so that no line appears twice.

        Wall times go on from the last one. Raises RunError when a file is shorter than it was, CheckpointMismatchError
        where a length is missing.
        """
        missing = [f"log.{name}" for name in ("records", "timing") if not _is_length(state.get(name))]
        if missing:
            raise CheckpointMismatchError("the checkpoint does not fit the run", missing=missing)
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
    """Yield the records of a journal, as written. Raises RunError naming the line that holds none."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.endswith("\n"):  # a line without its end was cut by a crash
                    yield _row(line, f"{path}:{number}")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError("a log of the run cannot be read", where=str(path), got=str(error)) from None


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise RunError("a line of a log is damaged", where=where, got=str(error)) from None
    wrong = [name for name, kind in _ROW.items() if not isinstance(row, dict) or type(row.get(name)) is not kind]
    wrong += [] if wrong else [f"values.{name}" for name, value in row["values"].items() if not _is_value(value)]
    if wrong:
        raise RunError("a line of a log is damaged", where=f"{where}: {wrong[0]}", got=line.strip())
    assert isinstance(row, dict)
    return row


_ROW = {"member": str, "step": int, "epoch": int, "split": str, "values": dict}


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_value(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_value, value))
    return value is None or type(value) in (int, float)


def _plain(value: Value) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


class _Appended:
    """A file that only grows, except when it is cut back to a saved length. What the disk refuses waits in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self._waiting = b""

    def append(self, text: str) -> None:
        self._waiting += text.encode()
        with suppress(OSError):  # a full disk: `length` says so
            self._write()

    def length(self) -> int:
        try:
            self._write()
        except OSError as error:
            raise self._refused(error) from error
        return self._file.tell()

    def sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from error

    def sync_name(self) -> None:
        """Make the file's entry in its folder durable: after a power cut a file may be gone, synced as it was."""
        if os.name == "nt":  # there is no such call
            return
        try:
            descriptor = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> CheckpointWriteError:
        return CheckpointWriteError(
            "the log could not be written", path=str(self._path), needed=len(self._waiting),
            free=shutil.disk_usage(self._path.parent).free, reason=error.strerror or str(error),
            hint="free some space there; what was saved before is intact",
        )  # fmt: skip

    def _write(self) -> None:
        while self._waiting:
            self._waiting = self._waiting[self._file.write(self._waiting) :]

    def cut(self, length: int) -> None:
        self._waiting = b""
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
        try:
            lines = read_text(self._path).splitlines()
            return float(lines[-1].rpartition(",")[2]) if lines else 0.0
        except (OSError, ValueError) as error:
            raise RunError("the wall times of the run cannot be read", where=str(self._path), got=str(error)) from None

    def close(self) -> None:
        self._file.close()
