"""An error, or the end of the process, at every system call of a save, by the kernel's own hand: `strace -e inject`."""

from __future__ import annotations

import os
import random
import re
import select
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from paceline.checkpoint.state import read_state, write_state
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointError

from .forking import Ended, run_forked
from .outcome import Row, skipped

FAULTS = {"KILL": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO"}
# Calls on files and descriptors; an error from any other (memory, time) is not one of the disk.
ON_FILES = re.compile(r"open\w*|creat|p?write\w*|p?read\w*|close|fsync|fdatasync|rename\w*|unlink\w*|mkdir\w*|rmdir"
                      r"|lseek|f?truncate|getdents\w*|access|faccessat\w*|\w*stat\w*|fcntl|ioctl|dup\w*")  # fmt: skip
NO_FAULT = ("exit_group", "exit", "rt_sigreturn", "restart_syscall")
OLD = {"weight": torch.arange(40_000.0), "number": 1}
NEW = {"weight": torch.arange(40_000.0) + 0.5, "number": 2}


@dataclass(frozen=True, kw_only=True)
class Target:
    """Something that saves. `save` is hit, over what `prepare` saved; `load` returns what can be loaded then."""

    name: str
    prepare: Callable[[Path], object]
    save: Callable[[Path], object]
    load: Callable[[Path], Mapping[str, Any] | None]


def _latest(folder: Path) -> Mapping[str, Any] | None:
    found = Store(folder).latest()
    return found and found[1]


def _file(folder: Path) -> Mapping[str, Any] | None:
    try:
        return read_state(folder / "best.pt")
    except CheckpointError:
        return None


TARGETS = (
    Target(name="next step, the oldest pruned", prepare=lambda f: [Store(f).save(n, OLD) for n in (0, 1)],
           save=lambda f: Store(f).save(2, NEW), load=_latest),
    Target(name="the same step again", prepare=lambda f: Store(f).save(1, OLD),
           save=lambda f: Store(f).save(1, NEW), load=_latest),
    Target(name="published file", prepare=lambda f: write_state(f / "best.pt", OLD),
           save=lambda f: write_state(f / "best.pt", NEW), load=_file),
)  # fmt: skip
IN_PLACE = Target(name="in-place torch.save", prepare=lambda f: torch.save(OLD, f / "best.pt"),
                  save=lambda f: torch.save(NEW, f / "best.pt"), load=_file)  # fmt: skip


def unusable() -> str:
    """Why strace cannot be used here, or nothing."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"strace may not trace here: {done.stderr.strip()[-100:]}"


def system_calls(share: float, *, seed: int, folder: Path, targets: Sequence[Target] = TARGETS) -> Row:
    """Inject each fault at this share of the system calls of each target, and a short write at every write."""
    reason = unusable()
    if reason:
        return skipped("error at every system call", reason)
    row, rng = Row(name="error at every system call", aim="at a call of a save"), random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for target in targets:
        for fault, call, index in _chosen(target, folder, share, rng):
            _inject(row, target, folder, fault, call, index)
        _short_writes(row, target, folder)
    broken = Row(name="", aim="")
    for fault, call, index in _chosen(IN_PLACE, folder, 1.0, rng):
        if fault == "KILL" and call in ("openat", "write", "close"):
            _inject(broken, IN_PLACE, folder, fault, call, index)
    row.broken["in-place torch.save"] = broken.lost
    return row.judge(nearly_all_fired=row.fired >= 0.98 * row.planned > 0)


def _chosen(target: Target, folder: Path, share: float, rng: random.Random) -> list[tuple[str, str, int]]:
    """Return (fault, call, how many-th call of that name), of those that fit."""
    found = []
    for call, first, count in calls(target, folder):
        faults = [fault for fault in FAULTS if fault == "KILL" or ON_FILES.fullmatch(call)]
        found += [(fault, call, first + i) for i in range(count) for fault in faults if rng.random() < share]
    return found


def calls(target: Target, folder: Path) -> list[tuple[str, int, int]]:
    """Trace a save: each system call's name, the number of the first within the save, and how many there are."""
    place, trace = _prepared(target, folder), folder / "trace.txt"
    ended = _traced(target, place, ["-o", str(trace)])
    assert ended.value == "saved", ended
    before, inside = Counter[str](), Counter[str]()
    marks = 0
    for line in trace.read_text(errors="replace").splitlines():
        name = re.match(r"(?:\d+\s+)?(\w+)\(", line)
        if name is None:
            continue
        if name[1] == "getppid":
            marks += 1
        elif marks == 0:
            before[name[1]] += 1
        elif marks == 1 and name[1] not in NO_FAULT:
            inside[name[1]] += 1
    assert marks == 2, marks
    return [(name, before[name] + 1, count) for name, count in sorted(inside.items())]


def _inject(row: Row, target: Target, folder: Path, fault: str, call: str, index: int) -> None:
    place, trace = _prepared(target, folder), folder / "trace.txt"
    options = ["-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:{FAULTS[fault]}:when={index}"]
    ended = _traced(target, place, options)
    row.planned += 1
    fired = ended.signal == signal.SIGKILL if fault == "KILL" else "(INJECTED)" in trace.read_text(errors="replace")
    if fired:
        row.fired += 1
        row.landed += 1
        _judge(row, target, place, ended, f"{target.name}, {fault} at {call} {index}")


def _judge(row: Row, target: Target, place: Path, ended: Ended, at: str) -> None:
    found = target.load(place)
    is_old, is_new = (found is not None and not equal(found, state) for state in (OLD, NEW))
    named = ended.named and ("Checkpoint" in ended.error)
    row.outcomes[f"{_how(ended)}, {'old' if is_old else 'new' if is_new else 'nothing'} loads"] += 1
    if not (is_old or is_new):
        row.lose(f"{at}: neither the old nor the new state loads ({ended.error} {ended.text[:200]})")
    elif ended.value == "saved" and not is_new:
        row.lose(f"{at}: the save returned, and the old state loads")
    elif ended.error and not named:
        row.lose(f"{at}: {ended.error} instead of an error with a name: {' '.join(ended.text.split())[:200]}")
    elif ended.error and str(place) not in ended.text:
        row.lose(f"{at}: the error does not name the path: {' '.join(ended.text.split())[:200]}")
    shutil.rmtree(place)


def _how(ended: Ended) -> str:
    return "killed" if ended.signal is not None else ended.error or "saved"


def _prepared(target: Target, folder: Path) -> Path:
    """Return a folder in which something is saved: a copy, since saving takes longer."""
    kept, place = folder / target.name.replace(" ", "-"), folder / "place"
    if not kept.exists():
        kept.mkdir()
        target.prepare(kept)
        warm = folder / "warm"
        shutil.copytree(kept, warm)
        target.save(warm)  # nothing is imported any more when a fault may hit
        shutil.rmtree(warm)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(kept, place)
    return place


def _traced(target: Target, place: Path, options: Sequence[str]) -> Ended:
    """Save in a child that strace follows from just before the save."""
    go, gone = os.pipe()
    tracers: list[subprocess.Popen[bytes]] = []

    def save() -> str:
        select.select([go], [], [])
        os.read(go, 1)
        os.getppid()  # a mark in the trace
        target.save(place)
        os.getppid()
        return "saved"

    def follow(pid: int) -> None:
        command = ["strace", "-qq", "-f", "-p", str(pid), *options]
        tracers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        end = time.monotonic() + 20
        while not _is_traced(pid) and time.monotonic() < end:
            time.sleep(0.002)
        os.write(gone, b"g")

    try:
        ended = run_forked(save, started=follow, limit_seconds=30)
        for tracer in tracers:
            tracer.wait(20)
        return ended
    finally:
        os.close(go)
        os.close(gone)


def _is_traced(pid: int) -> bool:
    found = re.search(r"TracerPid:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    return found is not None and found[1] != "0"


def _short_writes(row: Row, target: Target, folder: Path) -> None:
    """Let each write take half of its bytes, alone and followed by the end of the process or of the disk's space."""
    count = 0
    while True:
        for then in ("", "KILL", "ENOSPC"):
            place = _prepared(target, folder)
            ended = run_forked(partial(_save_short, target, place, count, then))
            if ended.value == "no such write":
                return
            row.planned += 1
            row.fired += 1
            row.landed += 1
            _judge(row, target, place, ended, f"{target.name}, short write {count} {then}")
        count += 1


def _save_short(target: Target, place: Path, index: int, then: str) -> str:
    with _writing_short(index, then) as seen:
        target.save(place)
    return "saved" if len(seen) > index else "no such write"


@contextmanager
def _writing_short(index: int, then: str) -> Iterator[list[int]]:
    real, seen = os.write, list[int]()

    def write(descriptor: int, data: Any) -> int:
        seen.append(len(seen))
        if then == "ENOSPC" and len(seen) == index + 2:
            raise OSError(28, os.strerror(28))
        if len(seen) != index + 1:
            return real(descriptor, data)
        count = real(descriptor, memoryview(data).cast("B")[: (memoryview(data).nbytes + 1) // 2])
        if then == "KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        return count

    os.write = write  # type: ignore[assignment]
    try:
        yield seen
    finally:
        os.write = real
