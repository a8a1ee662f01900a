"""What must hold of a file of `torch.save` before and after `torch.load`: it cannot take more than its own size.

The restricted loader runs no code, but it inflates what is compressed, and calls constructors that allocate as much as
they are told. What torch.save writes is not compressed, and calls a few functions that allocate nothing.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paceline.checkpoint import tree
from paceline.checkpoint.manifest import DamagedError

DICT = "collections OrderedDict"
CALLED = {DICT, *(f"torch._utils _rebuild_{kind}" for kind in ("parameter", "tensor_v2", "tensor_v3"))}
FILLING = ("APPEND", "APPENDS", "BUILD", "SETITEM", "SETITEMS")  # what they fill stays on the stack
LEAST = 10_000  # values; no file is so small that these would be too many
ENDLESS = 1 << 62


def check_archive(data: bytes) -> None:
    """Raise DamagedError unless a file is an archive as `torch.save` writes it, whose content is no larger than it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise DamagedError("its content is compressed, which torch.save does not do")
            names = {entry.filename for entry in entries}
            if len(names) < len(entries) or sum(entry.file_size for entry in entries) > len(data):
                raise DamagedError("entries of its archive overlap")
            pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise DamagedError("it is no archive of torch.save")
            _check_pickle(archive.read(pickles[0]))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        raise DamagedError(f"it is no archive of torch.save: {error}") from error


def check_loaded(state: object, size: int) -> None:
    """Raise DamagedError for what a file of `size` bytes can only hold by repeating itself.

    A list that contains one list twice, which contains another twice, and so on, is small until someone walks it; a
    tensor that repeats one number is, until someone copies it.
    """
    if _count(state, {}, 0) > max(size, LEAST):
        raise DamagedError("it repeats itself without end")
    for tensor in _tensors(state):
        if tensor.numel() * tensor.element_size() > size:
            raise DamagedError(f"a tensor of shape {tuple(tensor.shape)} is larger than the file")


class _Item(NamedTuple):
    """What the loader would have on its stack. name: of a global, or of the function that made it. values: how many."""

    name: str = ""
    values: int = 1


_MARK = _Item("(mark)")


def _check_pickle(data: bytes) -> None:
    """Follow every operation without doing any. Raises DamagedError for calls that torch.save does not write."""
    stack: list[_Item] = []
    memo: dict[Any, _Item] = {}
    try:
        for operation, argument, _ in pickletools.genops(data):
            _follow(operation, argument, stack, memo)
            if stack and stack[-1].values > max(len(data), LEAST):
                raise DamagedError("it repeats itself without end")
    except (ValueError, LookupError) as error:
        raise DamagedError(f"its pickle is damaged: {error}") from error


def _follow(operation: pickletools.OpcodeInfo, argument: Any, stack: list[_Item], memo: dict[Any, _Item]) -> None:
    name = operation.name
    if name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "MARK":
        stack.append(_MARK)
    elif name == "GLOBAL":
        stack.append(_global(str(argument)))
    else:
        taken = _take(operation, stack)
        made = taken[0].name if name == "REDUCE" else ""
        filled = name == "BUILD" and taken[0].name != f"{DICT}()"  # which may have attributes
        if filled or name == "NEWOBJ" or (name == "REDUCE" and made not in CALLED):
            raise DamagedError(f"it calls {taken[0].name.replace(' ', '.') or 'what is no function'}")
        if operation.stack_after:
            kept = taken[0].name if name in FILLING else f"{made}()" * bool(made)
            stack.append(_Item(kept, sum(item.values for item in taken) + 1))


def _take(operation: pickletools.OpcodeInfo, stack: list[_Item]) -> list[_Item]:
    """Take from the stack what an operation takes."""
    taken: list[_Item] = []
    wanted = len(operation.stack_before)
    if pickletools.markobject in operation.stack_before:
        wanted = operation.stack_before.index(pickletools.markobject)
        while (item := stack.pop()) is not _MARK:
            taken.append(item)
    return [stack.pop() for _ in range(wanted)][::-1] + taken


def _global(name: str) -> _Item:
    module, _, attribute = name.partition(" ")
    found = getattr(torch, attribute, None) if module == "torch" else None
    is_kind = isinstance(found, torch.dtype) or (attribute.endswith("Storage") and module in ("torch", "torch.storage"))
    if name not in CALLED and not is_kind:
        raise DamagedError(f"it names {name.replace(' ', '.')}")
    return _Item(name)


def _count(value: object, known: dict[int, int], depth: int) -> int:
    """Count the values of a tree as someone would who walks it, without walking anything twice."""
    if not isinstance(value, dict | list | tuple):
        return 1
    if depth > tree.MAX_DEPTH:
        return ENDLESS
    if id(value) not in known:
        known[id(value)] = ENDLESS  # until it is counted: what contains itself is endless
        children = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(child, known, depth + 1) for child in children)
    return known[id(value)]


def _tensors(state: object) -> Iterable[Tensor]:
    seen: set[int] = set()
    left = [state]
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            left.extend(value.values() if isinstance(value, dict) else value)
