from __future__ import annotations

import hashlib
import math
import os
import shutil
import struct

import pytest
import torch

from paceline.checkpoint.state import dump, parse, read_state, write_state
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointError

pytestmark = pytest.mark.fast


def _state(step):
    return {"weight": torch.full((16,), float(step)), "step": step, "history": [0.5, 0.25], "names": {"a": (1, None)}}


@pytest.fixture
def store(tmp_path):
    """A store with steps 1, 2, 3."""
    store = Store(tmp_path / "checkpoints" / "c0")
    for step in (1, 2, 3):
        store.save(step, _state(step), keep_last=3)
    return store


DTYPES = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.uint16,
    torch.uint64,
    torch.bool,
    torch.float8_e4m3fn,
]


def _every_kind():
    bits = torch.arange(256, dtype=torch.uint8)
    tensors = {str(dtype): bits.view(dtype) for dtype in DTYPES if dtype is not torch.bool}
    tensors["bool"] = bits % 3 == 0
    return {
        **tensors,
        "nan": torch.tensor([0x7FC00001, -0x3FFFFE, 0x7F800001], dtype=torch.int32).view(torch.float32),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4, dtype=torch.float64),
        "turned": torch.arange(6.0).reshape(2, 3).t(),
        "view": torch.arange(1000.0)[10:13],
        "expanded": torch.ones(1).expand(5),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "plain": [1, -(2**70), 2**1000, 0.1, -0.0, math.inf, True, None, "é\x00\n", "", (), [], {}, {1: {"1": ()}}],
        "payload": struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000123))[0],
        "same": [bits, bits],
    }


def test_every_kind_of_value_comes_back_bit_for_bit(tmp_path):
    state = _every_kind()
    Store(tmp_path).save(0, state)
    step, loaded = Store(tmp_path).latest()
    assert step == 0 and equal(loaded, state) == []
    assert list(loaded) == list(state)
    write_state(tmp_path / "best.pt", state)
    assert equal(read_state(tmp_path / "best.pt"), state) == []


def test_a_view_is_saved_without_the_storage_behind_it(tmp_path):
    write_state(tmp_path / "best.pt", {"member": torch.zeros(64, 10_000)[3]})
    assert (tmp_path / "best.pt").stat().st_size < 50_000


def test_the_latest_is_the_highest_step_as_a_number(tmp_path):
    store = Store(tmp_path)
    assert store.latest() is None and store.steps() == [] and store.problems == []
    for step in (9, 10, 100):
        store.save(step, _state(step), keep_last=5)
    assert store.steps() == [9, 10, 100]
    step, state = store.latest()
    assert step == 100 and equal(state, _state(100)) == []
    assert equal(store.load(9), _state(9)) == [] and store.verify(9) is None


def test_a_missing_step_is_named(store):
    assert store.verify(7) == "there is no such step"
    with pytest.raises(CheckpointError, match="no such checkpoint") as info:
        store.load(7)
    assert "[1, 2, 3]" in info.value.hint


def test_a_value_that_cannot_be_held_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(CheckpointError, match=r"optimizer\.lr"):
        Store(tmp_path / "new").save(1, {"optimizer": {"lr": {1.0}}})
    assert not (tmp_path / "new").exists()
    with pytest.raises(CheckpointError, match=r"optimizer\.lr"):
        write_state(tmp_path / "best.pt", {"optimizer": {"lr": {1.0}}})
    assert os.listdir(tmp_path) == []


def test_the_last_steps_are_kept(tmp_path):
    store = Store(tmp_path)
    for step in range(6):
        store.save(step, _state(step), keep_last=2)
    assert store.steps() == [4, 5]
    store.save(6, _state(6), keep_last=1)
    assert store.steps() == [6]


def test_every_so_many_steps_one_stays_for_ever(tmp_path):
    store = Store(tmp_path)
    for step in range(0, 60, 5):
        store.save(step, _state(step), keep_last=2, keep_every=20)
    assert store.steps() == [0, 20, 40, 50, 55]
    store.save(60, _state(60), keep_last=1)
    assert store.steps() == [60]  # no longer asked for


def test_a_replaced_step_does_not_stay_because_its_number_would(tmp_path):
    store = Store(tmp_path)
    store.save(20, _state(20), keep_every=20)
    store.save(20, _state(21), keep_every=20)
    assert os.listdir(tmp_path) == ["step-20"] and store.latest()[1]["step"] == 21


def test_pruning_keeps_the_last_that_verify_and_leaves_what_it_cannot_judge(store):
    for step in (4, 5):
        store.save(step, _state(step), keep_last=9)
    (store.folder / "step-5" / "state.pt").write_bytes(b"")
    (store.folder / "step-1" / "mine.txt").write_text("mine")
    (store.folder / "notes.txt").write_text("mine")
    assert store.prune(2) == [2]
    assert sorted(os.listdir(store.folder)) == ["notes.txt", "step-1", "step-3", "step-4", "step-5"]
    assert store.prune(1) == [3] and store.latest()[0] == 4
    (store.folder / "step-4" / "manifest.json").unlink()
    assert store.prune(1) == []  # step 1 alone is whole


def test_a_damaged_step_does_not_count_among_those_kept(store):
    (store.folder / "step-3" / "state.pt").write_bytes(b"")
    store.save(4, _state(4), keep_last=2)
    assert [step for step in store.steps() if store.verify(step) is None] == [2, 4]


def test_a_damaged_higher_step_does_not_displace_what_is_saved_after_it(store):
    (store.folder / "step-3" / "manifest.json").unlink()
    assert store.latest()[0] == 2
    store.save(2, _state(20), keep_last=1)
    assert store.latest()[1]["step"] == 20 and store.steps() == [2, 3]
    store.save(3, _state(3), keep_last=1)
    assert store.latest()[0] == 3 and store.steps() == [3] and store.problems == []


def test_the_same_state_saved_again_is_kept_as_it_is(store):
    before = (store.folder / "step-3" / "state.pt").stat()
    store.save(3, {**_state(3)}, keep_last=3)
    after = (store.folder / "step-3" / "state.pt").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_another_state_of_the_same_step_replaces_the_first(store):
    store.save(3, _state(30), keep_last=3)
    assert store.latest()[1]["step"] == 30
    assert sorted(os.listdir(store.folder)) == ["step-1", "step-2", "step-3"]


def test_a_replacement_cut_short_falls_back_to_the_state_before_it(store):
    (store.folder / "step-3").rename(store.folder / "step-3.replaced")
    assert store.steps() == [1, 2, 3] and store.verify(3) is None
    assert store.latest()[0] == 3 and equal(store.load(3), _state(3)) == []
    shutil.copytree(store.folder / "step-3.replaced", store.folder / "step-3")
    (store.folder / "step-3" / "state.pt").write_bytes(b"damaged")
    assert store.verify(3) is None and equal(store.load(3), _state(3)) == []
    store.save(4, _state(4), keep_last=2)
    assert sorted(os.listdir(store.folder)) == ["step-3", "step-4"] and store.verify(3) is None


def test_foreign_entries_are_never_touched(store):
    folder = store.folder
    names = {"notes.txt", "step-07", "step-x", "step--1", "step-1.bak", "step-9", ".hidden", "STEP-1", ".tmp-mine"}
    (folder / "step-9").symlink_to(folder / "step-3")
    for name in names - {"step-9", "notes.txt"}:
        (folder / name).mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "step-1" / "mine.txt").write_text("mine")
    assert store.steps() == [1, 2, 3]
    store.save(4, _state(4), keep_last=1)
    assert set(os.listdir(folder)) == {*names, "step-1", "step-4"}  # step 1 stays, for the file that is not ours


def test_a_foreign_entry_in_the_way_is_an_error_and_stays(store):
    (store.folder / "step-4").write_text("mine")
    with pytest.raises(CheckpointError, match="step-4"):
        store.save(4, _state(4))
    assert (store.folder / "step-4").read_text() == "mine"
    assert sorted(os.listdir(store.folder)) == ["step-1", "step-2", "step-3", "step-4"]


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "c0").write_text("")
    with pytest.raises(CheckpointError, match="Not a directory"):
        Store(tmp_path / "c0").latest()
    with pytest.raises(CheckpointError):
        Store(tmp_path / "c0").save(1, _state(1))


def test_the_hash_is_of_the_bytes_on_the_disk(tmp_path):
    state = {"large": torch.randn(100_000), "small": [torch.randn(3) for _ in range(50)]}
    with open(tmp_path / "a", "wb") as file:
        sha256, size = dump(state, file.fileno())
    data = (tmp_path / "a").read_bytes()
    assert (sha256, size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert equal(parse(data, tmp_path), state) == []


def test_equal_states_give_equal_bytes(tmp_path):
    for folder in ("a", "b"):
        Store(tmp_path / folder).save(1, _state(1))
    for name in ("state.pt", "manifest.json"):
        assert (tmp_path / "a/step-1" / name).read_bytes() == (tmp_path / "b/step-1" / name).read_bytes()
