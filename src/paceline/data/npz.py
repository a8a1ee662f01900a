"""Arrays from an .npz file, without unpickling anything."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.config.suggest import nearest
from paceline.data.growth import refuse_growth
from paceline.errors import DataError

KEYS = ("x", "y", "lengths", "group", "time", "channels", "classes", "test", "ids")
MAX_BYTES = 16 * 2**30  # of one file's arrays, uncompressed
MAX_MEMBERS = 1000

# What zipfile and NumPy raise for damaged files. RuntimeError: encrypted, or an unknown compression.
DAMAGE = (ValueError, TypeError, KeyError, EOFError, MemoryError, SyntaxError, OverflowError, RuntimeError, zlib.error)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of `path` whose names are in `KEYS` (`X` counts as `x`), without unpickling anything.

    Raises `DataError` for a file that is missing, unreadable, no .npz file, damaged or too large, for pickled
    arrays, and for a name so near to a known one that it must be a slip.
    """
    where = str(path)
    try:
        if not path.is_file():
            what = "the path is not a file" if path.exists() else "there is no such file"
            raise DataError(what, where=where, hint="the path of an .npz file")
        check_size(path)
        with np.load(path, allow_pickle=False) as stored:
            names = _names(stored.files, where)
            return {key: _one(stored, name, where) for name, key in names.items()}
    except (zipfile.BadZipFile, *DAMAGE) as error:
        fix = "numpy.savez_compressed(FILE, X=..., y=...)"
        raise DataError("this is not a sound .npz file", where=where, got=str(error), hint=fix) from error
    except OSError as error:
        raise DataError("the file cannot be read", where=where, got=str(error)) from error


def check_size(path: Path) -> None:
    """Raise `DataError` for what is too much, before anything is unpacked; OSError or `DAMAGE` for no archive."""
    packed, where = path.stat().st_size, str(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    size = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS:
        raise DataError("the file has too many arrays", where=where, got=f"{len(members)}, not at most {MAX_MEMBERS}")
    if size > MAX_BYTES:
        raise DataError(f"the arrays are larger than {MAX_BYTES >> 30} GiB", where=where, got=f"{size} bytes")
    refuse_growth(size, packed, "the file unpacks to far more than it holds", where=where,
                  hint="numpy.savez, which does not pack")  # fmt: skip


def _names(present: list[str], where: str) -> dict[str, str]:
    """Map the file's names to keys."""
    names = {name: "x" if name == "X" else name for name in present}
    if "X" in present and "x" in present:
        raise DataError("the file has both X and x", where=where, hint="keep one")
    for name, key in names.items():
        meant = nearest(key.lower(), KEYS)
        if key not in KEYS and meant:
            raise DataError("an array has a name that is not used", where=where, got=name, hint=f"rename it to {meant}")
    return {name: key for name, key in names.items() if key in KEYS}


def _one(stored: Any, name: str, where: str) -> NDArray[Any]:
    try:
        array = stored[name]
    except (zipfile.BadZipFile, *DAMAGE) as error:
        if "pickle" in str(error):
            what = f"array {name!r} is pickled Python objects, which are not read: they can run code"
            raise DataError(what, where=where, hint="store text as text: y.astype(str)") from error
        raise DataError(f"array {name!r} is damaged", where=where, got=str(error)) from error
    if not isinstance(array, np.ndarray):  # a member of the archive that is no .npy file
        raise DataError(f"{name!r} is not a NumPy array", where=where, got=type(array).__name__)
    return array
