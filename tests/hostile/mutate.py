"""Mutations of plain trees, of texts and of bytes; the same seed gives the same ones."""

from __future__ import annotations

import copy
import random
import re
from typing import Any

NAMES = (
    "../../outside", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "nul", "con.txt", "x" * 5000, "a\0b", "\x1b[31mred",
    "\x1b]0;title\x07", "\u202egnp.exe", "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "=1+1",
    "@SUM(A1)", "-2+3", "{{7*7}}", "${oc.env:HOME}", "$(touch x)", "`touch x`", "%s%n", "[red]x[/red]", "\ud800",
    "\ufeff", "e\u0301", "\U0001f600", "null", "true", "~", "1e5", "__class__", "seed42",
)  # fmt: skip
NUMBERS = (
    -1, 0, 1, 2, 3, 7, 1e-300, 1e308, -1e308, 10**18, 2**31, 2**63, 2**64, -(2**63), 10**50, 0.5, -0.0, 1e-9, 255, 1000,
)  # fmt: skip


def value(draw: random.Random, depth: int = 0) -> Any:
    """Return any plain value."""
    kind = draw.randrange(9 if depth < 3 else 6)
    if kind < 2:
        return draw.choice(NUMBERS)
    if kind < 4:
        return draw.choice(NAMES)
    if kind == 4:
        return draw.choice([None, True, False])
    if kind == 5:
        return draw.choice([[], {}, [[]], {"": {}}])
    if kind == 6:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind == 7:
        return {str(draw.choice(NAMES)): value(draw, depth + 1) for _ in range(draw.randrange(4))}
    deep: Any = draw.choice(NUMBERS)
    for _ in range(draw.choice([5, 40, 60, 300])):
        deep = [deep] if draw.random() < 0.5 else {"a": deep}
    return deep


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of every value in a tree, its own, (), left out."""
    if isinstance(tree, dict):
        pairs = list(tree.items())
    elif isinstance(tree, list | tuple):
        pairs = list(enumerate(tree))[:20]
    else:
        return []
    found: list[tuple[Any, ...]] = []
    for key, child in pairs:
        found += [(*path, key), *places(child, (*path, key))]
    return found


def mutated(tree: Any, draw: random.Random, new: Any = value) -> Any:
    """Return a copy of a tree with one to three values replaced, removed, renamed, repeated or added."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        found = places(tree)
        if not found:
            return new(draw)
        tree = _changed(tree, draw.choice(found), draw, new)
    return tree


def _changed(tree: Any, path: tuple[Any, ...], draw: random.Random, new: Any) -> Any:
    owner = tree
    for key in path[:-1]:
        owner = owner[key]
    if isinstance(owner, tuple):
        return new(draw) if len(path) == 1 else _changed(tree, path[:-1], draw, new)
    key, kind = path[-1], draw.randrange(10)
    if kind < 6:
        owner[key] = new(draw)
    elif kind == 6:
        del owner[key]
    elif isinstance(owner, dict):
        if kind == 7:
            owner[str(draw.choice(NAMES))] = owner.pop(key)
        elif kind == 8:
            owner[str(draw.choice(NAMES))] = new(draw)
        else:
            owner[key] = [owner[key]] * draw.choice([2, 50])
    elif kind < 9:
        owner.insert(key, new(draw))
    else:
        owner.extend(owner * draw.choice([1, 20]))
    return tree


SNIPPETS = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[2J", b"[" * 200, b"{" * 200, b"- " * 200, b'"', b"'", b"\n",
    b"\r", b", ", b"nan", b"inf", b"-inf", b"1e999", b"9" * 5000, b"&a [*a]", b"*x", b"<<: 3\n",
    b"!!python/object/apply:os.system [id]\n", b"!!binary aGk=", b"${oc.env:HOME}", b"? ", b"%YAML 9\n",
    b"---\n", b"NaN", b"Infinity", b"\\u0000", b"\\ud800", "\u202e".encode(), b"=cmd()", b"../../", b"@data\n",
    b"@classLabel true\n", b":" * 300, b", " * 300, b"x" * 70_000,
)  # fmt: skip


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Return bytes with one to three places flipped, cut, repeated, moved or filled with something."""
    for _ in range(draw.choice([1, 1, 1, 1, 2, 3])):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice([1, 1, 1, 4, 30, 500]))
        kind = draw.randrange(13)
        if kind == 0 and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[end:]
        elif kind == 2:
            data = data[:at] + data[at:end] * draw.choice([2, 20]) + data[end:]
        elif kind == 3:
            data = data[:at]
        elif kind == 4:
            data = data[:at] + draw.randbytes(draw.choice([1, 8, 64])) + data[end:]
        elif kind == 5:
            data = data[end:] + data[:at]
        elif kind > 7:
            data = _another_word(data, at, draw)
        else:
            data = data[:at] + draw.choice(SNIPPETS) + data[end if kind == 6 else at :]
    return data


def _another_word(data: bytes, at: int, draw: random.Random) -> bytes:
    """Put another word or number in place of the first one after a position."""
    found = re.compile(rb"[\w.+-]+").search(data, at)
    if found is None:
        return data
    word = str(draw.choice(draw.choice([NAMES, NUMBERS]))).encode("utf-8", "surrogatepass")
    return data[: found.start()] + word + data[found.end() :]
