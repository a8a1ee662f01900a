"""Atomic, durable files: a reader sees the old content or the new, never a part of either. Imports no torch.

A file is written under a temporary name in its own folder, synced, renamed over its target in one step, and the folder
is synced. A process that is killed leaves at most a temporary with its process id in the name; `remove_stale` finds it.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from paceline.config.reading import open_regular as open_regular
from paceline.errors import CheckpointWriteError

_TEMPORARY = re.compile(r"\.tmp-(?:step-)?\d+-(\d+)", re.ASCII)  # files `.tmp-<i>-<pid>`, folders `.tmp-step-<n>-<pid>`
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
_counter = itertools.count()
_log = logging.getLogger("paceline")


def write_bytes_atomic(path: Path | str, data: bytes | bytearray | memoryview, durable: bool = True) -> None:
    """Replace the file `path` by `data` in one step; its folder must exist.

    `durable=False` leaves out the syncs: still atomic against a killed process, not against a power loss.
    Raises CheckpointWriteError, with the needed and the free bytes, when the system refuses; the old file is then
    intact.
    """
    with replacing(Path(path), needed=len(data), durable=durable) as descriptor:
        write_all(descriptor, data)


def write_text_atomic(path: Path | str, text: str, durable: bool = True) -> None:
    """Replace the file `path` by `text` in UTF-8, line ends as given. Otherwise as `write_bytes_atomic`."""
    write_bytes_atomic(path, text.encode(), durable)


@contextmanager
def replacing(path: Path, *, needed: int, durable: bool = True) -> Iterator[int]:
    """Yield the descriptor of a temporary file that takes the place of `path` when the block ends without an error.

    `needed` is about how many bytes the block will write, for the error message. Raises CheckpointWriteError.
    """
    temporary: str | None = None
    try:
        descriptor, temporary = _open_temporary(path.parent)
        try:
            yield descriptor
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):  # after the rename it is gone already
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise write_error(path, needed, error) from error
        raise


def create_synced(path: Path, data: bytes) -> None:
    """Write a new file and sync it; no rename. For files of a folder that is itself renamed into place."""
    descriptor = open_new(path)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_new(path: Path | str) -> int:
    """Return a descriptor for writing a file that must not exist yet."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte: one system call may write fewer than it was given."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder (creations, renames) durable. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, each made durable. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # another process made it; if it is a file, what comes next says so
        os.mkdir(folder)
    sync_folder(folder.parent)


def remove_stale(folder: Path, *, own: bool = False) -> None:
    """Remove the temporaries of dead processes from a folder (not below it).

    `own` counts this process as dead: a process in a container often has the same id as the one that was killed, so
    whoever knows that nothing is being written here sets it. What cannot be removed is left and logged. Process ids
    say nothing about another machine: only one machine at a time may write to a folder.
    """
    for name in _listing(folder):
        found = _TEMPORARY.fullmatch(name)
        if found and (own if int(found[1]) == os.getpid() else not _alive(int(found[1]))):
            remove(folder / name)


def remove(path: Path) -> None:
    """Delete a temporary file or folder; a failure is logged, since nothing depends on it."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("a temporary could not be removed: %s", error)


def write_error(path: Path, needed: int, error: OSError) -> CheckpointWriteError:
    """Say which write failed and why, with the bytes that it needed and those that the disk has."""
    return CheckpointWriteError(
        "a file could not be written",
        path=str(path),
        needed=needed,
        free=_free(path),
        reason=error.strerror or str(error),
        hint="free some space there, or choose another folder; what was saved before is intact",
    )


def _open_temporary(folder: Path) -> tuple[int, str]:
    while True:
        name = os.path.join(folder, f".tmp-{next(_counter)}-{os.getpid()}")
        try:
            return open_new(name), name
        except FileExistsError:  # left by a dead process that had our id
            continue


def _listing(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # missing, or unreadable, which whoever needs it will say
        return []


def _alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # there, asking by a signal would end the process
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _free(path: Path) -> int | None:
    for folder in path.absolute().parents:
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return None
