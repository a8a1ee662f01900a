"""Where a training's files go: the folder of the tracker's run, or one of its own."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paceline.run.folder import new_name

TRAINING = "training"  # paceline's own run folder within that of the guide


def run_dir_of(tracker: Any, runs: Path, model: str) -> Path:
    """Return the folder of the tracker's open run, else a new one below `runs`."""
    found = tracker.get_run_dir() if hasattr(tracker, "get_run_dir") else None
    return Path(found) if found is not None else runs / new_name("trainer", model)


def free_name(folder: Path, name: str = TRAINING) -> str:
    """Return the name, or the first of `name-2`, `name-3`, ... that a folder does not have."""
    number, chosen = 1, name
    while (folder / chosen).exists():
        number += 1
        chosen = f"{name}-{number}"
    return chosen


@dataclass(frozen=True)
class BestFiles:
    """Where the best weights go: `best.pt` in a folder (of several members `best-<member>.pt`), and also elsewhere."""

    folder: Path
    several: bool = False
    also: tuple[Path, ...] = ()

    def copy(self, run: Path, member: str) -> Path:
        """Copy a member's best weights from a run folder where they are others; return where they are."""
        source = run / "members" / member / "best.pt"
        target = self.folder / (f"best-{member}.pt" if self.several else "best.pt")
        for path in (target, *self.also):
            # Not by the time of writing: epochs may be shorter than a tick of the file system's clock.
            if source.is_file() and not (path.is_file() and path.read_bytes() == source.read_bytes()):
                copy_file(source, path)
        return target


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all, unless the target is the same file. The source is what is durable."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (target.exists() and target.samefile(source)):
        making = target.with_name(f".{target.name}.{os.getpid()}.making")
        shutil.copyfile(source, making)
        os.replace(making, target)


def copy_into(source: Path, folder: Path) -> Path:
    """Copy a file or a folder into another folder; return where it is. What lies there already is left as it is."""
    target = folder / source.name
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        copy_file(source, target)
    return target
