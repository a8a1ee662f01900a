"""Faults at chosen system calls: a process killed before one, a write torn in the middle, an error from one."""

from __future__ import annotations

import errno
import os
import signal
import warnings
from contextlib import contextmanager

CALLS = ("open", "write", "fsync", "mkdir", "rename", "replace", "unlink", "rmdir", "close")


@contextmanager
def hooked(hook):
    """Call `hook(index, name, real, args, kwargs)` in place of each of the system calls."""
    real = {name: getattr(os, name) for name in CALLS}
    index = iter(range(10**9))

    def wrap(name):
        return lambda *args, **kwargs: hook(next(index), name, real[name], args, kwargs)

    try:
        for name in CALLS:
            setattr(os, name, wrap(name))
        yield
    finally:
        for name in CALLS:
            setattr(os, name, real[name])


def trace(action):
    """Return the names of the system calls that `action()` makes."""
    names = []

    def hook(index, name, real, args, kwargs):
        names.append(name)
        return real(*args, **kwargs)

    with hooked(hook):
        action()
    return names


def kill_at(index, action, torn=False):
    """Run `action()` in a forked child that is killed at system call `index`; `torn` lets half of a write through.

    Return whether the kill landed.
    """

    def hook(current, name, real, args, kwargs):
        if current == index:
            if torn and name == "write":
                real(args[0], memoryview(args[1])[: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads; this child needs none of them
        pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(30)
            with hooked(hook):
                action()
        finally:
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def fail_at(index, action, number=errno.ENOSPC):
    """Run `action()` with an error from system call `index`. A failing close still closes, as the system's does."""

    def hook(current, name, real, args, kwargs):
        if current == index:
            if name == "close":
                real(*args, **kwargs)
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    with hooked(hook):
        action()


def kill_everywhere(new_folder, prepare, action, read, allowed):
    """Kill `action(folder)` at each of its system calls, each time in a prepared new folder.

    Return the places (index, name, torn) after which `read(folder)` gave nothing that `allowed` accepts, and how many
    kills landed.
    """
    folder = new_folder()
    prepare(folder)
    names = trace(lambda: action(folder))
    lost, landed = [], 0
    for index, name in enumerate(names):
        for torn in (False, True) if name == "write" else (False,):
            folder = new_folder()
            prepare(folder)
            landed += kill_at(index, lambda folder=folder: action(folder), torn)
            if not allowed(read(folder)):
                lost.append((index, name, torn))
    return lost, landed
