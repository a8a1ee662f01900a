"""Running the tensor operations of a function again without the Python that led to them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any


class Replay:
    """Calls functions of tensors; from the second call of a shape on, only their tensor operations run again.

    An evaluation of stacked small models spends half of its time in `vmap` and in the modules' own Python (16 MLPs on
    256 rows: 1.1 ms, of which .5 ms are operations). The operations stay the same, so no bit changes.

    Whoever calls says by `shape` which calls are of one function on tensors of equal sizes and types. Everything else
    that the function reads must stay what it is, as for a compiled step (`whole_step`). A function that cannot be
    recorded, as it reads a number on the host, is called as it is.
    """

    def __init__(self) -> None:
        self._recorded: dict[Hashable, Callable[..., Any]] = {}

    def __call__(self, shape: Hashable, function: Callable[..., Any], *args: Any) -> Any:
        """Return function(*args), computed without gradients. args: tensors, or dicts of tensors."""
        if shape in self._recorded:
            return self._recorded[shape](*args)
        found = function(*args)  # an error of the function's own comes from here
        self._recorded[shape] = _recorded(function, args)
        return found


def _recorded(function: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        recorded: Callable[..., Any] = make_fx(function)(*args)
    except Exception:  # whatever a tracer raises
        return function
    return recorded
