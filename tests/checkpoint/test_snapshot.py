"""Copies of a state that later changes cannot reach, into the same memory each time; the thread that writes them."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from paceline.checkpoint import snapshot
from paceline.checkpoint.snapshot import Background, Snapshots
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from tests.checkpoint.test_store import _every_kind

pytestmark = pytest.mark.fast


def test_a_copy_is_equal_in_every_kind_of_value_and_in_its_file(tmp_path):
    state = _every_kind()
    taken = Snapshots().take(state)
    assert equal(taken, state) == []
    assert taken["turned"].stride() == state["turned"].stride()  # as an optimizer's kernels expect
    Store(tmp_path).save(1, taken)
    assert equal(Store(tmp_path).latest()[1], state) == []


def test_no_later_change_reaches_the_copy():
    weight, values = nn.Parameter(torch.zeros(3)), [1.0]
    taken = Snapshots().take({"model": {"w": weight, "row": weight[1]}, "history": values, "pair": (weight, values)})
    with torch.no_grad():
        weight += 1
    values.append(2.0)
    assert equal(taken["model"], {"w": torch.zeros(3), "row": torch.tensor(0.0)}) == []
    assert taken["history"] == [1.0] and taken["pair"][1] == [1.0]
    assert type(taken["model"]["w"]) is torch.Tensor and not taken["model"]["w"].requires_grad


def test_the_next_copy_takes_the_same_memory_where_it_fits():
    snapshots, weight = Snapshots(), torch.zeros(4, 3)
    first = snapshots.take({"w": weight, "new": torch.zeros(2)})
    weight += 1
    second = snapshots.take({"w": weight, "new": torch.zeros(3)})
    assert second["w"].data_ptr() == first["w"].data_ptr() and (second["w"] == 1).all()
    assert second["new"].shape == (3,)


def test_the_first_copy_of_a_large_state_takes_memory_that_was_made_before(monkeypatch):
    tied = torch.randn(1200, 1000)
    state = {"w": tied, "list": [tied, torch.randn(30, 20).t()], "none": torch.empty(0), "n": 3}
    snapshots = Snapshots()
    snapshots.reserve(state)
    tied += 1  # what is reserved is memory, not content
    snapshots._reserving.wait()

    def refused(*args, **options):
        raise AssertionError("new memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty_like", refused)
        assert equal(snapshots.take(state), state) == []
        with pytest.raises(AssertionError, match="new memory"):
            Snapshots().take(state)
    state["more"] = torch.ones(5)
    assert equal(snapshots.take(state), state) == []


def test_memory_that_cannot_be_reserved_is_asked_for_by_the_copy(monkeypatch):
    state, snapshots = {"w": torch.ones(1200, 1000)}, Snapshots()
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "_touch", lambda buffer: bytearray(2**62))
        snapshots.reserve(state)
        snapshots._reserving.wait()
    assert equal(snapshots.take(state), state) == []


def test_a_small_state_is_not_worth_a_thread():
    snapshots = Snapshots()
    snapshots.reserve({"w": torch.ones(1000, 1000)})
    assert snapshots._reserving._thread is None


def test_tensors_that_share_memory_are_copied_once():
    tied = torch.ones(1000)
    taken = Snapshots().take({"a": tied, "b": [tied, tied.view(10, 100)]})
    assert taken["a"] is taken["b"][0]
    assert taken["b"][1].shape == (10, 100)


def test_one_job_at_a_time_and_its_error_is_kept_until_asked_for():
    background, go = Background(), threading.Event()
    background.start(go.wait)
    assert background.busy and background.take_error() is None
    go.set()
    background.wait()
    assert not background.busy and background.take_error() is None

    def fails():
        raise OSError("full")

    background.start(fails)
    background.wait()
    assert str(background.take_error()) == "full"
    assert background.take_error() is None


def test_without_a_further_thread_the_job_is_done_at_once(monkeypatch):
    def refused(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    done = []
    background = Background()
    background.start(lambda: done.append(1))
    assert done == [1] and not background.busy
    background.wait()
