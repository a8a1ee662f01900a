"""The nearest valid name, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name most like `name` (also by its last dotted part), or None."""
    names = list(valid)
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not found:
        tails = {candidate.rpartition(".")[2]: candidate for candidate in names}
        found = [tails[t] for t in difflib.get_close_matches(name.rpartition(".")[2], list(tails), n=1, cutoff=0.75)]
    return found[0] if found else None


def hint(name: str, valid: Iterable[str], limit: int = 12) -> str:
    """Say which names are valid, the nearest first."""
    names = sorted(valid)
    near = nearest(name, names)
    listed = ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
    return f"{near} (valid: {listed})" if near else f"one of: {listed}"
