"""A model of a disk that forgets what was not synced, and what each crash may leave of it.

Nothing is durable before its own fsync: a file's content by that of the file, a folder's entries by that of the folder.
What is not synced may have reached the disk or not, in any order; a write may have reached it in part, or only as the
file's length.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = 0  # the number of the folder that is recorded


@dataclass
class File:
    """Content that is durable, and the writes since: (position, bytes); a bare length is a truncation."""

    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)


@dataclass
class Folder:
    """Entries (name to number) that are durable, and the changes since: (name, number or None)s that go together."""

    durable: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[tuple[str, int | None], ...]] = field(default_factory=list)


class Disk:
    """Files and folders by number. `apply` takes one recorded operation, `show` writes one crash into a real folder."""

    def __init__(self) -> None:
        self.nodes: dict[int, File | Folder] = {ROOT: Folder()}

    def apply(self, operation: tuple[Any, ...]) -> None:
        kind, *rest = operation
        if kind in ("create", "mkdir"):
            parent, name, number = rest
            self.nodes[number] = File() if kind == "create" else Folder()
            self._folder(parent).pending.append(((name, number),))
        elif kind == "write":
            self._file(rest[0]).pending.append((rest[1], rest[2]))
        elif kind == "remove":
            self._folder(rest[0]).pending.append(((rest[1], None),))
        elif kind == "rename":
            source, name, target, new, number = rest
            if source == target:
                self._folder(source).pending.append(((name, None), (new, number)))
            else:
                self._folder(source).pending.append(((name, None),))
                self._folder(target).pending.append(((new, number),))
        elif kind == "fsync":
            node = self.nodes[rest[0]]
            if isinstance(node, File):
                node.durable = written(node, lambda position, data: data)
            else:
                node.durable = entries(node, lambda change: True)
            node.pending.clear()

    def show(self, target: Path, choice: Choice) -> None:
        """Write what a crash may leave into an empty folder."""
        self._show(ROOT, target, choice, set())

    def _show(self, number: int, path: Path, choice: Choice, above: set[int]) -> None:
        node = self.nodes[number]
        if isinstance(node, File):
            path.write_bytes(written(node, choice.data))
            return
        path.mkdir(exist_ok=True)
        for name, child in entries(node, choice.entry).items():
            if child not in above:
                self._show(child, path / name, choice, above | {number})

    def _folder(self, number: int) -> Folder:
        node = self.nodes[number]
        assert isinstance(node, Folder)
        return node

    def _file(self, number: int) -> File:
        node = self.nodes[number]
        assert isinstance(node, File)
        return node


def written(file: File, chosen: Callable[[int, bytes], bytes | None]) -> bytes:
    """Return a file's content with the chosen part of each write."""
    content = bytearray(file.durable)
    for position, data in file.pending:
        if data is None:
            del content[position:]
            content.extend(bytes(position - len(content)))
        elif (kept := chosen(position, data)) is not None:
            content.extend(bytes(max(0, position + len(kept) - len(content))))
            content[position : position + len(kept)] = kept
    return bytes(content)


def entries(folder: Folder, chosen: Callable[[tuple[tuple[str, int | None], ...]], bool]) -> dict[str, int]:
    """Return a folder's entries after the chosen changes."""
    found = dict(folder.durable)
    for change in folder.pending:
        for name, number in change if chosen(change) else ():
            if number is None:
                found.pop(name, None)
            else:
                found[name] = number
    return found


@dataclass(frozen=True)
class Choice:
    """Which of the unsynced operations reached the disk."""

    name: str
    entry: Callable[[tuple[tuple[str, int | None], ...]], bool]
    data: Callable[[int, bytes], bytes | None]


def choices(rng: random.Random, drawn: int) -> list[Choice]:
    """Nothing, all, names without content, content without names, names with empty blocks; and so many drawn ones."""

    def some(position: int, data: bytes) -> bytes | None:
        kind = rng.randrange(4)
        return (None, data, data[: rng.randrange(len(data) + 1)], bytes(len(data)))[kind]

    fixed = [
        Choice("nothing unsynced", lambda change: False, lambda position, data: None),
        Choice("everything", lambda change: True, lambda position, data: data),
        Choice("names without content", lambda change: True, lambda position, data: None),
        Choice("names, blocks of zeros", lambda change: True, lambda position, data: bytes(len(data))),
        Choice("content without names", lambda change: False, lambda position, data: data),
    ]
    return [*fixed, *(Choice("drawn", lambda change: rng.random() < 0.5, some) for _ in range(drawn))]
