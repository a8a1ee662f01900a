"""What a checkpoint may hold: tensors, str, int, float, bool, None, and plain dicts, lists and tuples of these."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from paceline.errors import CheckpointError

MAX_DEPTH = 64  # nested deeper, or a container inside itself: the restricted loader would fail on it
MAX_INT_BITS = 1024  # the restricted loader reads integers of up to 255 bytes


def check(tree: object) -> None:
    """Raise CheckpointError, naming the dotted key and the type, for the first value that no checkpoint may hold.

    Types are exact. Subclasses (NumPy scalars, OrderedDict, defaultdict, named tuples, enumerations) are refused: the
    restricted loader would refuse them or give back something else.
    """
    found = _first_problem(tree, 0)
    if found is not None:
        keys, problem = found
        raise CheckpointError(
            f"a checkpoint cannot hold {problem}",
            where=".".join(str(key) for key in keys) or ROOT,
            hint="tensors, str, int, float, bool, None, dict (str or int keys), list and tuple; "
            "dict(...) for a state_dict, .tolist() or torch.from_numpy for NumPy, str(...) for a path",
        )


def equal(a: object, b: object) -> list[str]:
    """Return the dotted paths at which two trees differ; none means that they are the same.

    Everything is compared by its bits: dtype, shape and content of tensors (on any device, whatever their strides),
    floats with their NaN payload and sign of zero, types exactly (True is not 1). The order of a dict is free.
    """
    return list(_differences(a, b, ""))


def compact(tree: Any) -> Any:
    """Return the tree as it should be written: no gradients, and views of larger storages cut out.

    `torch.save` writes the whole storage behind a view, which for one member of a stack is the whole stack; and it
    refuses two dtypes on one storage. Other tensors are passed on uncopied.
    """
    return _compact(tree, {})


def count_bytes(tree: object) -> int:
    """Return the bytes of all tensors, which is nearly what a file of them takes."""
    if isinstance(tree, Tensor):
        return tree.numel() * tree.element_size()
    return sum(count_bytes(value) for _, value in _children(tree) if type(value) not in _SIMPLE)


ROOT = "(the whole state)"
_TENSORS = (Tensor, torch.nn.Parameter)
_SIMPLE = frozenset((str, float, bool, type(None)))  # never wrong; skipped without a call, for long histories
_PLAIN = _SIMPLE | {int, dict, list, tuple}


def _children(value: object) -> Iterable[tuple[object, object]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list | tuple) else ()


def _first_problem(value: object, depth: int) -> tuple[tuple[object, ...], str] | None:
    problem = _problem(value) if depth <= MAX_DEPTH else f"a value nested deeper than {MAX_DEPTH}"
    if problem:
        return (), problem
    for key, child in _children(value):
        if type(child) not in _SIMPLE:
            found = _first_problem(child, depth + 1)
            if found is not None:
                return (key, *found[0]), found[1]
    return None


def _compact(tree: Any, dtypes: dict[int, torch.dtype]) -> Any:
    """`dtypes` maps the storages seen so far, by address, to the dtype that they are saved with."""
    if isinstance(tree, Tensor):
        plain = tree.detach() if tree.requires_grad or type(tree) is not Tensor else tree
        storage = plain.untyped_storage()
        is_part = storage.nbytes() != plain.numel() * plain.element_size()  # or an expanded one
        if is_part or dtypes.setdefault(storage.data_ptr(), plain.dtype) != plain.dtype:
            return plain.clone(memory_format=torch.contiguous_format)
        return plain
    if isinstance(tree, dict):
        return {key: value if type(value) in _SIMPLE else _compact(value, dtypes) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)([value if type(value) in _SIMPLE else _compact(value, dtypes) for value in tree])
    return tree


def _problem(value: object) -> str | None:
    """Say what is wrong with one value, its children aside."""
    kind = type(value)
    if kind in _TENSORS:
        assert isinstance(value, Tensor)
        usable = value.layout == torch.strided and value.device.type != "meta" and not value.is_quantized
        return None if usable and not value.is_nested else "a sparse, nested, quantized or meta tensor"
    if kind not in _PLAIN:
        return f"a value of type {_name(kind)}"
    if kind is int:
        assert isinstance(value, int)
        return f"an integer of more than {MAX_INT_BITS} bits" if value.bit_length() > MAX_INT_BITS else None
    if kind is dict:
        assert isinstance(value, dict)
        for key in value:
            if type(key) not in (str, int) or (type(key) is int and key.bit_length() > MAX_INT_BITS):
                return f"a dict with a key of type {_name(type(key))}: {key!r:.60}"
    return None


def _differences(a: object, b: object, path: str) -> Iterator[str]:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if not _same_tensor(a, b):
            yield path or ROOT
    elif type(a) is not type(b):
        yield path or ROOT
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            if key in a and key in b:
                yield from _differences(a[key], b[key], _join(path, key))
            else:
                yield _join(path, key)
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple):
        for index in range(max(len(a), len(b))):
            if index < len(a) and index < len(b):
                yield from _differences(a[index], b[index], _join(path, index))
            else:
                yield _join(path, index)
    elif isinstance(a, float) and isinstance(b, float):
        if struct.pack("<d", a) != struct.pack("<d", b):
            yield path or ROOT
    elif a != b:
        yield path or ROOT


def _same_tensor(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(raw_bytes(a), raw_bytes(b))


def raw_bytes(x: Tensor) -> Tensor:
    """Return the bytes of a tensor in row-major order, on the CPU; a view where that is possible."""
    if not x.numel():  # loaded from a file, it may have a stride of 0, which cannot be viewed as bytes
        return torch.empty(0, dtype=torch.uint8)
    return x.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).view(torch.uint8)


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
