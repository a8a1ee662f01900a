"""One step's folder: `state.pt` and `manifest.json`, written into a new folder, verified, loaded."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from paceline.checkpoint import files, tree
from paceline.checkpoint.manifest import MAX_BYTES, DamagedError, File, Manifest, NewerError, decode, encode
from paceline.checkpoint.state import dump, parse
from paceline.errors import CheckpointCorruptError, CheckpointError

STATE: Final = "state.pt"
MANIFEST: Final = "manifest.json"
UNUSABLE: Final = "the checkpoint cannot be used: "
_NAMES = frozenset({STATE})  # the files that a manifest lists
# Reasons that say nothing about the file and may be gone at the next try. All others, EIO included, are damage.
_PASSING = {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}


def write(folder: Path, step: int, state: Mapping[str, Any]) -> None:
    """Write a step's files into a new folder and sync all. Raises OSError."""
    os.mkdir(folder)
    descriptor = files.open_new(folder / STATE)
    try:
        sha256, size = dump(state, descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    manifest = Manifest(step=step, files={STATE: File(sha256=sha256, bytes=size)}, torch=torch.__version__)
    files.create_synced(folder / MANIFEST, encode(manifest))
    files.sync_folder(folder)


def verify(path: Path, step: int) -> str | None:
    """Read a step's folder and return what is wrong with it; None when it is as it was saved. Holds no copy of it."""
    try:
        expected = _manifest(path, step).files[STATE]
        with files.open_regular(path / STATE, follow=False) as file:
            _compare(os.fstat(file.fileno()).st_size, expected.bytes)
            if hashlib.file_digest(file, "sha256").hexdigest() != expected.sha256:
                raise DamagedError(f"{STATE} is not what its manifest says (SHA-256)")
    except DamagedError as error:
        return str(error)
    except OSError as error:
        return _unreadable(error)
    return None


def load(path: Path, step: int) -> dict[str, Any]:
    """Return the state in a step's folder, from the very bytes whose SHA-256 was checked.

    Raises CheckpointCorruptError when it is damaged, CheckpointError when it may be whole but cannot be used now.
    """
    try:
        expected = _manifest(path, step).files[STATE]
        with files.open_regular(path / STATE, follow=False) as file:
            _compare(os.fstat(file.fileno()).st_size, expected.bytes)
            data = file.read()
        if hashlib.sha256(data).hexdigest() != expected.sha256:
            raise DamagedError(f"{STATE} is not what its manifest says (SHA-256)")
    except NewerError as error:
        raise CheckpointError(f"{UNUSABLE}{error}", where=str(path),
                              hint="the version of paceline that wrote it") from error  # fmt: skip
    except DamagedError as error:
        raise CheckpointCorruptError(f"{UNUSABLE}{error}", where=str(path)) from error
    except OSError as error:
        kind = CheckpointError if error.errno in _PASSING else CheckpointCorruptError
        raise kind(f"{UNUSABLE}{_unreadable(error)}", where=str(path)) from error
    state = parse(data, path / STATE)
    try:
        tree.check(state)
    except CheckpointError as error:
        raise CheckpointCorruptError(error.what, where=f"{path / STATE}: {error.where}", hint=error.hint) from error
    return state


def holds(path: Path, step: int, state: Mapping[str, Any]) -> bool:
    """Say whether a step's folder verifies and holds exactly this state."""
    try:
        return path.exists() and not tree.equal(load(path, step), state)
    except CheckpointError:
        return False


def is_whole(path: Path, step: int) -> bool:
    """Say whether a step looks whole, without reading its tensors."""
    try:
        _compare(os.stat(path / STATE, follow_symlinks=False).st_size, _manifest(path, step).files[STATE].bytes)
    except (DamagedError, OSError):
        return False
    return True


def _manifest(path: Path, step: int) -> Manifest:
    """Raises DamagedError, OSError."""
    with files.open_regular(path / MANIFEST, follow=False) as file:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise DamagedError("its manifest is damaged")
        return decode(file.read(), step, _NAMES)


def _compare(found: int, expected: int) -> None:
    if found != expected:
        raise DamagedError(f"{STATE} has {found:,} bytes, its manifest says {expected:,}")


def _unreadable(error: OSError) -> str:
    return f"{os.path.basename(error.filename or STATE)} cannot be read: {error.strerror or error}"
