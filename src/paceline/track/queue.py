"""Trackers behind a background thread each: training never waits for them, and their failure is a warning.

The journal in the run folder is the spool. What a tracker could not take, because it was away, too slow, or this
process ended, is read from there and sent again: after a pause, at the end, and by `paceline resume`.
"""

from __future__ import annotations

import logging
import shlex
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from paceline.errors import InterruptedRunError, without_credentials
from paceline.track.spool import Acknowledged, recorded
from paceline.types import Record, Tracker

LOG = logging.getLogger("paceline")
BATCH = 1000  # records handed over at once
CAPACITY = 10_000  # records that may wait in memory; what comes then is read from the journal later
LAST_TRIES = 4  # when a run ends
LINGER_SECONDS = 0.2  # between two batches, unless a tracker has its own `pause_seconds`
SHARE = 0.01  # of the time a tracker may compute: while it does, the training waits for the interpreter
LONGEST_REST_SECONDS = 30.0  # that this asks for
PAUSES_SECONDS = (1.0, 60.0)  # after a failure: the first, doubled each time, and the longest
CLOSING_SECONDS = {"finished": 30.0}  # how long the end of a run waits for its trackers
CLOSING_IN_HASTE_SECONDS = 5.0  # the same where it was interrupted or has failed


class TrackerQueue:
    """Hands records to trackers in batches, each tracker in its own time. Without a run folder nothing is spooled."""

    def __init__(self, trackers: Mapping[str, Tracker], run_folder: Path | None = None) -> None:
        self._feeds = [_Feed(label, tracker, run_folder) for label, tracker in trackers.items()]
        resume = "" if run_folder is None else shlex.join(["paceline", "resume", str(run_folder)])
        self._later = f": {resume} sends them" if resume else ""

    @property
    def any(self) -> bool:
        """Whether there is a tracker at all."""
        return bool(self._feeds)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close with the status by which the block ends: `finished`, `interrupted`, or `failed` for any other error."""
        status = "failed"
        try:
            yield
            status = "finished"
        except (InterruptedRunError, KeyboardInterrupt):  # the latter in a notebook
            status = "interrupted"
            raise
        finally:
            self.close(status)

    def put(self, record: Record) -> None:
        """Queue one record, which is in the journal already; never blocks."""
        for feed in self._feeds:
            feed.put(record)

    def artefact(self, name: str, path: Path) -> None:
        """Queue a file for every tracker, after the records put so far; never blocks."""
        for feed in self._feeds:
            feed.files.append((name, str(path)))
            feed.wake.set()

    def close(self, status: str, timeout_seconds: float | None = None) -> None:
        """Send what is left, close every tracker with a status (`finished`, `interrupted`, `failed`), end the threads.

        Waits a bounded time for all of them together, and says what did not arrive.
        """
        seconds = CLOSING_SECONDS.get(status, CLOSING_IN_HASTE_SECONDS) if timeout_seconds is None else timeout_seconds
        deadline = time.monotonic() + seconds
        for feed in self._feeds:
            feed.close(status)
        for feed in self._feeds:
            feed.thread.join(max(0.0, deadline - time.monotonic()))
            if feed.thread.is_alive():
                LOG.warning("tracker %s did not finish within %.0f s and may miss values%s",
                            feed.label, seconds, self._later)  # fmt: skip
            elif feed.missing:
                LOG.warning("tracker %s misses %d record(s) of this run%s", feed.label, feed.missing, self._later)


class _Feed:
    """One tracker, what waits for it, and its thread."""

    def __init__(self, label: str, tracker: Tracker, run_folder: Path | None) -> None:
        self.label, self._tracker, self._run_folder = label, tracker, run_folder
        self._acknowledged = Acknowledged(run_folder, label)
        self._records: deque[Record] = deque()
        self._behind = run_folder is not None  # the journal may have records that do not wait here, as after a resume
        self.files: deque[tuple[str, str]] = deque()
        self._status = ""
        self.missing = 0
        self._warned = False
        self.wake, self._hurry, self._closing = threading.Event(), threading.Event(), threading.Event()
        self.wake.set()
        self.thread = threading.Thread(target=self._work, name=f"paceline-tracker-{label}", daemon=True)
        self.thread.start()

    def put(self, record: Record) -> None:
        """Queue one record, or leave it to the journal. A record that is left is in the journal before it is read."""
        if not self._behind and len(self._records) < CAPACITY:
            self._records.append(record)
            if len(self._records) > CAPACITY // 2:
                self._hurry.set()
        elif self._run_folder is not None:
            self._behind = True
        elif not self._warned:
            self._warned = True
            LOG.warning("tracker %s is too slow: some values are left out", self.label)
        self.wake.set()

    def close(self, status: str) -> None:
        self._status = status
        self._closing.set()
        self._hurry.set()
        self.wake.set()

    def _work(self) -> None:
        failures, before = 0, 0.0
        while not self._closing.is_set():
            self.wake.wait()
            self.wake.clear()
            started = time.thread_time()
            failures = 0 if self._send_all() else failures + 1
            if failures:
                self.wake.set()
                first, longest = PAUSES_SECONDS
                self._closing.wait(min(longest, first * 2 ** (failures - 1)))
            else:
                spent = time.thread_time() - started
                self._rest(min(spent, before))  # the first sending imports what it needs, which is no measure
                before = spent
        for _ in range(LAST_TRIES):
            if self._send_all():
                break
            time.sleep(LINGER_SECONDS)
        else:
            self.missing = self._count()
        try:
            self._tracker.close(self._status)
        except Exception as error:
            self._warn(error)

    def _rest(self, spent_seconds: float) -> None:
        """Pause until the next batch: so long that sending takes a small share of the time, unless memory fills up."""
        linger = getattr(self._tracker, "pause_seconds", LINGER_SECONDS)
        self._hurry.wait(max(linger, min(LONGEST_REST_SECONDS, spent_seconds / SHARE)))
        if not self._closing.is_set():
            self._hurry.clear()

    def _send_all(self) -> bool:
        """Send whatever waits; return whether the tracker took it. However often it fails, it is one warning."""
        try:
            if self._behind:
                self._send_journal()
            while self._records:
                self._send([self._records.popleft() for _ in range(min(BATCH, len(self._records)))])
            while self.files:
                self._tracker.artefact(*self.files[0])
                self.files.popleft()
        except Exception as error:
            self._warn(error)
            return False
        return True

    def _send_journal(self) -> None:
        assert self._run_folder is not None
        self._records.clear()
        self._behind = False  # from here on records wait in memory again: first this, then the reading
        try:
            records = recorded(self._run_folder)
            while batch := list(islice(records, BATCH)):
                self._send(batch)
        except Exception:
            self._behind = True
            raise

    def _send(self, batch: list[Record]) -> None:
        fresh = self._acknowledged.fresh(batch)
        if not fresh:
            return
        try:
            self._tracker.scalars(fresh)
        except Exception:
            if self._run_folder is None:
                self._records.extendleft(reversed(batch))
            else:
                self._behind = True
            raise
        self._acknowledged.note(fresh)

    def _count(self) -> int:
        """Return how many records the tracker has not taken."""
        try:
            left = self._records if self._run_folder is None else recorded(self._run_folder)
            return len(self._acknowledged.fresh(left))
        except (OSError, ValueError):
            return len(self._records)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            LOG.warning("tracker %s failed and is tried again: %s: %s", self.label, type(error).__name__,
                        without_credentials(" ".join(str(error).split())))  # fmt: skip
