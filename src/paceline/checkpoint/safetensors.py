"""Weights as a safetensors file, which other libraries and languages read, and which cannot hold code.

The format: 8 bytes with the length of the header (little endian), the header in JSON (dtype, shape and place of every
tensor), then the tensors' bytes one after another, in row-major order
(github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paceline.checkpoint.files import open_regular, replacing, write_all
from paceline.checkpoint.state import unreadable
from paceline.checkpoint.tree import raw_bytes
from paceline.errors import CheckpointCorruptError, CheckpointError

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.complex64: "C64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.bool: "BOOL",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
_BY_NAME = {name: dtype for dtype, name in DTYPES.items()}


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors by name, atomically and durably. Its folder must exist.

    Raises CheckpointError for what the format cannot hold (naming it), CheckpointWriteError when the system refuses.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.dtype not in DTYPES or value.layout != torch.strided:
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise CheckpointError("safetensors cannot hold a part of the model", where=name, got=str(kind))
        start, end = end, end + value.numel() * value.element_size()
        header[name] = {"dtype": DTYPES[value.dtype], "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    with replacing(path, needed=8 + len(text) + end) as descriptor:
        write_all(descriptor, struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            if value.numel():
                write_all(descriptor, raw_bytes(value).numpy().data)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name; what is not as the format says never takes more memory than the file.

    Raises CheckpointCorruptError for a file of another form, CheckpointError for one that cannot be read.
    """
    try:
        with open_regular(path, follow=True) as file:
            data = bytearray(file.read())
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        return {str(name): _tensor(data, 8 + length, entry) for name, entry in header.items()}
    except (struct.error, ValueError, LookupError, TypeError, AttributeError, RecursionError, RuntimeError) as error:
        raise CheckpointCorruptError("the file is not as the safetensors format says", where=str(path),
                                     got=f"{type(error).__name__}: {error}") from error  # fmt: skip


def _tensor(data: bytearray, start: int, entry: Mapping[str, Any]) -> Tensor:
    dtype, shape, (first, end) = _BY_NAME[entry["dtype"]], entry["shape"], entry["data_offsets"]
    size = math.prod(shape)
    numbers = [*shape, first, end]
    if not all(type(n) is int and n >= 0 for n in numbers) or end - first != size * dtype.itemsize:
        raise ValueError(f"{entry['dtype']} of shape {shape} does not take bytes {first} to {end}")
    if start + end > len(data):
        raise ValueError(f"it ends before byte {end} of its data")
    if not size:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype, count=size, offset=start + first).reshape(shape).clone()
