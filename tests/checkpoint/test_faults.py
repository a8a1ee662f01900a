from __future__ import annotations

import errno
import itertools
import os
import resource
import shutil

import pytest
import torch

from paceline.checkpoint import files
from paceline.checkpoint.state import dump, parse, read_state, write_state
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointError, CheckpointWriteError
from tests.checkpoint.faults import fail_at, kill_everywhere, trace

OLD = {"weight": torch.arange(5000.0), "step": 1}
NEW = {"weight": torch.arange(5000.0) + 0.5, "step": 2}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    # A killed process loses nothing that it wrote, synced or not; the calls remain, as places for a fault.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def new_folder(tmp_path):
    numbers = itertools.count()

    def make():
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return folder

    return make


def _is(*states):
    return lambda found: any(found is not None and not equal(found, state) for state in states)


def _refusal(action):
    try:
        action()
    except CheckpointError as error:
        return str(error)
    return None


def _latest(folder):
    found = Store(folder).latest()
    return found and found[1]


# what is saved before, the save that is hit, the states that may load afterwards
SCENARIOS = {
    "first": ([], (1, NEW, 2), (None, NEW)),
    "next": ([(1, OLD)], (2, NEW, 2), (OLD, NEW)),
    "next and prune": ([(0, OLD), (1, OLD)], (2, NEW, 1), (OLD, NEW)),
    "same step, other state": ([(1, OLD)], (1, NEW, 2), (OLD, NEW)),
    "same step, same state": ([(1, OLD)], (1, OLD, 2), (OLD,)),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_any_system_call_of_a_save_leaves_the_old_or_the_new_state(new_folder, scenario):
    before, (step, state, keep), allowed = SCENARIOS[scenario]
    folders = []

    def prepare(folder):
        folders.append(folder)
        for number, old in before:
            Store(folder).save(number, old)

    lost, landed = kill_everywhere(
        new_folder,
        prepare,
        lambda folder: Store(folder).save(step, state, keep_last=keep),
        _latest,
        lambda found: (found is None and None in allowed) or _is(*(s for s in allowed if s is not None))(found),
    )
    assert lost == []
    assert landed >= len(folders) - 1 > 5  # all but the undisturbed run
    for folder in folders:
        assert not any(Store(folder).verify(number) for number in Store(folder).steps())  # no half of a step
        Store(folder).save(3, NEW, keep_last=1)
        assert sorted(os.listdir(folder)) == ["step-3"]


def test_the_harness_catches_a_saver_that_writes_in_place(new_folder):
    def save(folder, state):
        descriptor = os.open(folder / "state.pt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        dump(state, descriptor)
        os.fsync(descriptor)
        os.close(descriptor)

    def read(folder):
        try:
            return parse((folder / "state.pt").read_bytes(), folder)
        except CheckpointError:
            return None

    lost, _ = kill_everywhere(
        new_folder, lambda folder: save(folder, OLD), lambda folder: save(folder, NEW), read, _is(OLD, NEW)
    )
    assert lost


def test_the_harness_catches_a_saver_that_removes_the_old_state_first(new_folder):
    def save(folder):
        shutil.rmtree(folder / "step-1")
        Store(folder).save(2, NEW)

    lost, _ = kill_everywhere(new_folder, lambda folder: Store(folder).save(1, OLD), save, _latest, _is(OLD, NEW))
    assert lost


def test_a_kill_at_any_system_call_of_setting_a_damaged_step_aside_loses_nothing(new_folder):
    folders = []

    def prepare(folder):
        folders.append(folder)
        for step, state in enumerate([OLD, NEW], start=1):
            Store(folder).save(step, state)
        os.truncate(folder / "step-2" / "state.pt", 100)

    lost, landed = kill_everywhere(
        new_folder, prepare, lambda folder: Store(folder).recover(), lambda folder: Store(folder).recover()[1], _is(OLD)
    )
    assert lost == [] and landed >= 3
    for folder in folders[1:]:
        assert sorted(os.listdir(folder)) == ["step-1", "step-2.damaged"]


def test_a_kill_at_any_system_call_of_pruning_leaves_the_last_state(new_folder):
    def prepare(folder):
        for step in range(4):
            Store(folder).save(step, OLD, keep_last=9)
        Store(folder).save(4, NEW, keep_last=9)

    lost, landed = kill_everywhere(new_folder, prepare, lambda folder: Store(folder).prune(1), _latest, _is(NEW))
    assert lost == [] and landed > 8


def test_a_kill_at_any_system_call_of_one_file_leaves_the_old_or_the_new_state(new_folder):
    lost, landed = kill_everywhere(
        new_folder,
        lambda folder: write_state(folder / "best.pt", OLD),
        lambda folder: write_state(folder / "best.pt", NEW),
        lambda folder: read_state(folder / "best.pt"),
        _is(OLD, NEW),
    )
    assert lost == [] and landed > 5


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_an_error_from_any_system_call_of_a_save_is_named_and_leaves_the_old_state(new_folder, number):
    def prepare():
        folder = new_folder()
        Store(folder).save(0, OLD)
        Store(folder).save(1, OLD)
        return folder

    folder = prepare()
    names = trace(lambda: Store(folder).save(2, NEW))
    refused = 0
    for index in range(len(names)):
        folder = prepare()
        error = _refusal(lambda folder=folder, index=index: fail_at(index, lambda: Store(folder).save(2, NEW), number))
        if error:
            refused += 1
            assert str(folder / "step-2") in error
            assert _is(OLD, NEW)(_latest(folder)) and Store(folder).verify(1) is None
            assert not [name for name in os.listdir(folder) if name.startswith(".tmp")]
        else:  # what failed came after the verified save: removing the oldest step
            assert _is(NEW)(_latest(folder))
        Store(folder).save(3, NEW)
        assert sorted(os.listdir(folder))[-1] == "step-3"
        assert not [name for name in os.listdir(folder) if name.startswith(".tmp")]
    assert refused >= 10


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, memoryview(data)[:1000]))
    Store(tmp_path).save(1, OLD)
    assert _is(OLD)(_latest(tmp_path))


def test_a_file_size_limit_names_the_path_and_the_bytes(tmp_path):
    store = Store(tmp_path / "store")
    store.save(1, OLD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
        with pytest.raises(CheckpointWriteError, match="File too large") as info:
            store.save(2, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(tmp_path / "store" / "step-2") in str(info.value)
    assert "needs about 20,000 bytes" in str(info.value) and "bytes are free" in str(info.value)
    assert info.value.path == str(tmp_path / "store" / "step-2") and info.value.needed == 20_000
    assert 0 < info.value.free <= shutil.disk_usage(tmp_path).total and info.value.exit_code == 1
    assert os.listdir(tmp_path / "store") == ["step-1"] and _is(OLD)(_latest(tmp_path / "store"))


def test_an_interrupt_inside_a_write_is_passed_on_and_leaves_nothing(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.save(1, OLD)

    def interrupted(descriptor, data):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.save(2, {"large": torch.zeros(100_000), "small": torch.zeros(1)})
    assert os.listdir(tmp_path) == ["step-1"] and _is(OLD)(_latest(tmp_path))


def test_everything_is_synced_before_and_after_the_rename(tmp_path):
    Store(tmp_path).save(0, OLD)
    names = [name for name in trace(lambda: Store(tmp_path).save(1, NEW, keep_last=9)) if name in ("fsync", "rename")]
    assert names == ["fsync", "fsync", "fsync", "rename", "fsync"]  # state, manifest, their folder; then the parent
    names = trace(lambda: files.write_bytes_atomic(tmp_path / "a", b"x"))
    assert [name for name in names if name in ("fsync", "replace")] == ["fsync", "replace", "fsync"]
    assert "fsync" not in trace(lambda: files.write_bytes_atomic(tmp_path / "a", b"x", durable=False))
