"""TensorBoard: a folder of event files per member, with what the journal has and nothing twice.

Runs in the trackers' background thread. The journal is the truth: where a member's training goes on from an earlier
state (a resume, a worker that was started again), its event file is made anew from the journal up to there.
"""

from __future__ import annotations

import logging
import math
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.config.reading import parse_json, read_text
from paceline.config.suggest import nearest
from paceline.errors import ConfigError
from paceline.track import event_file
from paceline.track.confusion import MOST_CLASSES, ConfusionPictures
from paceline.track.journal import from_row, read_journal
from paceline.track.names import Matrix, Names, canonical_name, class_names, plain_text

if TYPE_CHECKING:
    from paceline.track.config import TensorBoardConfig
    from paceline.types import Record

LOG = logging.getLogger("paceline")
FOLDER = "tensorboard"  # in the run folder


@dataclass
class _Written:
    """What is in a member's event file."""

    path: Path
    rows: int = 0
    steps: dict[str, int] = field(default_factory=dict)  # the last step of each split

    def has(self, record: Record) -> bool:
        return record.step <= self.steps.get(record.split, -1)

    def note(self, record: Record) -> None:
        self.rows += 1
        self.steps[record.split] = record.step


class TensorBoard:
    """The tracker of one run. Raises ConfigError where the package tensorboard is missing."""

    def __init__(self, run_folder: Path, config: TensorBoardConfig) -> None:
        try:
            import tensorboard.summary.writer.record_writer  # noqa: F401
        except ImportError:
            raise ConfigError("the package tensorboard is not installed", where="tracking.tensorboard",
                              hint="pip install tensorboard") from None  # fmt: skip
        self._run, self._config = run_folder, config
        self._names = Names(tags=config.tags, classes=class_names(run_folder))
        self._journals = _journals(run_folder)
        self._members: dict[str, _Written] = {}
        self._seen: set[str] = set()  # canonical names
        self._figures = config.figure_every_epochs is not None
        self._pictures: ConfusionPictures | None = None

    def scalars(self, rows: Sequence[Record]) -> None:
        """Append the records to their members' files, in order."""
        own: dict[str, list[Record]] = {}
        for row in rows:
            own.setdefault(row.member, []).append(row)
        for member, records in own.items():
            self._add(member, records)

    def figure(self, name: str, path: str, step: int) -> None:
        """Log a PNG file as a picture of the run."""
        content = Path(path).read_bytes()
        folder = self._run / FOLDER
        target = next(iter(event_file.files(folder)), None) or event_file.replace(folder, [])
        event_file.append(target, [event_file.event(step, [event_file.image(plain_text(name), content)])])

    def artefact(self, name: str, path: str) -> None:
        """TensorBoard shows no files: they stay in the run folder."""

    def close(self, status: str) -> None:
        """Bring every file up to its journal, where an earlier process was killed or records were dropped."""
        for member, journal in self._journals.items():
            rows = _rows(journal, member)
            written = self._members.get(member)
            if rows and (written is None or written.rows != len(rows)):
                self._rebuild(member, rows)
        unknown = [name for name in self._config.tags if name not in self._seen]
        if status == "finished" and unknown:
            LOG.warning("tracking.tensorboard.tags names values that the run does not have: %s", "; ".join(
                f"{name} (try {near})" if (near := nearest(name, self._seen)) else name for name in unknown
            ))  # fmt: skip

    def _add(self, member: str, records: Sequence[Record]) -> None:
        waiting: list[bytes] = []
        written = self._members.get(member)
        for record in records:
            if written is None or written.has(record):
                if written is not None:
                    event_file.append(written.path, waiting)
                    waiting = []
                written = self._rebuild(member, self._before(record))
            waiting += self._make(record)
            written.note(record)
        if written is not None:
            event_file.append(written.path, waiting)

    def _before(self, record: Record) -> list[Record]:
        """Return the member's records that stand before this one in the journal."""
        journal = self._journals.get(record.member)
        rows = [] if journal is None else _rows(journal, record.member)
        at = next((i for i, row in enumerate(rows) if (row.split, row.step) == (record.split, record.step)), 0)
        return rows[:at]

    def _rebuild(self, member: str, rows: Sequence[Record]) -> _Written:
        """Make the member's file hold these records; what it has of them already, pictures too, is kept as it is."""
        folder = self._run / FOLDER / re.sub(r"[/\\]|^\.+$", "_", member)
        old = event_file.files(folder)
        found = [(_signature(event), body) for path in old for event, body in event_file.read(path)]
        expected = [self._expected(record) for record in rows]
        torn = sum(path.stat().st_size for path in old) != event_file.size(body for _, body in found)
        if torn or len(old) != 1 or [key for key, _ in found if key[1]] != [key for key in expected if key[1]]:
            had = dict(found)
            events = ([had[key]] if key in had else self._make(row) for key, row in zip(expected, rows, strict=True))
            old = [event_file.replace(folder, (event for own in events for event in own))]
        self._members[member] = written = _Written(old[0])
        for record in rows:
            written.note(record)
            self._seen.update(canonical_name(record.split, name) for name in record.values)
        return written

    def _make(self, record: Record) -> list[bytes]:
        """Return the event of one record, if it has points; a picture that fails is left out, and all later ones."""
        self._seen.update(canonical_name(record.split, name) for name in record.values)
        values = []
        for tag, value in self._names.points(record, figures=self._draws(record)):
            if not isinstance(value, list):
                values.append(event_file.scalar(tag, value))
            elif (picture := self._picture(value)) is not None:
                values.append(event_file.image(tag, picture))
        return [event_file.event(self._axis(record), values)] if values else []

    def _picture(self, counts: Matrix) -> bytes | None:
        if not self._figures:
            return None
        try:
            if len(counts) > MOST_CLASSES:
                raise ValueError(f"{len(counts)} classes are too many for a picture, which has up to {MOST_CLASSES}")
            if self._pictures is None:
                classes = self._names.classes
                names = classes if len(classes) == len(counts) else [str(index) for index in range(len(counts))]
                self._pictures = ConfusionPictures(names)
            return self._pictures.png(counts)
        except Exception as error:  # without matplotlib, with a broken font: the scalars go on
            self._figures = False
            LOG.warning("TensorBoard gets no confusion matrices: %s: %s", type(error).__name__, error)
            return None

    def _draws(self, record: Record) -> bool:
        """Whether a picture is due: every so many epochs of the training, and of the selected state."""
        every = self._config.figure_every_epochs
        return self._figures and every is not None and (record.split != "val" or record.epoch % every == 0)

    def _axis(self, record: Record) -> int:
        return record.epoch if self._config.axis == "epoch" else record.step

    def _expected(self, record: Record) -> tuple[int, tuple[tuple[str, bytes], ...]]:
        points = self._names.points(record, figures=self._draws(record))
        return self._axis(record), tuple((tag, b"" if isinstance(v, list) else _bits(v)) for tag, v in points)


def _signature(event: Any) -> tuple[int, tuple[tuple[str, bytes], ...]]:
    """Return what an event says, without the pictures and the time of day."""
    values = event.summary.value
    return event.step, tuple((v.tag, b"" if v.HasField("image") else _bits(v.simple_value)) for v in values)


def _bits(value: float) -> bytes:
    """Return a value as it is stored, rounded to float32."""
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, value))


def _journals(run_folder: Path) -> dict[str, Path]:
    """Return each member's journal."""
    path = run_folder / "plan.json"
    cohorts = parse_json(read_text(path))["cohorts"] if path.is_file() else []
    return {member: run_folder / "logs" / f"{cohort['id']}.jsonl" for cohort in cohorts for member in cohort["members"]}


def _rows(journal: Path, member: str) -> list[Record]:
    rows = read_journal(journal) if os.path.exists(journal) else ()
    return [from_row(row) for row in rows if row["member"] == member]
