"""How much larger than its file data may become: a few bytes must not fill the memory."""

from __future__ import annotations

from paceline.errors import DataError

MOST_UNASKED = 256 * 2**20  # bytes that any small file may become; beyond them, so many times what it holds:
MAX_RATIO = 100
UNEVEN = "the sequences differ too much in length to be padded to the longest"


def refuse_growth(
    needed: int, given: int, what: str, *, where: str, hint: str, unasked: int = MOST_UNASKED, ratio: int = MAX_RATIO
) -> None:
    """Raise `DataError` where `given` bytes would become `needed` bytes, unless that is little or in proportion."""
    if needed > unasked and needed > ratio * given:
        raise DataError(what, where=where, got=f"{given:,} bytes would become {needed:,}", hint=hint)
