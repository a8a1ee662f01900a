from __future__ import annotations

import zipfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from paceline.data import npz
from paceline.data.audit import audit
from paceline.data.fingerprint import fingerprint
from paceline.data.split import make_splits
from paceline.errors import DataError
from paceline.recipes.pain.data import Npz, Vowels

pytestmark = pytest.mark.fast

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "timeseries"


def test_the_vowels_are_the_published_ones():
    data = Vowels().load()
    x, mask = data.columns["x"], data.columns["mask"]
    assert x.shape == (640, 29, 12) and x.dtype == np.float32
    lengths = mask.sum(axis=1)
    assert (lengths.min(), lengths.max()) == (7, 29)
    assert data.classes == tuple("123456789") and len(data.channels) == 12
    assert data.test.tolist() == list(range(270, 640))
    assert data.spec(np.arange(270)).class_counts == (30,) * 9
    assert data.spec(data.test).class_counts == (31, 35, 88, 44, 29, 24, 40, 50, 29)


def test_the_vowels_equal_the_text_files():
    if not PUBLISHED.exists():
        pytest.skip("the published text files are not beside this checkout")
    lines = []
    for part in ("TRAIN", "TEST"):
        text = (PUBLISHED / f"JapaneseVowels_{part}.ts").read_text(encoding="utf-8")
        lines += text.partition("@data\n")[2].split()
    data = Vowels().load()
    assert len(lines) == len(data)
    for i, line in enumerate(lines):
        *channels, label = line.split(":")
        steps = np.array([[float(v) for v in channel.split(",")] for channel in channels]).T
        np.testing.assert_array_equal(data.columns["x"][i, : len(steps)], steps.astype(np.float32))
        assert data.columns["mask"][i].sum() == len(steps)
        assert data.classes[data.columns["y"][i]] == label


def test_the_bundled_file_is_small_holds_no_pickle_and_names_its_source():
    folder = files("paceline.recipes.pain") / "bundled"
    assert (folder / "vowels.npz").stat().st_size < 1_000_000
    text = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("Kudo", "Toyama", "Shimbo", "UCI", "CC BY 4.0", "What was changed"):
        assert word in text


def test_the_vowels_pass_the_audit_and_keep_their_fingerprint():
    data = Vowels().load()
    assert fingerprint(data) == VOWELS
    for split in make_splits(data, Vowels().split, n_folds=5):
        assert all(check.ok for check in audit(data, split))
        assert len(split.test) == 370 and len(split.val) == 54


VOWELS = "sha256:14ee5464d69ea0edf1a2c09d9cd7d25d3c2ceb67ddeb7e9e30b95cb5f251f13a"

X = np.arange(48.0).reshape(8, 3, 2)
Y = np.array(["a", "b"] * 4)


def saved(tmp_path, **arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return Npz(path=str(path))


def test_an_npz_file_with_every_key_is_read(tmp_path):
    source = saved(
        tmp_path,
        X=X,
        y=Y,
        lengths=[1, 2, 3, 3, 3, 3, 3, 3],
        group=np.arange(8),
        time=np.arange(8),
        channels=["left", "right"],
        classes=["b", "a"],
        test=[7],
        comment="is ignored",
    )
    data = source.load()
    assert data.columns["y"].tolist() == [1, 0] * 4 and data.classes == ("b", "a")
    assert data.columns["mask"].sum() == 21 and data.channels == ("left", "right")
    assert data.test.tolist() == [7] and data.group.tolist() == data.time.tolist() == list(range(8))
    assert data.source == "data.npz"


def test_small_x_and_compression_are_fine(tmp_path):
    np.savez_compressed(tmp_path / "small.npz", x=X[:, 0], y=np.arange(8) % 2)
    data = Npz(path=str(tmp_path / "small.npz")).load()
    assert data.columns["x"].shape == (8, 2) and data.classes == ("0", "1")


BAD = {
    "no X": ({"y": Y, "lengths": np.ones(8)}, "no array 'x'", "it holds lengths, y"),
    "no y": ({"X": X}, "no array 'y'", "it holds x"),
    "nothing": ({}, "no array 'x'", "it holds nothing"),
    "both": ({"X": X, "x": X, "y": Y}, "both X and x", "keep one"),
    "a slip": ({"X": X, "y": Y, "lenghts": np.ones(8)}, "name that is not used", "rename it to lengths"),
    "another slip": ({"X": X, "y": Y, "Group": Y}, "name that is not used", "rename it to group"),
    "pickled y": ({"X": X, "y": Y.astype(object)}, "'y' is pickled", "y.astype(str)"),
    "pickled X": ({"X": X.astype(object), "y": Y}, "'X' is pickled", "astype"),
    "NaN": ({"X": np.where(X == 5, np.nan, X), "y": Y}, "not finite", "sample 0, step 2, channel 1"),
    "label outside": ({"X": X, "y": Y, "classes": ["a", "c"]}, "outside the class list", "'b' at sample 1"),
    "lengths beyond T": ({"X": X, "y": Y, "lengths": np.full(8, 4)}, "outside 1..3", "4 at sample 0"),
    "unequal": ({"X": X, "y": Y[:5]}, "differ", "5"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_in_the_file_are_refused(tmp_path, name):
    arrays, what, detail = BAD[name]
    with pytest.raises(DataError) as caught:
        saved(tmp_path, **arrays).load()
    assert what in caught.value.what and detail in str(caught.value) and "data.npz" in caught.value.where


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path):
    np.save(tmp_path / "one.npy", X)
    (tmp_path / "text.npz").write_text("no archive", encoding="utf-8")
    (tmp_path / "empty.npz").touch()
    (tmp_path / "folder.npz").mkdir()
    for name, what in {
        "absent.npz": "no such file",
        "folder.npz": "not a file",
        "one.npy": "not a sound .npz",
        "text.npz": "not a sound .npz",
        "empty.npz": "not a sound .npz",
    }.items():
        with pytest.raises(DataError, match=what) as caught:
            Npz(path=str(tmp_path / name)).load()
        assert caught.value.where.endswith(name)


@pytest.mark.parametrize("path", ["a" * 5000, "nul\0byte", "~nobody-by-that-name/x.npz"], ids=["long", "nul", "user"])
def test_a_path_that_cannot_be_is_one_clear_error(path):
    with pytest.raises(DataError, match=r"cannot be read|no such file"):
        Npz(path=path).load()


def test_an_archive_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("x.npy", b"not an array")
        archive.writestr("y", b"text")
    with pytest.raises(DataError, match="'x' is not a NumPy array"):
        Npz(path=str(tmp_path / "other.npz")).load()


def test_arrays_beyond_the_limit_are_refused_before_they_are_read(tmp_path, monkeypatch):
    source = saved(tmp_path, X=X, y=Y)
    monkeypatch.setattr(npz, "MAX_BYTES", 200)
    with pytest.raises(DataError, match="larger than"):
        source.load()


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000, 8), }".ljust(117) + b"\n"
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match="damaged"):
        Npz(path=str(tmp_path / "huge.npz")).load()


@pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
def test_a_flipped_byte_never_escapes_as_another_error(tmp_path, compress):
    path = tmp_path / "flipped.npz"
    compress(path, X=X, y=Y, classes=["a", "b"])
    sound = path.read_bytes()
    refused = 0
    for place in range(0, len(sound), 13):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :])
        try:
            Npz(path=str(path)).load()
        except DataError:
            refused += 1
    assert refused > len(sound) // 13 // 2


def test_the_path_is_required():
    with pytest.raises(ValidationError, match="path"):
        Npz()
    with pytest.raises(ValidationError, match="at least 1 character"):
        Npz(path="")
