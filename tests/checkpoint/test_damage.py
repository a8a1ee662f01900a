from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import random
import shutil

import pytest
import torch

from paceline.checkpoint import files, manifest
from paceline.checkpoint.manifest import DamagedError, File, Manifest, decode, encode
from paceline.checkpoint.state import read_state
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointCorruptError, CheckpointError

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


def _flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_every_flipped_bit_of_a_manifest_is_found(store):
    data = (store.folder / "step-3" / "manifest.json").read_bytes()
    decode(data, 3, frozenset({"state.pt"}))
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            decode(bytes(damaged), 3, frozenset({"state.pt"}))


def test_another_spelling_of_the_same_manifest_is_found(store):
    data = (store.folder / "step-3" / "manifest.json").read_bytes()
    for other in (data.replace(b"  ", b"\t"), data + b"\n", data.replace(b'"step": 3', b'"step": 3, "step": 3')):
        assert other != data
        with pytest.raises(DamagedError):
            decode(other, 3, frozenset({"state.pt"}))


def test_flipped_bits_and_truncations_of_a_state_are_found(store):
    path = store.folder / "step-3" / "state.pt"
    data = path.read_bytes()
    rng = random.Random(0)
    accepted_by_torch = 0
    for _ in range(60):
        path.write_bytes(data)
        _flip(path, rng.randrange(8 * len(data)))
        assert "SHA-256" in store.verify(3)
        try:
            torch.load(path, weights_only=True)
            accepted_by_torch += 1
        except Exception:  # torch raises many kinds for a damaged file; only how many it accepts is counted
            pass
    assert accepted_by_torch > 20  # why the checksum is ours
    for length in [0, 1, len(data) - 1, *(rng.randrange(len(data)) for _ in range(10))]:
        path.write_bytes(data[:length])
        assert "bytes" in store.verify(3)
    path.write_bytes(data)
    assert store.verify(3) is None


def _damage_state(folder):
    _flip(folder / "step-3" / "state.pt", 4000)


def _cut_state(folder):
    os.truncate(folder / "step-3" / "state.pt", 100)


def _cut_manifest(folder):
    os.truncate(folder / "step-3" / "manifest.json", 100)


def _state_of_another_step(folder):
    shutil.copy(folder / "step-2" / "state.pt", folder / "step-3")


def _manifest_of_another_step(folder):
    shutil.copy(folder / "step-2" / "manifest.json", folder / "step-3")


def _both_of_another_step(folder):
    _state_of_another_step(folder)
    _manifest_of_another_step(folder)


def _no_state(folder):
    (folder / "step-3" / "state.pt").unlink()


def _no_manifest(folder):
    (folder / "step-3" / "manifest.json").unlink()


def _huge_manifest(folder):
    (folder / "step-3" / "manifest.json").write_bytes(b"[" * 100_000)


def _deep_manifest(folder):
    (folder / "step-3" / "manifest.json").write_bytes(b"[" * 60_000)


def _list_manifest(folder):
    (folder / "step-3" / "manifest.json").write_text("[]\n")


def _linked_state(folder):
    (folder / "step-3" / "state.pt").rename(folder.parent / "elsewhere.pt")
    (folder / "step-3" / "state.pt").symlink_to(folder.parent / "elsewhere.pt")


def _pipe(folder):
    (folder / "step-3" / "state.pt").unlink()
    os.mkfifo(folder / "step-3" / "state.pt")


@pytest.mark.parametrize(
    "damage",
    [
        _damage_state,
        _cut_state,
        _cut_manifest,
        _state_of_another_step,
        _manifest_of_another_step,
        _both_of_another_step,
        _no_state,
        _no_manifest,
        _huge_manifest,
        _deep_manifest,
        _list_manifest,
        _linked_state,
        _pipe,
    ],
)
def test_a_damaged_step_is_passed_over_with_its_reason(store, damage, caplog):
    damage(store.folder)
    with caplog.at_level(logging.WARNING, logger="paceline"):
        step, state = store.latest()
    assert step == 2 and equal(state, _state(2)) == []
    assert len(store.problems) == 1 and store.problems[0].startswith("step-3: ")
    assert store.problems[0] in caplog.text
    assert store.verify(3) in store.problems[0]
    with pytest.raises(CheckpointError) as info:
        store.load(3)
    assert store.verify(3) in info.value.what


def test_a_damaged_step_is_set_aside_and_its_cost_is_said(store, caplog):
    _damage_state(store.folder)
    before = {path.name: path.read_bytes() for path in (store.folder / "step-3").iterdir()}
    reason = store.verify(3)
    with caplog.at_level(logging.WARNING, logger="paceline"):
        step, state = store.recover()
    assert step == 2 and equal(state, _state(2)) == []
    (message,) = caplog.messages
    assert f"step 3 is damaged ({reason}), set aside as step-3.damaged: " in message
    assert message.endswith("going on from step 2, 1 step is trained again")
    assert sorted(os.listdir(store.folder)) == ["step-1", "step-2", "step-3.damaged"]
    assert {path.name: path.read_bytes() for path in (store.folder / "step-3.damaged").iterdir()} == before
    assert store.steps() == [1, 2] and store.set_aside() == [store.folder / "step-3.damaged"]

    caplog.clear()
    assert store.recover()[0] == 2 and caplog.messages == [] and store.problems == []


def test_what_was_set_aside_never_counts_and_is_never_removed(store):
    _damage_state(store.folder)
    store.recover()
    store.save(3, _state(3), keep_last=1)
    assert sorted(os.listdir(store.folder)) == ["step-3", "step-3.damaged"]
    _damage_state(store.folder)
    assert store.recover() is None
    store.save(4, _state(4), keep_last=1)
    assert sorted(os.listdir(store.folder)) == ["step-3.damaged", "step-3.damaged-2", "step-4"]
    assert store.prune(1) == [] and len(store.set_aside()) == 2


def test_files_of_others_in_a_damaged_step_go_aside_with_it(store):
    _damage_state(store.folder)
    (store.folder / "step-3" / "notes.txt").write_text("mine")
    store.recover()
    assert (store.folder / "step-3.damaged" / "notes.txt").read_text() == "mine"


def test_when_all_are_damaged_training_begins_anew_and_the_message_says_so(store, caplog):
    for step in (1, 2, 3):
        (store.folder / f"step-{step}" / "state.pt").write_bytes(b"")
    with caplog.at_level(logging.WARNING, logger="paceline"):
        assert store.recover() is None
    assert "no checkpoint is left, 3 steps are trained again" in caplog.text
    assert store.steps() == [] and len(store.set_aside()) == 3


def test_a_whole_step_that_stood_in_for_a_damaged_one_costs_nothing(store, caplog):
    shutil.copytree(store.folder / "step-3", store.folder / "step-3.replaced")
    _damage_state(store.folder)
    with caplog.at_level(logging.WARNING, logger="paceline"):
        assert store.recover()[0] == 3
    assert "going on from step 3, 0 steps are trained again" in caplog.text
    store.save(4, _state(4), keep_last=9)
    assert sorted(os.listdir(store.folder)) == ["step-1", "step-2", "step-3", "step-3.damaged", "step-4"]
    assert store.verify(3) is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.ESTALE])
def test_a_step_that_cannot_be_read_now_is_an_error_and_stays(store, monkeypatch, number):
    def refused(path, *, follow):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(files, "open_regular", refused)
    for read in (store.recover, store.latest, lambda: store.load(3)):
        with pytest.raises(CheckpointError, match="cannot be read") as info:
            read()
        assert not isinstance(info.value, CheckpointCorruptError)
    assert store.set_aside() == []


def test_without_memory_a_whole_step_is_not_taken_for_damaged(store, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(CheckpointError, match="not enough memory"):
        store.recover()
    assert store.set_aside() == []


def test_a_checkpoint_of_a_later_version_is_not_damaged(store):
    path = store.folder / "step-3" / "manifest.json"
    body = json.loads(path.read_bytes())
    del body["digest"]
    body["schema_version"] = 2
    path.write_bytes(manifest._encode({**body, "digest": manifest._digest(body)}))
    with pytest.raises(CheckpointError, match="reads up to 1") as info:
        store.recover()
    assert not isinstance(info.value, CheckpointCorruptError)
    assert store.set_aside() == [] and "reads up to 1" in store.verify(3)


def test_when_no_step_verifies_the_reasons_say_so(store):
    for step in (1, 2, 3):
        (store.folder / f"step-{step}" / "state.pt").write_bytes(b"")
    assert store.latest() is None
    assert [problem[:7] for problem in store.problems] == ["step-3:", "step-2:", "step-1:"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "reads up to 1"),
        ({"schema_version": 0}, "reads up to 1"),
        ({"schema_version": "1"}, "schema_version"),
        ({"step": "3"}, "belongs to step '3'"),
        ({"files": {}}, "files of a step"),
        ({"files": {"../state.pt": {"sha256": "0" * 64, "bytes": 0}}}, "files of a step"),
        ({"files": {"state.pt": {"sha256": "0" * 63, "bytes": 0}}}, "files of a step"),
        ({"files": {"state.pt": {"sha256": "0" * 64, "bytes": -1}}}, "files of a step"),
        ({"more": 1}, "other keys"),
        ({"torch": None}, "other keys"),
    ],
)
def test_a_manifest_that_is_whole_but_not_ours_is_refused(change, reason):
    body = {"schema_version": 1, "step": 3, "files": {"state.pt": {"sha256": "0" * 64, "bytes": 0}}, "torch": "2"}
    body.update(change)
    data = manifest._encode({**body, "digest": manifest._digest(body)})
    with pytest.raises(DamagedError, match=reason):
        decode(data, 3, frozenset({"state.pt"}))


class _Crafted:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (os.mkdir, (self.marker,))


def test_a_crafted_pickle_with_the_right_hash_is_refused_and_does_not_run(store, tmp_path):
    marker, folder = tmp_path / "ran", store.folder / "step-4"
    folder.mkdir()
    torch.save({"weight": _Crafted(marker)}, folder / "state.pt")
    data = (folder / "state.pt").read_bytes()
    entry = File(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    (folder / "manifest.json").write_bytes(encode(Manifest(step=4, files={"state.pt": entry}, torch="2")))

    assert store.verify(4) is None
    with pytest.raises(CheckpointError, match=r"mkdir") as info:
        store.load(4)
    assert "weights_only" not in str(info.value)
    assert store.latest()[0] == 3 and "mkdir" in store.problems[0]
    with pytest.raises(CheckpointError, match=r"mkdir"):
        read_state(folder / "state.pt")
    assert not marker.exists()

    torch.load(folder / "state.pt", weights_only=False)
    assert marker.exists()  # it would have run


def test_a_state_whose_values_the_store_never_writes_is_refused(store):
    folder = store.folder / "step-4"
    folder.mkdir()
    torch.save({"size": torch.Size([1])}, folder / "state.pt")
    data = (folder / "state.pt").read_bytes()
    entry = File(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    (folder / "manifest.json").write_bytes(encode(Manifest(step=4, files={"state.pt": entry}, torch="2")))
    with pytest.raises(CheckpointError, match=r"torch\.Size"):
        store.load(4)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04" + bytes(100), b"\x80\x02cos\nsystem\n."])
def test_a_file_that_is_no_checkpoint_is_one_clear_error(tmp_path, content):
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"best\.pt"):
        read_state(tmp_path / "best.pt")


def test_a_missing_file_and_one_without_a_dict_are_clear_errors(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        read_state(tmp_path / "best.pt")
    torch.save([1], tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="no dict"):
        read_state(tmp_path / "best.pt")


def test_a_state_that_does_not_read_back_is_an_error_and_the_previous_one_stays(store, monkeypatch):
    real = os.rename

    def rename_onto_a_bad_sector(source, target):
        real(source, target)
        if str(target).endswith("step-4"):
            _flip(target / "state.pt", 4000)

    monkeypatch.setattr(os, "rename", rename_onto_a_bad_sector)
    with pytest.raises(CheckpointError, match="did not read back"):
        store.save(4, _state(4), keep_last=1)
    assert store.steps() == [1, 2, 3, 4] and store.latest()[0] == 3
