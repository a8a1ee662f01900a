"""A copy of a state that later steps cannot touch, and a thread that does one thing at a time with it."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

RESERVED_BYTES = 4 << 20  # of a smaller state, the first copy takes no longer than a step
_Path = tuple[object, ...]
_Place = tuple[int, torch.dtype, torch.device, torch.Size, tuple[int, ...], bool, bool]


class Snapshots:
    """Copies states into memory of the host, the same memory each time: at most one copy is valid, the last.

    Fresh memory is what makes a copy slow: 38 ms for 100 MB against 6 into memory that is there (one core, measured).
    So a large state's memory is made before its first copy, in a thread.
    """

    def __init__(self) -> None:
        self._buffers: dict[_Path, Tensor] = {}
        self._reserving = Background()

    def reserve(self, state: Mapping[str, Any]) -> None:
        """Begin to provide the memory that a copy of such a state takes; nothing of the state is read but its form."""
        unique = {_place(value): (path, value.detach()) for path, value in _tensors(state, ())}  # as `take` names them
        wanted = dict(unique.values())
        if sum(value.numel() * value.element_size() for value in wanted.values()) < RESERVED_BYTES:
            return

        def provide() -> None:
            buffers = {path: _buffer(None, value) for path, value in wanted.items()}
            for buffer in buffers.values():
                _touch(buffer)
            self._buffers = buffers

        self._reserving.start(provide)

    def take(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a deep copy: tensors on the CPU, lists and dicts rebuilt. What shares memory is copied once."""
        self._reserving.wait()
        self._reserving.take_error()  # where there is no memory, what follows says so
        copies: dict[_Place, Tensor] = {}
        pairs: list[tuple[Tensor, Tensor]] = []  # (copy, original)
        used: dict[_Path, Tensor] = {}

        def copied(value: Any, path: _Path) -> Any:
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


def _tensors(value: Any, path: _Path) -> Iterator[tuple[_Path, Tensor]]:
    """Yield the tensors of a tree with their paths, from the last to the first."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key in reversed(value):
            yield from _tensors(value[key], (*path, key))
    elif isinstance(value, list | tuple):
        for index in reversed(range(len(value))):
            yield from _tensors(value[index], (*path, index))


def _touch(buffer: Tensor) -> None:
    """Write to all of a tensor's memory, which is what makes the system provide it. On one thread, without the lock."""
    storage = buffer.untyped_storage()
    if storage.nbytes():
        ctypes.memset(storage.data_ptr(), 0, storage.nbytes())


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
