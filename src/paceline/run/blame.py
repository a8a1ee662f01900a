"""Where in a user's own files something went wrong: the line that an error message names."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from paceline.errors import ModelError, PacelineError

PACKAGE = Path(__file__).parents[1]
_FOREIGN = tuple(str(Path(folder)) + os.sep for folder in {
    str(PACKAGE), *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
})  # fmt: skip


@contextmanager
def users_errors(what: str, where: str, got: str | None = None) -> Iterator[None]:
    """Turn what a model's, loss's or task's own code raises into a ModelError at the line of the user's file.

    `where` is named in its place for errors that came through no line of the user's.
    """
    try:
        yield
    except ModelError as error:
        if error.where:
            raise
        raise ModelError(error.what, where=where, got=error.got or None, hint=error.hint) from error
    except PacelineError:
        raise
    except Exception as error:
        line = users_line(error)
        if isinstance(error, AssertionError) and not line:
            raise  # our own bug
        raise ModelError(f"{what}: {type(error).__name__}: {error}", where=line or where, got=got) from error


def line_in(error: BaseException, path: Path) -> str:
    """Return `:line` of one file, the deepest in the traceback of an error; empty where it has none."""
    own = os.path.abspath(path)  # as the import system names it
    places = [line for file, line in _places(error) if file == own]
    return f":{places[-1]}" if places else ""


def users_line(error: BaseException) -> str:
    """Return `file.py:31`, the deepest place in a user's files that an error came through; empty where none is."""
    places = [(file, line) for file, line in _places(error) if _is_users(file)]
    return _shown(*places[-1]) if places else ""


def defined_at(thing: object) -> str:
    """Return `file.py:31` where a function is defined, if that is a user's file; else nothing."""
    code = getattr(thing, "__code__", None)
    return _shown(code.co_filename, code.co_firstlineno) if code and _is_users(code.co_filename) else ""


def _places(error: BaseException) -> list[tuple[str, int]]:
    """File and line of each frame, the outermost first; of a syntax error its own place, the deepest."""
    found: list[tuple[str, int]] = []
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        found.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
        traceback = traceback.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        found.append((error.filename, error.lineno or 1))
    return found


def _is_users(file: str) -> bool:
    """Neither ours, nor Python's, nor of an installed package, nor made up (`<string>`)."""
    if file.startswith("<"):
        return file.startswith(("<stdin", "<ipython"))
    return not file.startswith(_FOREIGN) and not {"site-packages", "dist-packages"} & set(Path(file).parts)


def _shown(file: str, line: int) -> str:
    """Shorten a path below the current folder."""
    here = os.getcwd() + os.sep
    return f"{file.removeprefix(here)}:{line}"
