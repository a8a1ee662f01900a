"""Trackers behind one background thread: training never waits for them, and their failure is one warning."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from operator import methodcaller
from pathlib import Path

from paceline.types import Record, Tracker

LOG = logging.getLogger("paceline")
BATCH = 1000  # records handed over at once
CAPACITY = 100_000  # records that may wait before the oldest wait no longer


class TrackerQueue:
    """Hands records to trackers in batches. What exceeds `CAPACITY` is dropped with a warning; the journal has all."""

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)
        self._waiting: queue.Queue[Record | Callable[[], None] | None] = queue.Queue(maxsize=CAPACITY)
        self._warned: set[str] = set()
        self._dropped = False
        self._thread = threading.Thread(target=self._work, name="paceline-trackers", daemon=True)
        if self._trackers:
            self._thread.start()

    @property
    def any(self) -> bool:
        """Whether there is a tracker at all."""
        return bool(self._trackers)

    def put(self, record: Record) -> None:
        """Queue one record; never blocks."""
        if not self._trackers:
            return
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            if not self._dropped:
                self._dropped = True
                LOG.warning("trackers are too slow: some values reach only the run folder")

    def artefact(self, name: str, path: Path) -> None:
        """Queue a file for every tracker, after the records put so far."""
        for label in self._trackers:
            self._waiting.put(partial(self._guard, label, methodcaller("artefact", name, str(path))))

    def close(self, status: str, timeout_seconds: float = 30.0) -> None:
        """Flush, close every tracker with a status (`finished`, `interrupted`, `failed`), and end the thread."""
        if not self._trackers:
            return
        deadline = time.monotonic() + timeout_seconds
        closing = [partial(self._guard, label, methodcaller("close", status)) for label in self._trackers]
        with suppress(queue.Full):
            for item in [*closing, None]:
                self._waiting.put(item, timeout=max(0.0, deadline - time.monotonic()))
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            LOG.warning("a tracker did not finish within %.0f s; its last values may be missing there", timeout_seconds)

    def _work(self) -> None:
        while True:
            item = self._waiting.get()
            batch: list[Record] = []
            while isinstance(item, Record):
                batch.append(item)
                if len(batch) == BATCH or self._waiting.empty():
                    break
                item = self._waiting.get()
            if batch:
                self._scalars(batch)
            if isinstance(item, Record):
                continue
            if item is None:
                return
            item()

    def _scalars(self, batch: list[Record]) -> None:
        for label in self._trackers:
            self._guard(label, methodcaller("scalars", batch))

    def _guard(self, label: str, call: Callable[[Tracker], None]) -> None:
        """Run a tracker's code; whatever it raises is one warning, because no tracker may end a training."""
        try:
            call(self._trackers[label])
        except Exception as error:
            if label not in self._warned:
                self._warned.add(label)
                LOG.warning("tracker %s failed and may miss values: %s: %s", label, type(error).__name__, error)
