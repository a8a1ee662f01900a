"""Run a function in a forked child, and perhaps send it a signal: no import is paid twice, so a fault is cheap."""

from __future__ import annotations

import json
import mmap
import os
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from paceline.errors import PacelineError


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended. `sent`: the signal was sent while it lived. `error`: the type of what it raised."""

    code: int | None  # None: a signal ended it
    signal: int | None
    sent: bool
    error: str = ""
    text: str = ""
    named: bool = False  # the error is one for users
    value: object = None  # what the function returned, through JSON


_MOST = 60_000  # bytes that a child may say: less than a pipe holds


class Board:
    """Numbers that a child writes and its parent reads, before and after the child's death."""

    def __init__(self, *names: str) -> None:
        self._names = {name: index for index, name in enumerate(names)}
        self._values = memoryview(mmap.mmap(-1, 8 * len(names))).cast("q")

    def __getitem__(self, name: str) -> int:
        return self._values[self._names[name]]

    def __setitem__(self, name: str, value: int) -> None:
        self._values[self._names[name]] = value


def run_forked(
    function: Callable[[], object],
    *,
    send: signal.Signals | None = None,
    ready: Callable[[], bool] = lambda: True,
    after_seconds: float = 0.0,
    poll_seconds: float = 0.001,
    limit_seconds: float = 120.0,
    started: Callable[[int], object] = lambda pid: None,
    sending: Callable[[], object] = lambda: None,
) -> Ended:
    """Run `function` in a child; `send` it a signal some seconds after `ready` became true.

    `started` is called with the child's process id, `sending` just before the signal is sent. A child that lives
    longer than the limit is killed, and its error reads `TimeoutError`.
    """
    read, write = os.pipe()  # no file: the fault may be that there can be none
    try:
        pid = _fork(function, write)
        os.close(write)
        started(pid)
        end = time.monotonic() + limit_seconds
        while send is not None and not ready() and not _ended(pid) and time.monotonic() < end:
            time.sleep(poll_seconds)
        if send is not None:
            time.sleep(after_seconds)
        sent = send is not None and not _ended(pid)
        if sent and send is not None:
            sending()
            os.kill(pid, send)
        late = False
        while not _ended(pid):
            late = time.monotonic() > end
            if late:
                os.kill(pid, signal.SIGKILL)
            time.sleep(poll_seconds)
        status = os.waitpid(pid, 0)[1]
        words = json.loads(os.read(read, _MOST) or b"{}")
    finally:
        os.close(read)
    if late:
        words = {"error": "TimeoutError", "text": f"it did not end within {limit_seconds:.0f} s"}
    by_signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    code = None if by_signal is not None else os.WEXITSTATUS(status)
    return Ended(code=code, signal=by_signal, sent=sent, **words)


def _fork(function: Callable[[], object], said: int) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
        pid = os.fork()
    if pid:
        return pid
    code = 70
    words: dict[str, object] = {}
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        words = {"value": function()}
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # whatever it is, the child must not return into the parent's code
        code = getattr(error, "exit_code", 70)
        words = {"error": type(error).__name__, "text": str(error), "named": isinstance(error, PacelineError)}
    finally:
        try:
            os.write(said, json.dumps(words).encode()[:_MOST])
        finally:
            os._exit(code)


def _ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
