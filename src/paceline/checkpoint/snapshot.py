"""A copy of a state that later steps cannot touch, and a thread that does one thing at a time with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_Place = tuple[int, torch.dtype, torch.device, torch.Size, tuple[int, ...], bool, bool]


class Snapshots:
    """Copies states into memory of the host, the same memory each time: at most one copy is valid, the last.

    Fresh memory is what makes a copy slow: 38 ms for 100 MB against 6 into memory that is there (one core, measured).
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[object, ...], Tensor] = {}  # by path

    def take(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a deep copy: tensors on the CPU, lists and dicts rebuilt. What shares memory is copied once."""
        copies: dict[_Place, Tensor] = {}
        pairs: list[tuple[Tensor, Tensor]] = []  # (copy, original)
        used: dict[tuple[object, ...], Tensor] = {}

        def copied(value: Any, path: tuple[object, ...]) -> Any:
            if isinstance(value, Tensor):
                place = _place(value)
                if place not in copies:
                    copies[place] = used[path] = _buffer(self._buffers.get(path), value)
                    pairs.append((used[path], value.detach()))
                return copies[place]
            if isinstance(value, dict):
                return {key: copied(child, (*path, key)) for key, child in value.items()}
            if isinstance(value, list | tuple):
                return type(value)([copied(child, (*path, index)) for index, child in enumerate(value)])
            return value

        taken = {key: copied(value, (key,)) for key, value in state.items()}
        _copy(pairs)
        self._buffers = used
        return taken


class Background:
    """Runs one job at a time in a thread of its own; what it raised waits until someone asks."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, job: Callable[[], object]) -> None:
        """Begin a job. The one before must have ended, and its error been taken."""
        assert self._thread is None and self._error is None
        self._thread = threading.Thread(target=self.run, args=(job,), name="paceline-save")
        try:
            self._thread.start()
        except RuntimeError:  # the system gives no more threads
            self._thread = None
            self.run(job)

    def run(self, job: Callable[[], object]) -> None:
        """Do a job at once."""
        try:
            job()
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """Return when no job is under way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def take_error(self) -> BaseException | None:
        """Return what the last job raised, once; None while it is under way."""
        if self.busy:
            return None
        error, self._error = self._error, None
        return error


def _place(value: Tensor) -> _Place:
    """Say which memory a tensor shows, and how."""
    return (value.data_ptr(), value.dtype, value.device, value.shape, value.stride(), value.is_conj(), value.is_neg())


def _buffer(buffer: Tensor | None, value: Tensor) -> Tensor:
    """Return memory for a copy: what served the same place before, if it still fits.

    A tensor that was permuted stays so: the kernels of an optimizer count on weights and moments of equal strides.
    """
    fits = buffer is not None and buffer.dtype == value.dtype and buffer.shape == value.shape
    if buffer is not None and fits and buffer.stride() == value.stride():
        return buffer
    # Pinned, so that copies from an accelerator overlap.
    return torch.empty_like(value.detach(), device="cpu", pin_memory=value.device.type == "cuda")


@torch.no_grad()
def _copy(pairs: list[tuple[Tensor, Tensor]]) -> None:
    if pairs:
        cuda = any(original.device.type == "cuda" for _, original in pairs)
        torch._foreach_copy_([copy for copy, _ in pairs], [original for _, original in pairs], non_blocking=cuda)
        if cuda:
            torch.cuda.synchronize()
