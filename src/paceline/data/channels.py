"""Matching channels by name."""

from __future__ import annotations

from collections.abc import Sequence

from paceline.config.suggest import hint as name_hint
from paceline.errors import DataError


def channel_order(found: Sequence[str], wanted: Sequence[str], source: str) -> list[int]:
    """Return where in `found` each of the `wanted` channels is.

    Raises `DataError` for a channel that is not wanted, and for those that are absent.
    """
    unknown = [name for name in found if name not in wanted]
    absent = [name for name in wanted if name not in found]
    if unknown:
        raise DataError("the input has a column that the model was not trained on", where=source, got=unknown[0],
                        hint=name_hint(unknown[0], absent or wanted))  # fmt: skip
    if absent:
        listed = ", ".join(absent[:5]) + ", ..." * (len(absent) > 5)
        raise DataError(f"the input lacks {len(absent)} of {len(wanted)} channels", where=source, got=listed)
    return [list(found).index(name) for name in wanted]
