"""Our safetensors files: read by an independent reader written from the format's description, and by the library."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch

from paceline.checkpoint.safetensors import DTYPES, write_safetensors
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointError

pytestmark = pytest.mark.fast

NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
         "U64": "<u8", "U32": "<u4", "U16": "<u2", "BOOL": "?", "C64": "<c8"}  # fmt: skip


def every_dtype():
    bits = torch.arange(64, dtype=torch.uint8)
    found = {str(dtype): bits.view(dtype) for dtype in DTYPES if dtype is not torch.bool}
    return found | {
        "bool": bits % 3 == 0, "scalar": torch.tensor(2.5), "empty": torch.empty(0, 3), "größe": torch.ones(1),
        "turned": torch.arange(6.0).reshape(2, 3).t(), "part": torch.arange(90.0).reshape(9, 10)[2:4, 3:5],
    }  # fmt: skip


def test_the_layout_is_the_formats(tmp_path):
    tensors = every_dtype()
    write_safetensors(tmp_path / "a", tensors, {"format": "pt"})
    data = (tmp_path / "a").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    assert length % 8 == 0 and header.pop("__metadata__") == {"format": "pt"}
    assert list(header) == list(tensors)
    end = 0
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        assert start == end and entry["shape"] == list(tensors[name].shape)
        end = stop
        if entry["dtype"] in NUMPY:
            values = np.frombuffer(body[start:stop], NUMPY[entry["dtype"]]).reshape(entry["shape"])
            expected = tensors[name].numpy()
            assert values.dtype == expected.dtype and values.tobytes() == expected.tobytes()
    assert end == len(body)


def test_the_library_reads_every_tensor_bit_for_bit(tmp_path):
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    tensors = every_dtype()
    write_safetensors(tmp_path / "a", tensors, {"format": "pt", "member": "seed42"})
    loaded = library.load_file(tmp_path / "a")
    assert equal(loaded, {name: value.contiguous() for name, value in tensors.items()}) == []


@pytest.mark.parametrize("value", [{"mode": 1}, torch.eye(2).to_sparse(), torch.zeros(1, dtype=torch.complex128)])
def test_what_the_format_cannot_hold_is_named_and_nothing_is_written(tmp_path, value):
    with pytest.raises(CheckpointError, match=r"layer\._extra_state"):
        write_safetensors(tmp_path / "a", {"w": torch.zeros(1), "layer._extra_state": value}, {})
    assert list(tmp_path.iterdir()) == []
