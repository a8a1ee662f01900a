"""Errors that a user can act on: what is wrong, where, what was got, what to try."""

from __future__ import annotations


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


class TrainingError(PacelineError):
    """Training that cannot go on, such as a loss that is not finite."""

    exit_code = 1


class InterruptedRunError(PacelineError):
    """A run that was told to stop and has saved its state. `exit_code` is 130 (Ctrl-C) or 143 (terminated)."""

    def __init__(self, what: str, *, hint: str, exit_code: int) -> None:
        super().__init__(what, hint=hint)
        self.exit_code = exit_code


def _one_line(text: str) -> str:
    """Fold `text` to one line and drop control characters, so that no name can drive a terminal."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())


def _short(value: object, limit: int = 200) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
