"""`manifest.json`: what a step's folder must contain. No bit of it can change unseen. Imports no torch.

The bytes of a manifest are a function of its values, and one of the values is the SHA-256 of the others; so any
other spelling, and any other value, is found.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 1
MAX_BYTES = 65_536
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class DamagedError(Exception):
    """Why a step's folder is not what was saved. Never leaves this package."""


class NewerError(DamagedError):
    """A manifest of a later version: not damaged, but not to be read here either."""


@dataclass(frozen=True, kw_only=True)
class File:
    """Content of one file of a step: SHA-256 in hexadecimal, and size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A step's files by name, and the torch version that wrote them."""

    step: int
    files: dict[str, File]
    torch: str


def encode(manifest: Manifest) -> bytes:
    """Return the content of `manifest.json`."""
    files = {name: {"sha256": file.sha256, "bytes": file.bytes} for name, file in manifest.files.items()}
    body = {"schema_version": SCHEMA_VERSION, "step": manifest.step, "files": files, "torch": manifest.torch}
    return _encode({**body, "digest": _digest(body)})


def decode(data: bytes, step: int, names: frozenset[str]) -> Manifest:
    """Return the manifest of `step`, whose files are exactly `names`. Raises DamagedError with the reason."""
    try:
        body = json.loads(data)
        rest = {key: value for key, value in body.items() if key != "digest"}
        intact = _encode(body) == data and body["digest"] == _digest(rest)
    except (ValueError, KeyError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise DamagedError("its manifest is damaged")
    return _read(rest, step, names)


def _read(body: dict[str, Any], step: int, names: frozenset[str]) -> Manifest:
    version = body.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        is_newer = type(version) is int and version > SCHEMA_VERSION
        raise (NewerError if is_newer else DamagedError)(
            f"its manifest has schema_version {version!r:.20}, this paceline reads up to {SCHEMA_VERSION}"
        )
    if type(body.get("step")) is not int or body["step"] != step:
        raise DamagedError(f"its manifest belongs to step {body.get('step')!r:.20}")
    files = body.get("files")
    if not isinstance(files, dict) or files.keys() != names or not all(_is_file(file) for file in files.values()):
        raise DamagedError("its manifest does not list the files of a step")
    if body.keys() != {"schema_version", "step", "files", "torch"} or not isinstance(body["torch"], str):
        raise DamagedError("its manifest has other keys than a step's")
    return Manifest(step=step, files={name: File(**file) for name, file in files.items()}, torch=body["torch"])


def _is_file(file: object) -> bool:
    return (
        isinstance(file, dict)
        and file.keys() == {"sha256", "bytes"}
        and isinstance(file["sha256"], str)
        and _SHA256.fullmatch(file["sha256"]) is not None
        and type(file["bytes"]) is int
        and file["bytes"] >= 0
    )


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(_encode(body)).hexdigest()


def _encode(body: dict[str, Any]) -> bytes:
    return (json.dumps(body, indent=2, allow_nan=False) + "\n").encode()
