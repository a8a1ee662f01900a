"""Weights as a safetensors file, which other libraries and languages read, and which cannot hold code.

The format: 8 bytes with the length of the header (little endian), the header in JSON (dtype, shape and place of every
tensor), then the tensors' bytes one after another, in row-major order
(github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from paceline.checkpoint.files import replacing, write_all
from paceline.checkpoint.tree import raw_bytes
from paceline.errors import CheckpointError

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.complex64: "C64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.bool: "BOOL",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip


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
