"""The seal of `best.pt`: every damage is found, every other reader reads on."""

from __future__ import annotations

import io
import random
import zipfile

import pytest
import torch

from paceline.checkpoint.manifest import DamagedError
from paceline.checkpoint.seal import check_seal
from paceline.checkpoint.state import read_state, write_state
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointCorruptError

pytestmark = pytest.mark.fast

STATE = {"weight": torch.arange(40.0), "epoch": 3, "config": {"name": "gru"}}


@pytest.fixture
def path(tmp_path):
    write_state(tmp_path / "best.pt", STATE)
    return tmp_path / "best.pt"


def test_torch_and_other_readers_of_archives_read_a_sealed_file(path):
    assert check_seal(path.read_bytes())
    assert equal(torch.load(path, weights_only=True), STATE) == []
    assert equal(torch.load(path, weights_only=True, mmap=True), STATE) == []
    assert zipfile.ZipFile(path).testzip() is None
    assert zipfile.ZipFile(path).comment.startswith(b"paceline sha256 ")
    assert equal(read_state(path), STATE) == []


def test_every_flipped_bit_is_found_of_which_torch_accepts_most(path):
    data = path.read_bytes()
    rng = random.Random(0)
    bits = {*range(8 * (len(data) - 120), 8 * len(data)), *rng.sample(range(8 * len(data)), 200)}
    accepted = 0
    for number, bit in enumerate(sorted(bits)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            check_seal(bytes(damaged))
        if number < 100:
            try:
                torch.load(io.BytesIO(damaged), weights_only=True)
                accepted += 1
            except Exception:  # of many kinds; how many it accepts is counted
                pass
    assert accepted > 50


def test_every_truncation_is_an_error_that_names_the_file(path):
    data = path.read_bytes()
    for length in [*range(len(data) - 130, len(data)), 0, 1, 100, len(data) // 2]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointCorruptError, match=r"best\.pt"):
            read_state(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(CheckpointCorruptError, match=r"SHA-256"):
        read_state(path)


def test_a_seal_of_another_file_is_found(path, tmp_path):
    write_state(tmp_path / "other.pt", {**STATE, "epoch": 4})
    other = (tmp_path / "other.pt").read_bytes()
    path.write_bytes(path.read_bytes()[:-80] + other[-80:])
    with pytest.raises(CheckpointCorruptError, match="not what was written"):
        read_state(path)


def test_a_file_of_another_program_has_no_seal_and_is_read(tmp_path):
    torch.save(STATE, tmp_path / "plain.pt")
    assert not check_seal((tmp_path / "plain.pt").read_bytes())
    assert equal(read_state(tmp_path / "plain.pt"), STATE) == []
    assert not check_seal(b"") and not check_seal(b"PK\x05\x06")
