"""What signals do to a process of paceline's own: the command line or a worker, never a user's program."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from paceline.errors import PacelineError
from paceline.train.control import LoopControl, Stopped

__all__ = ["EXIT_CODES", "SAVE", "Stopped", "leave", "signals", "stop_main_thread"]

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
SAVE: signal.Signals | None = getattr(signal, "SIGUSR1", None)  # Windows has none
SHOW_CURSOR = b"\x1b[?25h"

_installed: list[LoopControl] = []  # the control that the handlers set, where there are handlers


@contextmanager
def signals(*, patient: bool = False) -> Iterator[LoopControl]:
    """Obey signals inside, and yield the control that they set; within another such context it is that one's.

    SIGINT or SIGTERM once: training ends after its step or batch and a save, anything else (`Stopped`) at once.
    A second one leaves without waiting for anything, unless `patient`. SIGUSR1: save, and go on.
    """
    if _installed:
        yield _installed[-1]
        return
    control, raised = LoopControl(), list[Stopped]()

    def stop(number: int, frame: FrameType | None) -> None:
        code = EXIT_CODES[signal.Signals(number)]
        if control.interrupted:
            if patient:
                return
            leave(code)
        control.interrupt(code)
        if not control.attended:
            raised.append(Stopped(code))
            raise raised[0]

    def save(number: int, frame: FrameType | None) -> None:
        control.save()

    handlers = dict.fromkeys(EXIT_CODES, stop) | ({} if SAVE is None else {SAVE: save})
    if threading.current_thread() is not threading.main_thread():
        handlers = {}  # Python lets no other thread have any
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    _installed.append(control)
    try:
        yield control
    except Exception as error:
        if raised and not isinstance(error, PacelineError):  # an import that was cut short may fail in its own way
            raise raised[0] from None
        raise
    finally:
        _installed.remove(control)
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_main_thread() -> None:
    """Do what SIGTERM does, from any thread: it wakes the main thread from what it waits for."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        signal.raise_signal(signal.SIGTERM)


def leave(code: int) -> None:
    """End the process here and now."""
    if sys.stdout is not None and sys.stdout.isatty():
        os.write(1, SHOW_CURSOR)  # a live display hides it
    os._exit(code)
