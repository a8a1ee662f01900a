"""The checkpoints of one cohort: `<folder>/step-<n>/{state.pt, manifest.json}`.

A step is written as a temporary folder, its files and the folder synced, renamed once, the parent synced, and read
back. The latest checkpoint is the highest step that verifies; there is no pointer that could be wrong. A process may be
killed between any two system calls: the old or the new state loads. Entries of other names are never touched.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paceline.checkpoint import files, tree
from paceline.checkpoint import step as one
from paceline.checkpoint.state import read_state, unreadable, write_state
from paceline.errors import CheckpointCorruptError, CheckpointError

__all__ = ["Store", "read_state", "write_state"]

# While a step is being replaced, its old folder bears the suffix. It stands in for the step until the new one is there.
_STEP = re.compile(r"step-(0|[1-9]\d{0,17})(\.replaced)?", re.ASCII)
_ASIDE = re.compile(r"step-(0|[1-9]\d{0,17})\.damaged(-\d{1,9})?", re.ASCII)
_log = logging.getLogger("paceline")


class Store:
    """Saves and loads the states of one cohort in a folder of its own. One process at a time may save or recover.

    A state is a dict of what `tree.check` accepts. `problems` says which steps the last `latest()` or `recover()`
    passed over and why.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.problems: list[str] = []

    def steps(self) -> list[int]:
        """Return every step that has a folder, verified or not, ascending."""
        return sorted({step for step, _ in _candidates(self.folder)})

    def folders(self, step: int) -> list[Path]:
        """Return the folders of a step: its own, and one that it was to replace when the process ended."""
        return [path for number, path in _candidates(self.folder) if number == step]

    def set_aside(self) -> list[Path]:
        """Return the folders of damaged steps that `recover` has put aside. They count for nothing any more."""
        return sorted(self.folder / name for name in _folders(self.folder) if _ASIDE.fullmatch(name))

    def verify(self, step: int) -> str | None:
        """Read a step and return what is wrong with it; None when it is as it was saved. Holds no copy of it."""
        reasons = [one.verify(path, step) for path in self.folders(step)] or ["there is no such step"]
        return None if None in reasons else reasons[0]

    def load(self, step: int) -> dict[str, Any]:
        """Return the state of a step, tensors on the CPU. Raises CheckpointError with the reason when it cannot."""
        failure: CheckpointError | None = None
        for path in self.folders(step):
            try:
                return one.load(path, step)
            except CheckpointError as error:
                failure = failure or error
        what, hint = "there is no such checkpoint", f"one of: {self.steps()}"
        raise failure or CheckpointError(what, where=str(self.folder), got=f"step {step}", hint=hint)

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """Return the highest step that verifies, and its state; None when no step does. Changes nothing.

        A damaged step is passed over, with a warning; the reasons are in `problems`, so None with an empty `problems`
        means that nothing was ever saved. Raises CheckpointError for one that may be whole but cannot be read now: of
        a later version, or without permission or memory.
        """
        found, _ = self._first_whole()
        for problem in self.problems:
            _log.warning("a checkpoint was passed over: %s/%s", self.folder, problem)
        return found

    def recover(self) -> tuple[int, dict[str, Any]] | None:
        """As `latest`, for whoever goes on from there: what is passed over is renamed `step-<n>.damaged`.

        It could not stay: once the steps after the returned one are made again, logs no longer are as it counts them.
        One warning says what was damaged and how many steps that costs.
        """
        found, passed_over = self._first_whole()
        if passed_over:
            damaged = [
                f"step {step} is damaged ({reason}), set aside as {self._set_aside(step, path)}"
                for step, path, reason in passed_over
            ]
            cost = _cost(passed_over[0][0], found and found[0])
            _log.warning("%s: %s: %s", self.folder, "; ".join(damaged), cost)
        return found

    def save(self, step: int, state: Mapping[str, Any], *, keep_last: int = 2, keep_every: int | None = None) -> Path:
        """Save a state durably, verify it, prune; return its folder.

        Of the steps up to `step` the last `keep_last` (at least 1) stay, and all multiples of `keep_every`. Saving the
        same state again keeps what is there; another state of the same step replaces it. Raises CheckpointError for a
        value that no checkpoint may hold (naming its key), CheckpointWriteError when the system refuses (naming the
        path, the needed and the free bytes), and CheckpointCorruptError when the files do not read back as written; the
        previous checkpoints are then still there.
        """
        assert step >= 0 and keep_last >= 1, (step, keep_last)
        tree.check(state)
        assert isinstance(state, dict), type(state)
        target = self.folder / f"step-{step}"
        temporary = self.folder / f".tmp-step-{step}-{os.getpid()}"
        try:
            files.make_folder(self.folder)
            self._tidy()
            if not one.holds(target, step, state):
                one.write(temporary, step, state)
                _publish(temporary, target)
            files.sync_folder(self.folder)
        except OSError as error:
            raise files.write_error(target, tree.count_bytes(state), error) from error
        finally:
            if os.path.lexists(temporary):  # `Path.exists` would raise over the error with a name
                files.remove(temporary)
        reason = one.verify(target, step)
        if reason is not None:
            raise CheckpointCorruptError("a checkpoint did not read back as written", where=str(target), got=reason)
        self._prune(step, keep_last, keep_every)
        return target

    def prune(self, keep_last: int) -> list[int]:
        """Remove all but the last `keep_last` (at least 1) steps that verify; return which were removed.

        Steps that do not verify are left as they are, and so are those that were set aside.
        """
        assert keep_last >= 1, keep_last
        whole = [(step, path) for step, path in _candidates(self.folder) if one.verify(path, step) is None]
        kept = sorted({step for step, _ in whole})[-keep_last:]
        for step, path in whole:
            if step not in kept:
                _discard(path, step)
        return sorted({step for step, _ in whole} - set(self.steps()))

    def _first_whole(self) -> tuple[tuple[int, dict[str, Any]] | None, list[tuple[int, Path, str]]]:
        """Return the latest state that loads, and the damaged steps passed over with the reasons, the highest first."""
        self.problems = []
        passed_over: list[tuple[int, Path, str]] = []
        for step, path in _candidates(self.folder):
            try:
                return (step, one.load(path, step)), passed_over
            except CheckpointCorruptError as error:
                reason = error.what.removeprefix(one.UNUSABLE) + (f" ({error.got})" if error.got else "")
                self.problems.append(f"{path.name}: {reason}")
                passed_over.append((step, path, reason))
        return None, passed_over

    def _set_aside(self, step: int, path: Path) -> str:
        """Rename a damaged step; return its new name."""
        names = [f"step-{step}.damaged", *(f"step-{step}.damaged-{n}" for n in range(2, 1000))]
        name = next((name for name in names if not os.path.lexists(self.folder / name)), names[-1])
        try:
            os.rename(path, self.folder / name)
            files.sync_folder(self.folder)
        except OSError as error:
            _log.warning("a damaged checkpoint could not be set aside: %s", error)
            return path.name
        return name

    def _tidy(self) -> None:
        """Clear what a killed process may have left: temporaries, and a replacement that it did not finish."""
        files.remove_stale(self.folder, own=True)
        for step, old in _candidates(self.folder):
            target = self.folder / f"step-{step}"
            if old == target:
                continue
            if not target.exists():
                os.rename(old, target)
            elif one.verify(target, step) is None or one.verify(old, step) is not None:
                _discard(old, step)
            else:
                _discard(target, step)
                os.rename(old, target)

    def _prune(self, step: int, keep_last: int, keep_every: int | None) -> None:
        """Remove steps before the verified `step`, and its replaced folder, beyond the last `keep_last` whole ones."""
        kept = 1
        for number, path in _candidates(self.folder):
            if number > step or path.name == f"step-{step}":
                continue
            if number < step and kept < keep_last:
                kept += one.is_whole(path, number)
            elif number == step or keep_every is None or number % keep_every:
                _discard(path, number)


def _candidates(folder: Path) -> list[tuple[int, Path]]:
    """Return (step, folder), the highest step first, and a step before the one that it replaces."""
    matches = [(name, match) for name in _folders(folder) if (match := _STEP.fullmatch(name))]
    found = [(int(match[1]), match[2] is None, name) for name, match in matches]
    return [(step, folder / name) for step, _, name in sorted(found, reverse=True)]


def _folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, links aside."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(folder, error) from error


def _cost(damaged: int, whole: int | None) -> str:
    again = damaged - (whole or 0)
    cost = f"{again} step{' is' if again == 1 else 's are'} trained again"
    return f"no checkpoint is left, {cost}" if whole is None else f"going on from step {whole}, {cost}"


def _publish(temporary: Path, target: Path) -> None:
    """Rename a whole step into place. An older folder of that step steps aside first, and stays valid meanwhile."""
    if target.is_dir() and not target.is_symlink():  # anything else is not ours, and makes the rename fail
        os.rename(target, target.with_name(target.name + ".replaced"))
        files.sync_folder(target.parent)
    os.rename(temporary, target)


def _discard(path: Path, step: int) -> None:
    """Remove a step so that a kill leaves no half of it, unless someone put other files into its folder."""
    try:
        if set(os.listdir(path)) <= {one.STATE, one.MANIFEST}:
            garbage = path.with_name(f".tmp-step-{step}-{os.getpid()}")
            os.rename(path, garbage)
            files.remove(garbage)
    except OSError as error:
        _log.warning("an old checkpoint could not be removed: %s", error)
