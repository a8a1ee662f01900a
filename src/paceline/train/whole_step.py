"""One optimizer step compiled as a single graph, or run as it is where that cannot be done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

LOG = logging.getLogger("paceline")


class WholeStep:
    """Calls a function of tensors; `compiled` makes it one graph (`fullgraph=True`: never partly interpreted).

    When compiling fails (no C++ compiler, an operation that cannot be traced) the function runs as it is from then on;
    `failure` says why, in one line. Shapes are static: a smaller last batch is a graph of its own.
    """

    def __init__(self, function: Callable[..., None], *, compiled: bool) -> None:
        self._plain = function
        self._compiled: Callable[..., None] | None = None
        self._proved = False
        self.failure: str | None = None
        if compiled:
            self._compiled = torch.compile(function, fullgraph=True, dynamic=False)

    def __call__(self, *args: Any) -> None:
        if self._compiled is None:
            self._plain(*args)
            return
        if self._proved:
            self._compiled(*args)
            return
        try:
            self._compiled(*args)
            self._proved = True
        except Exception as error:  # the compiler raises whatever its backend does
            if not _is_compiler_error(error):
                raise
            self.failure = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            LOG.warning("the step could not be compiled and runs uncompiled: %s", self.failure)
            self._compiled = None
            self._plain(*args)


def _is_compiler_error(error: Exception) -> bool:
    """Tell a failure of the compiler from an error of the step itself, before anything was computed."""
    home = type(error).__module__
    return home.startswith(("torch._dynamo", "torch._inductor", "torch._functorch", "torch.fx"))
