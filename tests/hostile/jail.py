"""Running code on hostile files: in a forked child with a bound on memory and time, watched by an audit hook.

A case ends `done` (it worked), `refused` (a PacelineError of at most four printable lines) or in one of the failures:
`traceback`, `crash`, `slow`, `executed` (code was run), `escaped` (something outside its folder was touched).
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paceline.errors import PacelineError

MEMORY = 2**30  # bytes of address space beyond what the child has at its start
SECONDS = 2.0  # of processor time: a busy machine makes nobody wait for it
STUCK_SECONDS = 60.0  # of wall time, for what waits without working

# Events that nothing which only reads files has a reason to cause.
RUNS = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "os.fork", "os.forkpty", "pty.spawn",
    "subprocess.Popen", "pickle.find_class", "ctypes.dlopen", "ctypes.dlsym", "socket.connect", "socket.bind",
    "socket.sendto", "socket.getaddrinfo", "urllib.Request", "webbrowser.open", "code.__new__", "cpython.run_command",
    "cpython.run_file", "cpython.run_module", "os.kill", "signal.pthread_kill", "os.putenv", "os.unsetenv",
)  # fmt: skip
CHANGES = (
    "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown", "os.utime", "os.setxattr", "os.rename",
    "os.link", "os.symlink", "shutil.rmtree", "shutil.move", "shutil.copyfile",
)  # fmt: skip
INTO = ("os.link", "os.symlink", "shutil.copyfile")  # whose first path is not changed
TRUSTED = tuple({sys.prefix, sys.base_prefix, str(Path(__file__).parents[2] / "src"), "<frozen"})
FAILURES = ("traceback", "crash", "slow", "executed", "escaped")


@dataclass(frozen=True)
class Case:
    """`act` is called in `folder`, which is made for it and is all that it may write to."""

    name: str
    act: Callable[[Path], object]


@dataclass(frozen=True)
class Outcome:
    """How a case ended, why, after how much processor time, and the most memory of its process so far."""

    case: str
    kind: str
    detail: str = ""
    seconds: float = 0.0
    megabytes: int = 0


def jailed(cases: Sequence[Case], root: Path, *, batch: int = 20) -> Iterator[Outcome]:
    """Yield the outcome of every case. Some cases share a child; one that fails is tried again alone."""
    left = list(cases)
    while left:
        found = _in_child(left[:batch], root)
        for case, outcome in zip(left, found, strict=False):
            alone = outcome.kind in FAILURES and len(found) > 1
            yield _in_child([case], root)[0] if alone else outcome
        left = left[len(found) :]


def _in_child(cases: Sequence[Case], root: Path) -> list[Outcome]:
    """Run cases in one forked child, until one of them kills it."""
    root.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads; this child needs none of them
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            _child(cases, root, writing)
        finally:
            os._exit(0)
    os.close(writing)
    lines = _lines(reading, pid)
    status = os.waitpid(pid, 0)[1]
    outcomes = [Outcome(**json.loads(line)) for line in lines]
    if len(outcomes) < len(cases):
        name = cases[len(outcomes)].name
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        kind = "slow" if number in (signal.SIGPROF, signal.SIGKILL) else "crash"
        outcomes.append(Outcome(name, kind, f"signal {number}", SECONDS if kind == "slow" else 0.0))
    return outcomes


def _lines(reading: int, pid: int) -> list[str]:
    """Read what the child says until it ends; kill it when it says nothing for too long."""
    text = b""
    while True:
        ready, _, _ = select.select([reading], [], [], STUCK_SECONDS)
        if not ready:
            os.kill(pid, signal.SIGKILL)
        piece = os.read(reading, 65536)
        if not piece:
            break
        text += piece
    os.close(reading)
    return text.decode().splitlines()


def _child(cases: Sequence[Case], root: Path, writing: int) -> None:
    faulthandler.disable()  # a crash is one word of an outcome
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _address_space() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    (root / "tmp").mkdir(exist_ok=True)
    tempfile.tempdir = str(root / "tmp")
    gc.freeze()  # what the parent has made need not be looked at after every case
    watch = Watch(root)
    sys.addaudithook(watch)
    for case in cases:
        folder = root / "case"
        os.chdir(root)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        os.chdir(folder)
        outcome = _judged(case, folder, watch)
        os.write(writing, (json.dumps(asdict(outcome)) + "\n").encode())


def _judged(case: Case, folder: Path, watch: Watch) -> Outcome:
    modules = set(sys.modules)
    began = time.process_time()
    kind, detail = "done", ""
    watch.events.clear()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with watch.watching(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case.act(folder)
    except PacelineError as error:
        kind, detail = "refused", str(error)
        if not 1 <= len(detail.splitlines()) <= 4 or not all(line.isprintable() for line in detail.splitlines()):
            kind = "traceback"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-6:]
        places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(last))
        kind, detail = "traceback", f"{type(error).__name__}: {str(error)[:200]} at {places}"
        del error
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.process_time() - began
    if kind in ("done", "refused"):
        new = [name for name in set(sys.modules) - modules if not _trusted(getattr(sys.modules[name], "__file__", ""))]
        if watch.events or new:
            kind, detail = (watch.events or [("executed", f"import of {new}")])[0]
    gc.collect()
    return Outcome(case.name, kind, detail[:400], seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)


class Watch:
    """An audit hook that notes code being run and files being touched outside a folder; it cannot be taken away."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self._on = False
        self.events: list[tuple[str, str]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note events within."""
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        self._on = False  # what is done here causes events, too
        try:
            found = self._judge(event, arguments)
            if found is not None:
                self.events.append(found)
        finally:
            self._on = True

    def _judge(self, event: str, arguments: tuple[Any, ...]) -> tuple[str, str] | None:
        if event in RUNS and not (event == "os.kill" and arguments[1] == 0):  # which asks whether a process lives
            return "executed", f"{event} {arguments!r:.200}"
        if event == "exec" and not _trusted(getattr(arguments[0], "co_filename", "")) and not _defines():
            callers = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_stack()[-8:-2]]
            return "executed", f"exec {arguments!r:.120} by {' < '.join(reversed(callers))}"
        if event == "open" and _writes(arguments):
            return self._outside(event, arguments[:1])
        if event in CHANGES:
            return self._outside(event, arguments[1:2] if event in INTO else arguments)
        return None

    def _outside(self, event: str, paths: Sequence[Any]) -> tuple[str, str] | None:
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike) and path:
                # The entry itself counts, not what a link at its end leads to, unless it is opened.
                text = os.fsdecode(path)
                real = os.path.realpath(text) if event == "open" else _parent_resolved(text)
                if real != os.devnull and os.path.commonpath([self._root, real]) != self._root:
                    return "escaped", f"{event} {text}"
        return None


def _defines() -> bool:
    """Whether a named tuple or a dataclass of a module that is being imported makes its methods."""
    files = [frame.filename for frame in traceback.extract_stack()[:-3]]
    maker = (
        files and files[-1].startswith(TRUSTED) and files[-1].endswith(("collections/__init__.py", "dataclasses.py"))
    )
    return bool(maker) and any(file.startswith("<frozen importlib") for file in files)


def _parent_resolved(path: str) -> str:
    head, tail = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(head), tail)


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = (*arguments, None, None)[:3]
    if isinstance(path, int):
        return False
    by_flags = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
    return by_flags or (isinstance(mode, str) and bool(set(mode) & set("wax+")))


def _trusted(path: object) -> bool:
    return path is None or (isinstance(path, str) and path.startswith(TRUSTED))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
