"""A checksum inside a file of `torch.save`, which other readers pass over. Imports no torch.

The file is a ZIP archive. It ends with the length of a comment, 2 bytes, and the comment, of which torch writes none.
The seal is the comment `paceline sha256 <hexadecimal>`: the SHA-256 of the file as torch wrote it.
"""

from __future__ import annotations

import hashlib
import struct

from paceline.checkpoint.manifest import DamagedError

_MAGIC = b"paceline sha256 "
_COMMENT = len(_MAGIC) + 64  # bytes
_LENGTH = struct.pack("<H", _COMMENT)
_NO_COMMENT = struct.pack("<H", 0)
_END, _END_BYTES = b"PK\x05\x06", 22  # the archive's last record, without the comment


def seal(sha256: str) -> bytes:
    """Return what takes the place of the last 2 bytes of a file whose SHA-256 is given."""
    return _LENGTH + _MAGIC + sha256.encode()


def check_seal(data: bytes) -> bool:
    """Return whether a file is sealed. Raises DamagedError when it is, and is not what was sealed."""
    comment = data[-_COMMENT:]
    if not comment.startswith(_MAGIC) and _comment_length(data) != _COMMENT:
        return False
    body = memoryview(data)[: max(0, len(data) - _COMMENT - len(_LENGTH))]
    digest = hashlib.sha256(body)
    digest.update(_NO_COMMENT)
    if data[len(body) :] != seal(digest.hexdigest()):
        raise DamagedError("it is not what was written (SHA-256)")
    return True


def _comment_length(data: bytes) -> int:
    """Return the length that the last record gives, wherever it stands; 0 where there is no such record."""
    at = data.rfind(_END)
    length = data[at + _END_BYTES - 2 : at + _END_BYTES]
    return struct.unpack("<H", length)[0] if at >= 0 and len(length) == 2 else 0
