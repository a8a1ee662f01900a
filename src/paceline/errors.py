"""Errors that a user can act on: what is wrong, where, what was got, what to try."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Control characters but tab and line end, marks of direction, lone surrogates.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_CREDENTIALS = re.compile(r"(?<=[A-Za-z0-9])://[^\s/@'\"]+@")


class PacelineError(Exception):
    """A mistake in the input or the environment, never a bug in paceline.

    The command line prints it without a traceback and exits with 2. Every part is one line:
    `what` happened, `where` (a dotted config path, a file, a member), `got` (the offending value),
    `hint` (what to try).
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", got: object = None, hint: str = "") -> None:
        self.what = what
        self.where = where
        self.got = "" if got is None else _short(got)
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [("", self.what), ("where: ", self.where), ("got: ", self.got), ("try: ", self.hint)]
        return "\n".join(label + _one_line(text) for label, text in parts if text)


class ConfigError(PacelineError):
    """A configuration key, choice or value that is not valid."""


class DataError(PacelineError):
    """Data that cannot be used as given."""


class ModelError(PacelineError):
    """A model that does not fit the data, the task or the engine."""


class RunError(PacelineError):
    """A run folder that is missing, exists already, or does not fit the command."""


class CheckpointError(PacelineError):
    """A checkpoint that cannot be written, read or used."""

    @property
    def in_short(self) -> str:
        """The error in one line, for a log."""
        return _one_line(f"{self.what} ({self.where}: {self.got})")


class CheckpointWriteError(CheckpointError):
    """A file that the system refused to write. `path`; `needed` and `free` bytes (None: not known)."""

    exit_code = 1

    def __init__(self, what: str, *, path: str, needed: int, free: int | None, reason: str, hint: str = "") -> None:
        self.path, self.needed, self.free = path, needed, free
        found = "an unknown number of" if free is None else f"{free:,}"
        got = f"{reason} (needs about {needed:,} bytes; {found} bytes are free)"
        super().__init__(what, where=path, got=got, hint=hint)


class CheckpointCorruptError(CheckpointError):
    """A checkpoint or weights file that is not what was written."""


class CheckpointMismatchError(CheckpointError):
    """A checkpoint that is whole but is not of this run: dotted names that are `missing`, `extra` or `changed`."""

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        missing: Sequence[str] = (),
        extra: Sequence[str] = (),
        changed: Sequence[str] = (),
        hint: str = "",
    ) -> None:
        self.missing, self.extra, self.changed = tuple(missing), tuple(extra), tuple(changed)
        kinds = (("missing", missing), ("extra", extra), ("changed", changed))
        got = "; ".join(f"{kind}: {_first(names)}" for kind, names in kinds if names)
        super().__init__(what, where=where, got=got, hint=hint)


class TrainingError(PacelineError):
    """Training that cannot go on, such as a loss that is not finite."""

    exit_code = 1


class InterruptedRunError(PacelineError):
    """A run that was told to stop and has saved its state. `exit_code` is 130 (Ctrl-C) or 143 (terminated)."""

    def __init__(self, what: str, *, hint: str, exit_code: int) -> None:
        super().__init__(what, hint=hint)
        self.exit_code = exit_code


def visible(text: str) -> str:
    """Return a text with what could drive a terminal, or turn the direction of a line, written as escapes."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def without_credentials(text: str) -> str:
    """Return a text with the user and password of every address in it (`http://me:pw@host`) put as `***`."""
    return _CREDENTIALS.sub("://***@", text)


def _one_line(text: str) -> str:
    """Fold `text` to one line, without control characters, so that no name can drive a terminal, or credentials."""
    text = without_credentials(text)
    return " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())


def _short(value: object, limit: int = 200) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _first(names: Sequence[str], most: int = 2) -> str:
    """List the first names and count the others."""
    left = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + left
