"""TensorBoard's event files: appended to, read back, and replaced. Nothing is kept open between two calls.

A file is a row of records: length (uint64), checksum of the length, an `Event` as protocol buffer, its checksum. The
parts of the package tensorboard that are used here import no TensorFlow, even where it is installed.
"""

from __future__ import annotations

import io
import os
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Event = Any  # tensorboard.compat.proto.event_pb2.Event, which has no type information

HEADER = struct.Struct("<QI")
FOOTER = 4  # bytes of the second checksum


def append(path: Path, events: Iterable[bytes]) -> None:
    """Append serialised events to a file, all or none: on a full disk a part of them would hide all that follows."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    with path.open("ab", buffering=0) as file:
        size, records = file.tell(), io.BytesIO()
        writer = RecordWriter(records)
        for event in events:
            writer.write(event)
        content = memoryview(records.getbuffer())
        try:
            while content:
                content = content[file.write(content) or 0 :]
        except OSError:
            file.truncate(size)
            raise


def read(path: Path) -> Iterator[tuple[Event, bytes]]:
    """Yield the events of a file with their bytes, up to the first record that a crash cut short."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event as Message
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    content, at = path.read_bytes(), 0
    while at + HEADER.size <= len(content):
        length, check = HEADER.unpack_from(content, at)
        start = at + HEADER.size
        if masked_crc32c(content[at : at + 8]) != check or start + length + FOOTER > len(content):
            return
        body = content[start : start + length]
        try:
            event = Message.FromString(body)
        except DecodeError:
            return
        yield event, body
        at = start + length + FOOTER


def size(bodies: Iterable[bytes]) -> int:
    """Return how long a file of these events is; a longer one has a record that was cut short."""
    return sum(HEADER.size + len(body) + FOOTER for body in bodies)


def files(folder: Path) -> list[Path]:
    """Return the event files of a folder that are not empty, in the order in which they are read."""
    return [path for path in _all(folder) if path.stat().st_size]


def replace(folder: Path, events: Iterable[bytes]) -> Path:
    """Put a new file with these events in the place of all that the folder has; return its path.

    A TensorBoard that is looking on forgets what it has read: the new file has a later name and begins with a restart
    at step 0. It waits for ever at a file that was deleted, so the old ones are emptied, and deleted the next time.
    """
    from tensorboard.compat.proto.event_pb2 import Event as Message
    from tensorboard.compat.proto.event_pb2 import SessionLog

    folder.mkdir(parents=True, exist_ok=True)
    old = _all(folder)
    number = max([int(time.time()), *(int(path.name.split(".")[3]) + 1 for path in old)])
    path = folder / f"events.out.tfevents.{number:010d}.paceline"
    now = time.time()
    first = [
        Message(wall_time=now, file_version="brain.Event:2"),
        Message(wall_time=now, step=0, session_log=SessionLog(status=SessionLog.START)),
    ]
    making = folder / f".{path.name}.making"
    making.unlink(missing_ok=True)
    append(making, [*(event.SerializeToString() for event in first), *events])
    os.replace(making, path)
    for other in old:
        if other.stat().st_size:
            os.truncate(other, 0)
        else:
            other.unlink()
    return path


def event(step: int, values: Iterable[Any]) -> bytes:
    """Return an event of some `scalar` and `image` values, at a step."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    body: bytes = Event(wall_time=time.time(), step=step, summary=Summary(value=list(values))).SerializeToString()
    return body


def scalar(tag: str, value: float) -> Any:
    """Return a number under a tag."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary.Value(tag=tag, simple_value=value)


def image(tag: str, png: bytes) -> Any:
    """Return a picture under a tag. Raises ValueError for what is no PNG file."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    if not png.startswith(b"\x89PNG"):
        raise ValueError(f"{tag} is not a PNG file")
    width, height = struct.unpack_from(">II", png, 16)  # of the PNG's header
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
    return Summary.Value(tag=tag, image=image)


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.[0-9]*.*"))
