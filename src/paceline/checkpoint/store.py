"""The checkpoints of one cohort: `<folder>/step-<n>/{state.pt, manifest.json}`.

A step is written as a temporary folder, its files and the folder synced, renamed once, the parent synced, and read
back. The latest checkpoint is the highest step that verifies; there is no pointer that could be wrong. A process may be
killed between any two system calls: the old or the new state loads. Entries of other names are never touched.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from paceline.checkpoint import files, tree
from paceline.checkpoint.manifest import MAX_BYTES, DamagedError, File, Manifest, decode, encode
from paceline.checkpoint.state import dump, parse, read_state, unreadable, write_state
from paceline.errors import CheckpointError

__all__ = ["Store", "read_state", "write_state"]

STATE: Final = "state.pt"
MANIFEST: Final = "manifest.json"
_NAMES = frozenset({STATE})  # the files that a manifest lists
# While a step is being replaced, its old folder bears the suffix. It stands in for the step until the new one is there.
_STEP = re.compile(r"step-(0|[1-9]\d{0,17})(\.replaced)?", re.ASCII)
_log = logging.getLogger("paceline")


class Store:
    """Saves and loads the states of one cohort in a folder of its own. One process at a time may save.

    A state is a dict of what `tree.check` accepts. `problems` says which steps the last `latest()` passed over and why.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.problems: list[str] = []

    def steps(self) -> list[int]:
        """Return every step that has a folder, verified or not, ascending."""
        return sorted({step for step, _ in _candidates(self.folder)})

    def verify(self, step: int) -> str | None:
        """Read a step and return what is wrong with it; None when it is as it was saved. Holds no copy of it."""
        reasons = [_verify(path, step) for path in self._folders(step)] or ["there is no such step"]
        return None if None in reasons else reasons[0]

    def load(self, step: int) -> dict[str, Any]:
        """Return the state of a step, tensors on the CPU. Raises CheckpointError with the reason when it cannot."""
        failure: CheckpointError | None = None
        for path in self._folders(step):
            try:
                return _load(path, step)
            except CheckpointError as error:
                failure = failure or error
        what, hint = "there is no such checkpoint", f"one of: {self.steps()}"
        raise failure or CheckpointError(what, where=str(self.folder), got=f"step {step}", hint=hint)

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """Return the highest step that verifies, and its state; None when no step does.

        A step that does not is passed over, with a warning; the reasons are in `problems`, so None with an empty
        `problems` means that nothing was ever saved.
        """
        self.problems = []
        for step, path in _candidates(self.folder):
            try:
                return step, _load(path, step)
            except CheckpointError as error:
                self.problems.append(f"{path.name}: {error.what}" + (f" ({error.got})" if error.got else ""))
                _log.warning("a checkpoint was passed over: %s/%s", self.folder, self.problems[-1])
        return None

    def save(self, step: int, state: Mapping[str, Any], *, keep_last: int = 2) -> Path:
        """Save a state durably, verify it, prune; return its folder.

        Of the steps up to `step` the last `keep_last` (at least 1) stay. Saving the same state again keeps what is
        there; another state of the same step replaces it. Raises CheckpointError for a value that no checkpoint may
        hold (naming its key), when the system refuses (naming the path, the needed and the free bytes), and when the
        files do not read back as written; the previous checkpoints are then still there.
        """
        assert step >= 0 and keep_last >= 1, (step, keep_last)
        tree.check(state)
        assert isinstance(state, dict), type(state)
        target = self.folder / f"step-{step}"
        temporary = self.folder / f".tmp-step-{step}-{os.getpid()}"
        try:
            files.make_folder(self.folder)
            self._tidy()
            if not _holds(target, step, state):
                _write(temporary, step, state)
                _publish(temporary, target)
            files.sync_folder(self.folder)
        except OSError as error:
            raise files.write_error(target, tree.count_bytes(state), error) from error
        finally:
            if temporary.exists():
                files.remove(temporary)
        reason = _verify(target, step)
        if reason is not None:
            raise CheckpointError(f"a checkpoint did not read back as written: {reason}", where=str(target))
        self._prune(step, keep_last)
        return target

    def _folders(self, step: int) -> list[Path]:
        return [path for number, path in _candidates(self.folder) if number == step]

    def _tidy(self) -> None:
        """Clear what a killed process may have left: temporaries, and a replacement that it did not finish."""
        files.remove_stale(self.folder, own=True)
        for step, old in _candidates(self.folder):
            target = self.folder / f"step-{step}"
            if old == target:
                continue
            if not target.exists():
                os.rename(old, target)
            elif _verify(target, step) is None or _verify(old, step) is not None:
                _discard(old, step)
            else:
                _discard(target, step)
                os.rename(old, target)

    def _prune(self, step: int, keep_last: int) -> None:
        """Remove steps before the verified `step`, and its replaced folder, beyond the last `keep_last` whole ones."""
        kept = 1
        for number, path in _candidates(self.folder):
            if number > step or path.name == f"step-{step}":
                continue
            if number < step and kept < keep_last:
                kept += _is_whole(path, number)
            else:
                _discard(path, number)


def _candidates(folder: Path) -> list[tuple[int, Path]]:
    """Return (step, folder), the highest step first, and a step before the one that it replaces."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(folder, error) from error
    found = [(int(match[1]), match[2] is None, name) for name in names if (match := _STEP.fullmatch(name))]
    return [(step, folder / name) for step, _, name in sorted(found, reverse=True)]


def _write(temporary: Path, step: int, state: Mapping[str, Any]) -> None:
    """Write a step's files into a new folder and sync all. Raises OSError."""
    os.mkdir(temporary)
    descriptor = files.open_new(temporary / STATE)
    try:
        sha256, size = dump(state, descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    manifest = Manifest(step=step, files={STATE: File(sha256=sha256, bytes=size)}, torch=torch.__version__)
    files.create_synced(temporary / MANIFEST, encode(manifest))
    files.sync_folder(temporary)


def _publish(temporary: Path, target: Path) -> None:
    """Rename a whole step into place. An older folder of that step steps aside first, and stays valid meanwhile."""
    if target.is_dir() and not target.is_symlink():  # anything else is not ours, and makes the rename fail
        os.rename(target, target.with_name(target.name + ".replaced"))
        files.sync_folder(target.parent)
    os.rename(temporary, target)


def _discard(path: Path, step: int) -> None:
    """Remove a step so that a kill leaves no half of it, unless someone put other files into its folder."""
    try:
        if set(os.listdir(path)) <= {STATE, MANIFEST}:
            garbage = path.with_name(f".tmp-step-{step}-{os.getpid()}")
            os.rename(path, garbage)
            files.remove(garbage)
    except OSError as error:
        _log.warning("an old checkpoint could not be removed: %s", error)


def _holds(path: Path, step: int, state: Mapping[str, Any]) -> bool:
    """Say whether a step's folder verifies and holds exactly this state."""
    try:
        return path.exists() and not tree.equal(_load(path, step), state)
    except CheckpointError:
        return False


def _verify(path: Path, step: int) -> str | None:
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


def _load(path: Path, step: int) -> dict[str, Any]:
    """Return the state in a step's folder, from the very bytes whose SHA-256 was checked. Raises CheckpointError."""
    try:
        expected = _manifest(path, step).files[STATE]
        with files.open_regular(path / STATE, follow=False) as file:
            _compare(os.fstat(file.fileno()).st_size, expected.bytes)
            data = file.read()
        if hashlib.sha256(data).hexdigest() != expected.sha256:
            raise DamagedError(f"{STATE} is not what its manifest says (SHA-256)")
    except DamagedError as error:
        raise CheckpointError(f"the checkpoint cannot be used: {error}", where=str(path)) from error
    except OSError as error:
        raise CheckpointError(f"the checkpoint cannot be used: {_unreadable(error)}", where=str(path)) from error
    state = parse(data, path / STATE)
    tree.check(state)
    return state


def _is_whole(path: Path, step: int) -> bool:
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
