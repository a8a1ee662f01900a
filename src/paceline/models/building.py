"""Building a model whose size somebody else may have chosen: it is refused before it takes the memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from paceline.errors import ModelError

Build = Callable[[], nn.Module]
TOO_LARGE = "the model does not fit into this machine's memory"


def build_shell(build: Build) -> nn.Module | None:
    """Build a model whose weights have shapes and take no memory; None where its code needs more than that."""
    try:
        with torch.device("meta"):
            made: object = build()
    except Exception:  # whatever it is, building it in earnest says so
        return None
    return made if isinstance(made, nn.Module) else None


def refuse_oversized(build: Build, where: str) -> None:
    """Raise ModelError where the weights alone are larger than the machine's memory. Takes none of it."""
    shell = build_shell(build)
    if shell is None or not hasattr(os, "sysconf"):
        return
    size = sum(p.numel() * p.element_size() for p in shell.parameters())
    if size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise ModelError(TOO_LARGE, where=where, got=f"weights of {size:,} bytes")


@contextmanager
def within_memory(where: str) -> Iterator[None]:
    """Turn what torch raises without enough memory into a ModelError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "allocate" in str(error):
            raise ModelError(TOO_LARGE, where=where, got=str(error)) from error
        raise
