"""A tree of tensors as bytes and back: `torch.save` streamed and hashed, `torch.load` restricted to plain values."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch

from paceline.checkpoint import tree
from paceline.checkpoint.files import open_regular, remove_stale, replacing, write_all
from paceline.checkpoint.manifest import DamagedError
from paceline.checkpoint.seal import check_seal, seal
from paceline.checkpoint.vetting import check_archive, check_loaded
from paceline.errors import CheckpointCorruptError, CheckpointError

_SMALL = 65_536  # bytes; torch writes about five pieces of a few dozen bytes around every tensor


def write_state(path: Path | str, state: Mapping[str, Any]) -> None:
    """Write a state to one file, atomically, durably and sealed with its SHA-256: `best.pt` and the like.

    Its folder must exist. Raises CheckpointError for a value that no checkpoint may hold (naming its key), and
    CheckpointWriteError when the system refuses.
    """
    path = Path(path)
    tree.check(state)
    remove_stale(path.parent)
    with replacing(path, needed=tree.count_bytes(state)) as descriptor:
        sha256, _ = dump(state, descriptor)
        os.lseek(descriptor, -2, os.SEEK_END)
        write_all(descriptor, seal(sha256))


def read_state(path: Path | str) -> dict[str, Any]:
    """Load a file of `write_state`, or another's: tensors on the CPU and plain values, never code.

    Raises CheckpointCorruptError when the file is not what was written, as its seal says, or holds anything else;
    another's file has no seal. Raises CheckpointError when it is missing.
    """
    path = Path(path)
    try:
        with open_regular(path, follow=True) as file:
            data = file.read()
        check_seal(data)
    except OSError as error:
        raise unreadable(path, error) from error
    except DamagedError as error:
        raise CheckpointCorruptError("the file is damaged", where=str(path), got=str(error)) from error
    return parse(data, path)


def dump(state: Mapping[str, Any], descriptor: int) -> tuple[str, int]:
    """Stream a checked state to a descriptor; return the SHA-256 and the number of the bytes. Raises OSError."""
    sink = _Sink(descriptor)
    torch.save(tree.compact(state), cast("IO[bytes]", sink))
    return sink.finish()


def parse(data: bytes, path: Path) -> dict[str, Any]:
    """Load a state from bytes; `path` is for the error.

    Raises CheckpointCorruptError for everything that is not a plain state, CheckpointError without enough memory.
    """
    try:
        check_archive(data)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        check_loaded(state, len(data))
    except Exception as error:  # a crafted archive can make the restricted unpickler raise nearly anything
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise CheckpointError("there is not enough memory to load the file", where=str(path),
                                  got=f"{len(data):,} bytes") from error  # fmt: skip
        raise CheckpointCorruptError(
            "the file is damaged, or holds something other than tensors and plain values",
            where=str(path),
            got=_cause(error),
            hint="it is not loaded, since a file of that kind could run code",
        ) from error
    if not isinstance(state, dict):
        raise CheckpointCorruptError("the file holds no dict", where=str(path), got=type(state).__name__)
    return state


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """Say that a file cannot be read, and why."""
    return CheckpointError("the file cannot be read", where=str(path), got=error.strerror or str(error))


class _Sink:
    """The stream that `torch.save` writes to: hashes every byte and passes it on, small pieces together.

    torch's archive writer must not be interrupted (it would raise an error of its own over ours), so the first failure
    is kept for `finish` and the rest is swallowed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._size = 0
        self._small = bytearray()
        self._error: BaseException | None = None

    def write(self, data: memoryview) -> int:
        size = memoryview(data).nbytes
        if self._error is None:
            try:
                if size < _SMALL:
                    self._small += data
                if size >= _SMALL or len(self._small) >= _SMALL:
                    self._pass_on(self._small)
                    self._small = bytearray()
                if size >= _SMALL:
                    self._pass_on(data)
            except BaseException as error:
                self._error = error
        return size

    def flush(self) -> None:
        pass

    def finish(self) -> tuple[str, int]:
        """Write what is left; return the SHA-256 and the number of all bytes. Raises the first failure."""
        if self._error is not None:
            raise self._error
        self._pass_on(self._small)
        return self._digest.hexdigest(), self._size

    def _pass_on(self, data: bytearray | memoryview) -> None:
        write_all(self._descriptor, data)
        self._digest.update(data)
        self._size += memoryview(data).nbytes


def _cause(error: Exception) -> str:
    """Return the part of torch's message that says what was found, without its advice to load the file anyway."""
    if isinstance(error, DamagedError):
        return str(error)
    found = re.search(r"GLOBAL \S+|Unsupported (?:class|operand) \S+", str(error))
    return found[0] if found else type(error).__name__
