"""Starts worker processes, reads what they report, and brings them home.

A worker is a command that prints one JSON object per line. It ends itself, after a save, on SIGTERM and when its
standard input closes, so that none outlives this process.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paceline.errors import TrainingError
from paceline.launch.signals import SAVE
from paceline.train.control import LoopControl

Event = Mapping[str, Any]
# glibc maps large buffers afresh for every step and gives them back, at a page fault each 4 KiB; kept, they are free.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592"}
RETRIES = 1  # times a worker that died is started again, from its last checkpoint
BEAT_SECONDS = 1.0  # a worker reports at least this often
FROZEN_SECONDS = 8.0  # one that has reported before and is silent for so long is killed, which counts as having died


@dataclass
class Worker:
    """One process and what is known of it."""

    name: str
    command: Sequence[str]
    starts: int = 0
    heard: float | None = None  # when it last reported, None before its first report
    frozen: bool = False
    process: subprocess.Popen[bytes] | None = None
    error: Event | None = None
    _readers: list[threading.Thread] = field(default_factory=list)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))  # of its standard error

    def start(self, events: queue.Queue[tuple[Worker, Event | None]]) -> None:
        """Start the process, and a thread that passes its lines on; None is passed when it has ended."""
        self.starts += 1
        self.heard, self.frozen = None, False
        # One thread each: the workers share the cores, and threads that wait for each other waste them.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | MALLOC
        self.process = subprocess.Popen(
            list(self.command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            start_new_session=True,  # a Ctrl-C of the terminal reaches this process alone, which tells the workers
        )  # fmt: skip
        self._readers = [
            threading.Thread(target=self._errors, daemon=True),
            threading.Thread(target=self._lines, args=(events,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def watch(self) -> None:
        """Kill the process if it no longer reports: it is stopped, or hangs."""
        if self.heard is None or time.monotonic() - self.heard < FROZEN_SECONDS or self.frozen:
            return
        if self.process is not None and self.process.poll() is None:
            self.frozen = True
            self.process.kill()

    def save(self) -> None:
        """Ask the process to save and go on, once it has reported: before, it might not know the signal."""
        if SAVE is not None and self.heard is not None and self.process is not None and self.process.poll() is None:
            self.process.send_signal(SAVE)

    def stop(self) -> None:
        """Ask the process to save and end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def close(self, grace_seconds: float = 0.0) -> None:
        """Wait for the process to end, kill it after the grace, and close its pipes."""
        if self.process is None:
            return
        try:
            self.process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _lines(self, events: queue.Queue[tuple[Worker, Event | None]]) -> None:
        assert self.process is not None and self.process.stdout is not None
        for line in self.process.stdout:
            self.heard = time.monotonic()
            try:
                events.put((self, json.loads(line)))
            except ValueError:
                self.tail.append(line.decode(errors="replace").rstrip())
        events.put((self, None))

    def _errors(self) -> None:
        assert self.process is not None and self.process.stderr is not None
        for line in self.process.stderr:
            self.tail.append(line.decode(errors="replace").rstrip())


def run_workers(
    workers: Sequence[Worker],
    at_once: int,
    handle: Callable[[str, Event], None],
    control: LoopControl,
) -> list[Worker]:
    """Run all workers, at most `at_once` side by side; return those that ended without success.

    `handle(name, event)` is called here for each line. A worker that died is started once more. Once `control` is
    interrupted, all are told to save and end, and none is started; a save asked of it is asked of all.
    """
    control.attended = True
    waiting, running, failed = deque(workers), set[str](), list[Worker]()
    events: queue.Queue[tuple[Worker, Event | None]] = queue.Queue()
    told = False
    try:
        while waiting or running:
            while waiting and len(running) < at_once and not told:
                worker = waiting.popleft()
                running.add(worker.name)
                worker.start(events)
            if control.take_save():
                for worker in workers:
                    worker.save()
            if control.interrupted and not told:
                told = True
                waiting.clear()
                for worker in workers:
                    worker.stop()
            for worker in workers:
                worker.watch()
            try:
                worker, event = events.get(timeout=0.2)
            except queue.Empty:
                continue
            if event is None:
                running.discard(worker.name)
                worker.close(grace_seconds=10.0)
                if died(worker) and worker.starts <= RETRIES and not told:
                    waiting.appendleft(worker)
                elif worker.process is None or worker.process.returncode != 0:
                    failed.append(worker)
            elif event.get("event") == "error":
                worker.error = event
            elif event.get("event") != "alive":
                handle(worker.name, event)
    finally:
        for worker in workers:
            worker.close()
        control.attended = False
    return failed


def explain(worker: Worker) -> TrainingError:
    """Return the error of a worker that did not succeed."""
    if worker.error is not None:
        told = {name: str(worker.error[name]) for name in ("what", "where", "got", "hint")}
        return TrainingError(told["what"], where=told["where"], got=told["got"] or None, hint=told["hint"])
    return TrainingError(
        f"the worker of {worker.name} died", got=how_it_died(worker), hint="; ".join(worker.tail)[-300:]
    )


def how_it_died(worker: Worker) -> str:
    """Return how the process ended, in words: an exit code, or the signal that killed it."""
    if worker.frozen:
        return f"no sign of life for {FROZEN_SECONDS:.0f} s"
    code = worker.process.returncode if worker.process is not None else None
    if code is None or code >= 0:
        return f"exit code {code}"
    return f"killed by {signal.Signals(-code).name}"


def died(worker: Worker) -> bool:
    """Whether the process ended by a signal or a crash, rather than by an error that it reported."""
    return worker.process is not None and worker.process.returncode != 0 and worker.error is None
