"""One optimizer step compiled as a single graph, or run as it is where that cannot be done."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable, Hashable
from types import FunctionType, MethodType
from typing import Any

import torch


class WholeStep:
    """Calls a method of tensors; `compiled` makes it one graph (`fullgraph=True`: never partly interpreted).

    Whoever calls says by `shape` which graph is meant: calls of one shape have tensors of equal sizes and types, and
    everything else that the method reads is fixed. So each graph is compiled from a code object of its own and called
    without torch's guards, which cost 40 us a call (a third of a single small member's step).

    When compiling fails (no C++ compiler, an operation that cannot be traced) the method runs as it is from then on;
    `failed` is called with the reason, in one line.
    """

    def __init__(self, method: MethodType, *, compiled: bool, failed: Callable[[str], None]) -> None:
        self._failed = failed
        self._plain: Callable[..., None] = method
        self._method = method if compiled else None
        self._graphs: dict[Hashable, Callable[..., None]] = {}

    @property
    def compiled(self) -> bool:
        """Whether the method is compiled, or will be at its next call."""
        return self._method is not None

    def __call__(self, shape: Hashable, *args: Any) -> None:
        """Run the method on `args`."""
        if self._method is None:
            self._plain(*args)
            return
        if shape in self._graphs:
            self._graphs[shape](*args)
            return
        options: dict[str, Any] = {"guard_filter_fn": _none} | _processor_options()
        graph = torch.compile(_copied(self._method), fullgraph=True, dynamic=False, options=options)
        try:
            graph(*args)
            self._graphs[shape] = graph
        except Exception as error:  # the compiler raises whatever its backend does
            if not _is_compiler_error(error):
                raise
            self._method = None
            self._failed(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
            self._plain(*args)


@functools.cache
def _processor_options() -> dict[str, bool]:
    """Return the option that takes this processor's instructions for granted, where the compiler knows them all.

    Otherwise torch compiles and loads a program of its own headers for each set of instructions: 4 of the 12 s of a
    first compilation. To ask the preprocessor whether it knows their flags takes .03 s.
    """
    from torch._inductor import cpp_builder, cpu_vec_isa

    try:
        supported = cpu_vec_isa.x86_isa_checker()  # [] on other processors: there torch checks nothing
        named = [isa for isa in cpu_vec_isa.supported_vec_isa_list if set(str(isa).split()) <= set(supported)]
        flags = {flag for isa in named for flag in isa.build_arch_flags().split()}
        command = [cpp_builder.get_cpp_compiler(), *sorted(flags), "-E", "-x", "c++", os.devnull]
        known = bool(flags) and subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except Exception:  # no compiler, or another torch: it then says so itself
        known = False
    return {"cpp.vec_isa_ok": True} if known else {}


def _copied(method: MethodType) -> MethodType:
    """Return the method with a code object of its own: torch keeps compiled graphs by code object."""
    function = method.__func__
    assert isinstance(function, FunctionType)
    code = function.__code__.replace()
    copied = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    return MethodType(copied, method.__self__)


def _none(guards: list[Any]) -> list[bool]:
    """Keep no guard."""
    return [False] * len(guards)


def _is_compiler_error(error: Exception) -> bool:
    """Tell a failure of the compiler from an error of the step itself, before anything was computed."""
    home = type(error).__module__
    return home.startswith(("torch._dynamo", "torch._inductor", "torch._functorch", "torch.fx"))
