"""How a consumer of records, or a signal, speaks to the loop. The loop reads it once a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Stopped(BaseException):
    """Ends a process of paceline's own where nothing is lost by it. Raised by the handler of a signal, anywhere."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class EvaluationCutError(Exception):
    """An evaluation that was left between two batches. It has changed nothing: a resumed run makes it again."""


class LoopControl:
    """`stop` ends members as if their patience had run out, `interrupt` ends the loop after a save.

    `attended`: whether somebody looks at `interrupted` soon, which is so from the first step of a process until its
    cohort is published. Elsewhere (imports, data, compiling, the report) there is nothing to save, and a signal may as
    well end the work at once.
    """

    def __init__(self) -> None:
        self._save = False
        self._stop_all = False
        self._stopped: set[str] = set()
        self.interrupted = 0  # the exit code asked for, 0 while there is none
        self.attended = False

    def stop(self, member: str | None = None) -> None:
        """Stop one member, or all, at the step of the record being consumed."""
        if member is None:
            self._stop_all = True
        else:
            self._stopped.add(member)

    def save(self) -> None:
        """Save at the next step."""
        self._save = True

    def interrupt(self, exit_code: int) -> None:
        """Finish the step, save, and end."""
        self.interrupted = exit_code

    def stops(self, member: str) -> bool:
        return self._stop_all or member in self._stopped

    def take_save(self) -> bool:
        """Return whether a save was asked for, and forget it."""
        if not self._save:
            return False
        self._save = False
        return True

    def check(self) -> None:
        """Raise EvaluationCutError when told to end."""
        if self.interrupted:
            raise EvaluationCutError


def checked(batches: Iterable[T], control: LoopControl | None) -> Iterator[T]:
    """Yield the batches; raise EvaluationCutError before the first and after any of them where control says to end."""
    if control is None:
        yield from batches
        return
    control.check()
    for batch in batches:
        yield batch
        control.check()
