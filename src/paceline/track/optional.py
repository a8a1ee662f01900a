"""Packages that may be absent."""

from __future__ import annotations

import importlib.util


def installed(package: str) -> bool:
    """Whether a package could be imported; it is not imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:  # of a finder that refuses it
        return False
