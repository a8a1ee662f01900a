"""A full disk: saves under a file-size limit and on a file system that is too small, and whole runs on one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paceline.api.runs import resume
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointError

from .forking import Ended, run_forked
from .outcome import Row
from .runs import Tiny, differences
from .space import limit_files, mount_small, unmountable

OLD = {"weight": torch.arange(20_000.0), "number": 1}
NEW = {"weight": torch.arange(20_000.0) + 0.5, "number": 2}
BYTES = 82_000  # of one saved state, about
PAGE = 4096
Save = Callable[[Path, Mapping[str, Any]], object]


def disk_full(sizes: int, runs: Sequence[int], *, folder: Path) -> Row:
    """Save on disks with room for the old state and a part of the new one, and run where so many bytes are free."""
    row = Row(name="disk full", aim="refused by the disk")
    reason = unmountable(folder / "mount")
    if reason:
        row.notes["tmpfs"] = reason
    for index, size in enumerate(np.linspace(0, 1.2 * BYTES, sizes, dtype=int)):
        _limited(row, folder / f"limit{index}", int(size), _store)
        if not reason:
            _small(row, folder / "mount", 2 * PAGE + BYTES + int(size), _store)
    if runs and not reason:
        _whole_runs(row, runs, folder / "runs")
    broken = Row(name="", aim="")
    _limited(broken, folder / "broken", BYTES // 2, _in_place)
    row.broken["in-place torch.save"] = broken.lost
    row.planned = row.fired
    return row.judge(disk_refused_some=row.landed > sizes // 2, disk_took_some=row.outcomes["saved, new loads"] > 0)


def _store(folder: Path, state: Mapping[str, Any]) -> object:
    return Store(folder).save(state["number"], state)


def _in_place(folder: Path, state: Mapping[str, Any]) -> object:
    """The known-broken saver: one file, overwritten."""
    path = folder / "step-1"
    path.mkdir(parents=True, exist_ok=True)
    return torch.save(dict(state), path / "state.pt")


def _limited(row: Row, folder: Path, size: int, save: Save) -> None:
    """Save in a child whose files may not grow beyond `size`."""
    folder.mkdir(parents=True)
    if save is _store:
        save(folder, OLD)
    else:
        Store(folder).save(1, OLD)

    def act() -> str:
        limit_files(size)
        save(folder, NEW)
        return "saved"

    ended = run_forked(act)
    row.fired += 1
    row.landed += ended.error == "CheckpointWriteError"
    _judge(row, ended, _loads(folder), f"files of at most {size} bytes", folder)
    shutil.rmtree(folder)


def _small(row: Row, mount: Path, size: int, save: Save) -> None:
    """Save twice in a child on a file system of so many bytes; what it then holds goes with the child."""
    loads = run_forked(lambda: _on_small(mount, size, save))
    if not isinstance(loads.value, dict):
        row.lose(f"a file system of {size} bytes: {loads.error} {' '.join(loads.text.split())}")
        return
    ended = Ended(code=0, signal=None, sent=False, **loads.value["ended"])
    row.fired += 1
    row.landed += ended.error == "CheckpointWriteError"
    _judge(row, ended, loads.value["loads"], f"a file system of {size} bytes", mount)


def _on_small(mount: Path, size: int, save: Save) -> dict[str, Any]:
    mount_small(mount, size)
    try:
        save(mount, OLD)
    except CheckpointError as error:
        return {"ended": {"error": type(error).__name__, "text": str(error), "named": True}, "loads": "nothing saved"}
    try:
        save(mount, NEW)
        ended: dict[str, Any] = {"value": "saved"}
    except CheckpointError as error:
        ended = {"error": type(error).__name__, "text": str(error), "named": True}
    return {"ended": ended, "loads": _loads(mount)}


def _loads(folder: Path) -> str:
    """Say which state is the latest that verifies, where all others verify too or are gone."""
    found = Store(folder).latest()
    names = {"old": OLD, "new": NEW}
    return next((name for name, state in names.items() if found and not equal(found[1], state)), "nothing")


def _judge(row: Row, ended: Ended, loads: str, at: str, folder: Path) -> None:
    how = "saved" if ended.value == "saved" else ended.error
    row.outcomes[f"{how}, {loads} loads"] += 1
    words = " ".join(ended.text.split())
    if loads not in ("old", "new", "nothing saved") or (how == "saved" and loads != "new"):
        row.lose(f"{at}: {how}, and {loads} loads")
    elif how not in ("saved", "CheckpointWriteError"):
        row.lose(f"{at}: {how} instead of CheckpointWriteError: {words}")
    elif how != "saved" and not (str(folder) in words and "bytes are free" in words and "needs about" in words):
        row.lose(f"{at}: the error names no path or bytes: {words}")


def _whole_runs(row: Row, sizes: Sequence[int], folder: Path) -> None:
    """Train on file systems of these sizes; copy what is there to a disk with room, resume, compare."""
    tiny = Tiny(folder=folder, engine="cohort", num_epochs=6)
    tiny.write_data()
    tiny.start("whole")
    for size in sizes:
        mount, kept = folder / "mount", folder / f"kept{size}"
        mount.mkdir(exist_ok=True)
        ended = run_forked(lambda mount=mount, kept=kept, size=size: _train_on_small(tiny, mount, kept, size))
        row.fired += 1
        at = f"a run on {size} bytes"
        words = " ".join(ended.text.split())
        if ended.value == "finished":
            row.outcomes["run finished"] += 1
            continue
        if not ended.named:
            row.lose(f"{at}: {ended.error} instead of an error with a name: {words}")
        row.landed += 1
        if not (kept / "run" / "config.yaml").exists():
            row.outcomes[f"run refused at its start: {ended.error}"] += 1
            continue
        again = run_forked(lambda kept=kept: resume(kept / "run"))
        row.outcomes[f"run stopped: {ended.error}"] += 1
        if again.code != 0:
            row.lose(f"{at}, stopped by {ended.error}: does not resume: {again.error} {' '.join(again.text.split())}")
        else:
            for difference in differences(tiny.run(f"kept{size}/run"), tiny.run("whole")):
                row.lose(f"{at}, resumed: {difference}")


def _train_on_small(tiny: Tiny, mount: Path, kept: Path, size: int) -> str:
    """Train in a namespace; leave a copy of the small disk on the real one, whatever happened."""
    kept.mkdir()
    mount_small(mount, size)
    try:
        tiny.start("run", mount)
        return "finished"
    finally:
        if (mount / "run").exists():
            shutil.copytree(mount / "run", kept / "run", symlinks=True)
