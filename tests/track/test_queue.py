"""Trackers in the background: order kept, nothing lost, never in the way of training, never its end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import pytest

from paceline.errors import ConfigError
from paceline.track import queue as queue_module
from paceline.track.config import check_tracker
from paceline.track.queue import TrackerQueue
from paceline.types import Record, Tracker

pytestmark = pytest.mark.fast


def record(step: int) -> Record:
    return Record(member="seed42", step=step, epoch=1, split="val", values={"loss": 0.5})


class Listing:
    """Notes every call with the thread that made it. `gate` holds it up, `fails` names a method that raises."""

    def __init__(self, gate: threading.Event | None = None, fails: str = "") -> None:
        self.calls: list[tuple[str, object]] = []
        self.threads: set[str] = set()
        self._gate, self._fails = gate, fails

    def scalars(self, rows: Sequence[Record]) -> None:
        self._note("scalars", [row.step for row in rows])

    def figure(self, name: str, path: str, step: int) -> None:
        self._note("figure", name)

    def artefact(self, name: str, path: str) -> None:
        self._note("artefact", name)

    def close(self, status: str) -> None:
        self._note("close", status)

    def _note(self, method: str, value: object) -> None:
        if self._gate is not None:
            assert self._gate.wait(20)
        self.calls.append((method, value))
        self.threads.add(threading.current_thread().name)
        if method == self._fails:
            raise OSError("the server is away")

    @property
    def steps(self) -> list[int]:
        return [step for method, rows in self.calls if method == "scalars" for step in rows]


@pytest.fixture
def warnings(caplog):
    """The texts of the package's warnings so far."""
    caplog.set_level(logging.WARNING, logger="paceline")
    return lambda: [entry.getMessage() for entry in caplog.records]


def test_every_record_arrives_in_order_and_before_the_close(warnings):
    tracker: Tracker = Listing()
    queue = TrackerQueue({"a": tracker})
    for step in range(5000):
        queue.put(record(step))
    queue.artefact("summary.json", "summary.json")
    queue.close("finished")
    assert tracker.steps == list(range(5000))
    assert tracker.calls[-2:] == [("artefact", "summary.json"), ("close", "finished")]
    assert tracker.threads == {"paceline-tracker-a"}
    assert warnings() == []


def test_records_that_wait_are_handed_over_together():
    gate = threading.Event()
    tracker = Listing(gate)
    queue = TrackerQueue({"a": tracker})
    for step in range(2500):
        queue.put(record(step))
    gate.set()
    queue.close("finished")
    assert tracker.steps == list(range(2500))
    assert len(tracker.calls) < 10
    assert max(len(rows) for method, rows in tracker.calls if method == "scalars") <= queue_module.BATCH


def test_a_slow_tracker_does_not_hold_up_the_training():
    gate = threading.Event()
    queue = TrackerQueue({"slow": Listing(gate)})
    started = time.monotonic()
    for step in range(1000):
        queue.put(record(step))
    elapsed = time.monotonic() - started
    assert not gate.is_set()
    assert elapsed < 5  # the tracker would wait for 20
    gate.set()
    queue.close("finished")


def test_a_tracker_that_raises_is_one_warning_and_the_others_go_on(warnings):
    failing, sound = Listing(fails="scalars"), Listing()
    queue = TrackerQueue({"bad": failing, "good": sound})
    for step in range(50):
        queue.put(record(step))
        if step % 10 == 0:
            time.sleep(0.001)
    queue.close("finished")
    assert sound.steps == list(range(50))
    assert failing.calls[-1] == ("close", "finished")
    assert len([call for call in failing.calls if call[0] == "scalars"]) > 1  # it did raise more than once
    assert warnings() == [
        "tracker bad failed and is tried again: OSError: the server is away",
        "tracker bad misses 50 record(s) of this run",
    ]


@pytest.mark.parametrize("method", ["artefact", "close"])
def test_failures_of_any_call_are_caught(warnings, method):
    queue = TrackerQueue({"bad": Listing(fails=method)})
    queue.put(record(1))
    queue.artefact("a", "a")
    queue.close("failed")
    assert warnings() == ["tracker bad failed and is tried again: OSError: the server is away"]


def test_a_tracker_without_a_method_is_one_warning_too(warnings):
    sound = Listing()
    queue = TrackerQueue({"bad": object(), "good": sound})
    queue.put(record(1))
    queue.artefact("a", "a")
    queue.close("finished")
    assert [method for method, _ in sound.calls] == ["scalars", "artefact", "close"]
    assert warnings() == [
        "tracker bad failed and is tried again: AttributeError: 'object' object has no attribute 'scalars'",
        "tracker bad misses 1 record(s) of this run",
    ]


@pytest.mark.parametrize("method", ["scalars", "figure", "artefact", "close"])
def test_a_tracker_must_have_all_four_methods(monkeypatch, method):
    check_tracker(Listing(), where="tracking.mine")
    monkeypatch.delattr(Listing, method)
    with pytest.raises(ConfigError, match=rf"no method {method}\(") as caught:
        check_tracker(Listing(), where="tracking.mine")
    assert (caught.value.where, caught.value.got) == ("tracking.mine", "Listing")


def test_a_class_is_no_tracker():
    with pytest.raises(ConfigError, match="is a class, not an object"):
        check_tracker(Listing, where="tracking.mine")


def test_what_exceeds_the_queue_is_dropped_with_one_warning(warnings, monkeypatch):
    monkeypatch.setattr(queue_module, "CAPACITY", 10)
    gate = threading.Event()
    tracker = Listing(gate)
    queue = TrackerQueue({"slow": tracker})
    for step in range(100):
        queue.put(record(step))
    gate.set()
    queue.close("finished")
    assert tracker.steps == sorted(set(tracker.steps))
    assert 10 <= len(tracker.steps) < 100
    assert warnings() == ["tracker slow is too slow: some values are left out"]


def test_a_file_is_neither_dropped_nor_waited_for_when_the_queue_is_full(warnings, monkeypatch):
    monkeypatch.setattr(queue_module, "CAPACITY", 3)
    gate = threading.Event()
    tracker = Listing(gate)
    queue = TrackerQueue({"slow": tracker})
    for step in range(10):
        queue.put(record(step))
    queue.artefact("summary.json", "summary.json")  # the tracker waits for the gate: this would never return
    gate.set()
    queue.close("finished")
    assert tracker.calls[-2:] == [("artefact", "summary.json"), ("close", "finished")]
    assert len(warnings()) == 1


@pytest.mark.parametrize("full", [False, True])
def test_closing_does_not_wait_for_ever_for_a_tracker_that_hangs(warnings, monkeypatch, full):
    monkeypatch.setattr(queue_module, "CAPACITY", 3)
    gate = threading.Event()
    queue = TrackerQueue({"stuck": Listing(gate)})
    for step in range(10 if full else 1):
        queue.put(record(step))
    started = time.monotonic()
    queue.close("finished", timeout_seconds=0.2)
    assert time.monotonic() - started < 5
    assert any("did not finish within" in text for text in warnings())
    gate.set()


def test_without_trackers_there_is_no_thread():
    before = threading.active_count()
    queue = TrackerQueue({})
    queue.put(record(1))
    assert threading.active_count() == before
    queue.artefact("a", "a")
    queue.close("finished")
