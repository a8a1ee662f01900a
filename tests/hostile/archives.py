"""Payloads in archives: pickles, weights, checkpoints, arrays."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paceline.api.runs import resume
from paceline.checkpoint.state import read_state
from paceline.recipes.pain.data import Npz
from paceline.run.build import load
from tests.hostile.material import Material, forge
from tests.hostile.payloads import payload


class Evil:
    """What a pickle can hold: a call of the reader's own."""

    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def zeros(megabytes: int) -> bytes:
    """Return a deflate stream of so many megabytes of zeros, a thousandth of that long."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * megabytes + b"\x03\x00"


def archive(path: Path, entries: list[tuple[str, bytes]], bombs: dict[str, int] | None = None) -> Path:
    """Write a ZIP archive; `bombs` are entries of zeros, in megabytes, whose checksums are wrong."""
    with zipfile.ZipFile(path, "w") as target:
        for name, data in entries:
            target.writestr(name, data)
    for name, megabytes in (bombs or {}).items():
        _append(path, name, zeros(megabytes), megabytes << 20)
    return path


def _append(path: Path, name: str, packed: bytes, size: int) -> None:
    """Put one more deflated entry before the directory of an archive."""
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    count, length, start = struct.unpack("<HII", data[end + 10 : end + 20])
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0x21, 0, len(packed), size, len(name), 0)
    local = b"PK\x03\x04" + fields + name.encode() + packed
    entry = b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, start) + name.encode()
    directory = data[start : start + length] + entry
    sizes = struct.pack("<HHIIH", count + 1, count + 1, len(directory), start + len(local), 0)
    path.write_bytes(data[:start] + local + directory + b"PK\x05\x06\0\0\0\0" + sizes)


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def tensor(numel: int = 10, size: int = 10, stride: int = 1) -> bytes:
    """Return the operations that make a float32 tensor from the storage `0`."""
    stored = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(numel) + b"tQ"
    shape = b"K\0" + number(size) + b"\x85K" + bytes([stride]) + b"\x85\x89"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + shape + b"ccollections\nOrderedDict\n)RtR"


def state(folder: Path, value: bytes, storage: bytes = bytes(40), bomb: int = 0) -> Path:
    """Write the archive of torch.save whose state is {"a": value}, given as operations of a pickle."""
    pickled = b"\x80\x02}" + text("a") + value + b"s."
    entries = [("archive/data.pkl", pickled), ("archive/byteorder", b"little"), ("archive/version", b"3\n")]
    if bomb:
        return archive(folder / "state.pt", entries, {"archive/data/0": bomb})
    return archive(folder / "state.pt", [*entries, ("archive/data/0", storage)])


def saved(folder: Path, content: object) -> Path:
    torch.save(content, folder / "state.pt")
    return folder / "state.pt"


def twice(depth: int, make: Any) -> Any:
    """Return something that contains something twice that contains something twice, and so on."""
    made = make(1, 1)
    for _ in range(depth):
        made = make(made, made)
    return made


def trusting(path: Path) -> Any:
    return torch.load(path, weights_only=False)


def restricted(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def walk(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(walk, value.values()))
    return sum(map(walk, value)) if isinstance(value, list | tuple) else 1


@payload("a pickle in place of weights", naive=lambda f, m: trusting(saved(f, {"a": Evil()})), suffers="executed")
def _pickled(folder: Path, material: Material) -> None:
    read_state(saved(folder, {"a": Evil()}))


def _old(folder: Path) -> Path:
    (folder / "state.pt").write_bytes(pickle.dumps(Evil()))
    return folder / "state.pt"


@payload("a bare pickle", naive=lambda f, m: pickle.loads(_old(f).read_bytes()), suffers="executed")  # noqa: S301
def _bare(folder: Path, material: Material) -> None:
    read_state(_old(folder))


@payload("the format of torch before 1.6", naive=lambda f, m: trusting(_legacy(f)), suffers="executed")
def _before(folder: Path, material: Material) -> None:
    read_state(_legacy(folder))


def _legacy(folder: Path) -> Path:
    torch.save({"a": Evil()}, folder / "state.pt", _use_new_zipfile_serialization=False)
    return folder / "state.pt"


@payload("a pickle as a checkpoint with a true manifest", harmless=True)
def _with_manifest(folder: Path, material: Material) -> None:
    run = material.copy_run("eager", folder, finished=False)
    forge(run / "checkpoints" / "seed42" / "step-9", {"a": Evil()})
    resume(run)  # the step is set aside: it goes on from step 4
    assert (run / "summary.json").is_file()
    assert not (run / "checkpoints" / "seed42" / "step-9").exists()


@payload("two gigabytes of zeros as weights", naive=lambda f, m: restricted(_bomb(f)), suffers="traceback slow crash")
def _inflating(folder: Path, material: Material) -> None:
    read_state(_bomb(folder))


def _bomb(folder: Path) -> Path:
    return state(folder, tensor(2**29, 2**29), bomb=2048)


def _call(function: str, argument: int = 2**31 - 1, operation: bytes = b"R") -> bytes:
    return b"c" + function.replace(" ", "\n").encode() + b"\n" + number(argument) + b"\x85" + operation


@payload("a bytearray of two gigabytes", naive=lambda f, m: restricted(state(f, _call("builtins bytearray"))),
         suffers="traceback")  # fmt: skip
def _bytes(folder: Path, material: Material) -> None:
    read_state(state(folder, _call("builtins bytearray")))


@payload("a tensor of two gigabytes by its class", naive=lambda f, m: restricted(state(f, _call("torch Tensor"))),
         suffers="traceback")  # fmt: skip
def _class(folder: Path, material: Material) -> None:
    read_state(state(folder, _call("torch Tensor")))


@payload("a storage of two gigabytes")
def _storage(folder: Path, material: Material) -> None:
    read_state(state(folder, _call("torch.storage UntypedStorage")))


@payload("a storage of two gigabytes from the memo")
def _memo(folder: Path, material: Material) -> None:
    memo = b"ctorch.storage\nUntypedStorage\nq\x05" + number(2**31 - 1) + b"\x85q\x06h\x05h\x06R"
    read_state(state(folder, memo))


@payload("a storage made without its constructor")
def _new(folder: Path, material: Material) -> None:
    read_state(state(folder, _call("torch.storage UntypedStorage", operation=b"\x81")))


@payload("one number two billion times", naive=lambda f, m: restricted(_repeated(f))["a"].clone(), suffers="traceback")
def _expanded(folder: Path, material: Material) -> None:
    read_state(_repeated(folder))


def _repeated(folder: Path) -> Path:
    return state(folder, tensor(10, 2**31 - 1, stride=0))


@payload("a tensor beyond its storage")
def _beyond(folder: Path, material: Material) -> None:
    read_state(state(folder, tensor(2**28, 2**28)))


LISTS, DICTS = (lambda a, b: [a, b]), (lambda a, b: {"x": a, "y": b})


@payload("2^60 numbers in lists", naive=lambda f, m: walk(restricted(saved(f, [twice(60, LISTS)]))), suffers="slow")
def _lists(folder: Path, material: Material) -> None:
    read_state(saved(folder, {"a": twice(60, LISTS)}))


@payload("2^60 numbers in dicts", naive=lambda f, m: walk(restricted(saved(f, twice(60, DICTS)))), suffers="slow")
def _dicts(folder: Path, material: Material) -> None:
    read_state(saved(folder, twice(60, DICTS)))


@payload("a key whose hash takes for ever", naive=lambda f, m: restricted(_key(f)), suffers="slow")
def _hash(folder: Path, material: Material) -> None:
    read_state(_key(folder))


def _key(folder: Path) -> Path:
    nested = b"K\x01K\x01\x86q\0" + b"".join(b"h" + bytes([i - 1]) + b"\x86q" + bytes([i]) for i in range(1, 45))
    entries = [("archive/data.pkl", b"\x80\x02}" + nested + b"K\x01s."), ("archive/byteorder", b"little")]
    return archive(folder / "state.pt", [*entries, ("archive/version", b"3\n")])


@payload("a list in itself", naive=lambda f, m: walk(restricted(_own(f))), suffers="traceback")
def _itself(folder: Path, material: Material) -> None:
    read_state(_own(folder))


def _own(folder: Path) -> Path:
    return state(folder, b"]q\0h\0a")


@payload("a hundred thousand lists in each other", naive=lambda f, m: walk(restricted(_deep(f))), suffers="traceback")
def _nested(folder: Path, material: Material) -> None:
    read_state(_deep(folder))


def _deep(folder: Path) -> Path:
    return state(folder, b"]" * 100_000 + b"a" * 99_999)


@payload("two pickles in one archive")
def _two(folder: Path, material: Material) -> None:
    path = state(folder, tensor())
    with zipfile.ZipFile(path, "a") as target:
        target.writestr("other/data.pkl", pickle.dumps(Evil()))
    read_state(path)


@payload("a manifest 30,000 deep", naive=lambda f, m: json.loads("[" * 30_000), suffers="traceback", harmless=True)
def _manifest(folder: Path, material: Material) -> None:
    run = material.copy_run("eager", folder, finished=False)
    (run / "checkpoints" / "seed42" / "step-4" / "manifest.json").write_text("[" * 30_000)
    resume(run)


def header(shape: object = (4,), kind: object = "<f4", raw: str = "", body: bytes = bytes(64)) -> bytes:
    """Return a .npy file with this header, true or not."""
    head = (raw or repr({"descr": kind, "fortran_order": False, "shape": shape})).encode("latin1")
    head += b" " * (64 - (len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + body


Y = header((30,), "<i8", body=(np.arange(30) % 3).tobytes())


def arrays(folder: Path, x: bytes = b"", bomb: int = 0, more: list[tuple[str, bytes]] | None = None) -> Path:
    entries = [("y.npy", Y), *([("X.npy", x)] if x else []), *(more or [])]
    return archive(folder / "data.npz", entries, {"X.npy": bomb} if bomb else None)


def use(path: Path) -> None:
    load(Npz(path=str(path)))


def read_all(path: Path, **options: Any) -> None:
    with np.load(path, **options) as stored:
        for name in stored.files:
            stored[name]


def _objects(folder: Path) -> Path:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil()] * 4, dtype=object), allow_pickle=True)
    return arrays(folder, buffer.getvalue())


@payload("an array of objects", naive=lambda f, m: read_all(_objects(f), allow_pickle=True), suffers="executed")
def _array(folder: Path, material: Material) -> None:
    use(_objects(folder))


HEAD = header((2**20, 512), "<f4", body=b"")


@payload("two gigabytes of zeros as data", naive=lambda f, m: read_all(_zeros(f)), suffers="traceback slow")
def _data_bomb(folder: Path, material: Material) -> None:
    use(_zeros(folder))


def _zeros(folder: Path) -> Path:
    path = arrays(folder, bomb=2048)
    data = path.read_bytes()
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = block.compress(HEAD) + block.flush(zlib.Z_FULL_FLUSH)  # in place of the first zeros
    packed = zeros(2048)
    first = packed[: len(packed) // 2048]
    assert packed.startswith(first) and packed in data and len(head) <= len(first) - 5
    # A stored block of no bytes (00 00 00 ff ff) fills what is left, so that no offset changes.
    left = len(first) - len(head)
    filled = head + b"\0\0\0\xff\xff" * (left // 5)
    return _written(path, data.replace(packed, filled + packed[len(filled) :], 1))


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


for _name, _array_file, _suffers in (
    ("a shape of 10^18", header((10**6, 10**6, 10**6)), "traceback"),
    ("a shape of 10^9", header((10**4, 10**5)), "traceback"),
    ("a negative shape", header((-1, 5)), ""),
    ("a shape that is a text", header("abc"), ""),
    ("a text of two gigabytes", header((1,), "<U500000000"), "traceback"),
    ("numbers that are arrays", header((4,), ("<f4", (10**6, 10**6))), ""),
    ("a header of 5,000 brackets", header(raw="(" * 5000 + ")" * 5000), ""),
    ("a header of 8,000 signs", header(raw="-" * 8000 + "1"), ""),
    ("dates in place of numbers", header((4,), "<M8[s]"), ""),
    ("a structure with objects", header((4,), [("a", "<f4"), ("b", "|O")]), ""),
):

    def _use(folder: Path, material: Material, data: bytes = _array_file) -> None:
        use(arrays(folder, data))

    def _read(folder: Path, material: Material, data: bytes = _array_file) -> None:
        read_all(arrays(folder, data))

    payload(_name, naive=_read if _suffers else None, suffers=_suffers)(_use)


CALL = "__import__('os').system('touch executed')"


@payload("a header that is evaluated", naive=lambda f, m: eval(CALL), suffers="executed")  # noqa: S307
def _evaluated(folder: Path, material: Material) -> None:
    use(arrays(folder, header(raw=CALL)))


def _extract(path: Path) -> None:
    """Write every member where its name says."""
    with zipfile.ZipFile(path) as stored:
        for name in stored.namelist():
            (path.parent / name).write_bytes(stored.read(name))


@payload("names that lead elsewhere", naive=lambda f, m: _extract(_elsewhere(f)), suffers="escaped", harmless=True)
def _names(folder: Path, material: Material) -> None:
    use(_elsewhere(folder))


def _elsewhere(folder: Path) -> Path:
    x = header((30, 2), "<f8", body=np.arange(60.0).tobytes())
    return arrays(folder, x, more=[("../../outside.npy", x), ("/outside-paceline.npy", x)])


@payload("one entry twice in the directory")
def _overlapping(folder: Path, material: Material) -> None:
    path = state(folder, tensor())
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    count, length, start = struct.unpack("<HII", data[end + 10 : end + 20])
    sizes = struct.pack("<HHIIH", count * 9, count * 9, length * 9, start, 0)
    path.write_bytes(data[:start] + data[start : start + length] * 9 + b"PK\x05\x06\0\0\0\0" + sizes)
    read_state(path)


@payload("a hundred thousand arrays")
def _many(folder: Path, material: Material) -> None:
    use(archive(folder / "data.npz", [(f"{i}.npy", b"") for i in range(20_000)]))
