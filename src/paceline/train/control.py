"""How a consumer of records, or a signal, speaks to the loop. The loop reads it once a step."""

from __future__ import annotations


class LoopControl:
    """`stop` ends members as if their patience had run out, `interrupt` ends the loop after a save."""

    def __init__(self) -> None:
        self._save = False
        self._stop_all = False
        self._stopped: set[str] = set()
        self.interrupted = 0  # the exit code asked for, 0 while there is none

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
        asked, self._save = self._save, False
        return asked
