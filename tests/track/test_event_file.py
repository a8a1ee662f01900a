"""TensorBoard's event files: written, read by its own reader, cut short by a crash, replaced while somebody looks."""

from __future__ import annotations

import resource
import signal

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from paceline.track import event_file
from tests.track.events import scalars

pytestmark = pytest.mark.fast


def point(step: int, value: float, tag: str = "loss") -> bytes:
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
    return Event(wall_time=1.0, step=step, summary=summary).SerializeToString()


def test_what_is_appended_is_read_by_tensorboard_and_by_us(tmp_path):
    path = event_file.replace(tmp_path / "a", [point(1, 0.5)])
    event_file.append(path, [point(2, 0.25), point(3, 0.125)])
    assert scalars(tmp_path / "a") == {"loss": [(1, 0.5), (2, 0.25), (3, 0.125)]}
    assert [event.step for event, _ in event_file.read(path)] == [0, 0, 1, 2, 3]
    assert [body for _, body in event_file.read(path)][2:] == [point(1, 0.5), point(2, 0.25), point(3, 0.125)]


def test_a_file_that_a_crash_cut_anywhere_is_read_up_to_there(tmp_path):
    path = event_file.replace(tmp_path, [point(1, 0.5), point(2, 0.25)])
    whole, ends = path.read_bytes(), []
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        ends.append(len(list(event_file.read(path))))
    assert ends == sorted(ends)
    assert (ends[0], ends[-1]) == (0, 4)
    path.write_bytes(whole + bytes(40))  # what a power cut may leave
    assert len(list(event_file.read(path))) == 4
    path.write_bytes(whole)
    event_file.append(path, [b"\xff" * 20])  # no valid message
    assert len(list(event_file.read(path))) == 4


def test_a_replaced_file_takes_the_place_of_all_others(tmp_path):
    for step in (1, 2):
        event_file.append(tmp_path / f"events.out.tfevents.{step:010d}.host", [point(step, 1.0)])
    (tmp_path / "notes.txt").write_text("kept")
    path = event_file.replace(tmp_path, [point(5, 0.5)])
    assert event_file.files(tmp_path) == [path]
    assert (tmp_path / "notes.txt").exists()
    assert scalars(tmp_path) == {"loss": [(5, 0.5)]}
    assert len(list(tmp_path.glob("events*"))) == 3, "old files are emptied, so that no reader waits for them"
    again = event_file.replace(tmp_path, [point(6, 0.5)])
    assert again.name > path.name, "TensorBoard reads files in the order of their names"
    assert event_file.files(tmp_path) == [again]
    assert len(list(tmp_path.glob("events*"))) == 2
    assert not list(tmp_path.glob(".*"))


def test_a_reader_that_looks_on_forgets_the_old_file(tmp_path):
    path = event_file.replace(tmp_path, [point(1, 0.5), point(2, 0.5), point(3, 0.5)])
    looking = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in looking.Scalars("loss")] == [1, 2, 3]
    event_file.replace(tmp_path, [point(1, 0.5), point(2, 0.25)])
    assert path.stat().st_size == 0
    assert [(event.step, event.value) for event in looking.Reload().Scalars("loss")] == [(1, 0.5), (2, 0.25)]


def test_an_append_that_fails_half_way_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    """RLIMIT_FSIZE stands for the full disk: the system takes a part, then refuses."""
    path = event_file.replace(tmp_path, [point(1, 0.5)])
    before = path.read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            event_file.append(path, [point(2, 0.25)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert event_file.size(body for _, body in event_file.read(path)) == len(before)
