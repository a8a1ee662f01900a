"""Run a function in a forked child, and perhaps kill it: no import is paid twice, so a kill is cheap."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable


def forked(
    function: Callable[[], object],
    kill_after_seconds: float | None = None,
    once: Callable[[], bool] = lambda: True,
) -> int | None:
    """Return the child's exit code, or None when SIGKILL ended it, some seconds after `once` became true."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno() if sys.stdout.fileno() >= 0 else 1)
            function()
            code = 0
        except BaseException as error:  # whatever it is, the child must not return into the test runner
            traceback.print_exception(error, file=sys.__stderr__)
            code = getattr(error, "exit_code", 70)
        finally:
            os._exit(code)
    if kill_after_seconds is not None:
        while not once() and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.002)
        time.sleep(kill_after_seconds)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    return os.WEXITSTATUS(status)
