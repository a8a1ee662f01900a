"""A run folder holds plain files and folders: a link that leads out of it could make a run write anywhere."""

from __future__ import annotations

import os
from pathlib import Path

from paceline.errors import RunError


def refuse_foreign_entries(folder: Path) -> None:
    """Raise RunError for a link that leads out of a run folder, and for a pipe or device in it.

    The folder itself may be reached by a link, such as one from `runs` to another disk.
    """
    root = os.path.realpath(folder)
    left = [root]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        _check_link(entry, root)
                    elif entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    elif not entry.is_file(follow_symlinks=False):
                        raise RunError("something in the run is neither a file nor a folder", where=entry.path)
        except OSError as error:
            raise RunError("the run cannot be read", where=str(folder), got=str(error)) from None


def _check_link(entry: os.DirEntry[str], root: str) -> None:
    target = os.path.realpath(entry.path)
    if os.path.commonpath([root, target]) != root:
        raise RunError("a link in the run leads out of it", where=entry.path, got=target,
                       hint="a copy in place of the link; the run's folder itself may be one")  # fmt: skip
