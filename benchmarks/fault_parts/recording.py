"""Records what this process does to the files below a folder, as operations for the model of a disk."""

from __future__ import annotations

import io
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .disk import ROOT

HOOKED = ("open", "write", "fsync", "close", "mkdir", "rename", "replace", "unlink", "rmdir", "lseek", "ftruncate")
REFUSED = ("truncate", "link", "symlink", "pwrite", "writev", "sendfile")  # nothing that saves uses them


@dataclass
class _Opened:
    path: str
    position: int
    appends: bool


class Recorder:
    """Keeps the operations of `recording`; `mark` notes a fact among them. Each is (kind, numbers and names...)."""

    def __init__(self, folder: Path, *, syncs: bool = True) -> None:
        self.operations: list[tuple[Any, ...]] = []
        self._root, self._syncs = os.path.realpath(folder), syncs
        self._numbers = itertools.count(ROOT + 1)
        self._tree: dict[str, int] = {self._root: ROOT}  # path to number
        self._opened: dict[int, _Opened] = {}  # by descriptor
        self._lock = threading.RLock()
        self._real: dict[str, Any] = {}

    def mark(self, *fact: Any) -> None:
        with self._lock:
            self.operations.append(("mark", *fact))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Hook the functions of `os`, and unbuffered files. Buffered files are not seen."""
        self._real = {name: getattr(os, name) for name in (*HOOKED, *REFUSED)}
        plain = io.open
        for name in HOOKED:
            setattr(os, name, self._hooked(name))
        for name in REFUSED:
            setattr(os, name, self._refusing(name))
        io.open = self._open_unbuffered(plain)  # type: ignore[assignment]
        try:
            yield
        finally:
            io.open = plain
            for name, real in self._real.items():
                setattr(os, name, real)

    def _hooked(self, name: str) -> Callable[..., Any]:
        handle = getattr(self, f"_on_{name}")

        def call(*args: Any, **options: Any) -> Any:
            with self._lock:
                return handle(self._real[name], *args, **options)

        return call

    def _refusing(self, name: str) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            inside = path in self._opened if isinstance(path, int) else self._number(self._path(path)) is not None
            assert not inside, f"os.{name} is not recorded"
            return self._real[name](path, *args, **options)

        return call

    def _on_open(self, real: Any, path: Any, flags: int, *args: Any, dir_fd: int | None = None, **options: Any) -> int:
        full = self._path(path, dir_fd)
        existed = os.path.lexists(full)
        descriptor: int = real(path, flags, *args, dir_fd=dir_fd, **options)
        if self._parent(full) is None and full != self._root:
            return descriptor
        if not existed:
            self._create("create", full)
        elif flags & os.O_TRUNC:
            self.operations.append(("write", self._tree[full], 0, None))
        self._opened[descriptor] = _Opened(full, 0, bool(flags & os.O_APPEND))
        return descriptor

    def _on_write(self, real: Any, descriptor: int, data: Any) -> int:
        file = self._opened.get(descriptor)
        if file is None:
            count: int = real(descriptor, data)
            return count
        position = os.fstat(descriptor).st_size if file.appends else file.position
        count = real(descriptor, data)
        kept = bytes(memoryview(data).cast("B")[:count])
        self.operations.append(("write", self._tree[file.path], position, kept))
        file.position = position + count
        return count

    def _on_fsync(self, real: Any, descriptor: int) -> None:
        if self._syncs and descriptor in self._opened:
            self.operations.append(("fsync", self._tree[self._opened[descriptor].path]))
        # The model decides what is durable, so nobody has to wait for the real disk.

    def _on_close(self, real: Any, descriptor: int) -> None:
        self._opened.pop(descriptor, None)
        real(descriptor)

    def _on_lseek(self, real: Any, descriptor: int, *args: Any) -> int:
        position: int = real(descriptor, *args)
        if descriptor in self._opened:
            self._opened[descriptor].position = position
        return position

    def _on_ftruncate(self, real: Any, descriptor: int, length: int) -> None:
        real(descriptor, length)
        if descriptor in self._opened:
            self.operations.append(("write", self._tree[self._opened[descriptor].path], length, None))

    def _on_mkdir(self, real: Any, path: Any, *args: Any, dir_fd: int | None = None) -> None:
        real(path, *args, dir_fd=dir_fd)
        full = self._path(path, dir_fd)
        if self._parent(full) is not None:
            self._create("mkdir", full)

    def _on_rename(self, real: Any, source: Any, target: Any, **options: Any) -> None:
        real(source, target, **options)
        old, new = self._path(source), self._path(target)
        before, after = self._parent(old), self._parent(new)
        if before is None or after is None:
            assert before is after, "a rename out of the folder, or into it"
            return
        number = self._tree[old]
        moved = {path: n for path, n in self._tree.items() if path == old or path.startswith(old + os.sep)}
        for path in moved:
            del self._tree[path]
        self._tree |= {new + path[len(old) :]: n for path, n in moved.items()}
        for file in self._opened.values():
            if file.path == old or file.path.startswith(old + os.sep):
                file.path = new + file.path[len(old) :]
        self.operations.append(("rename", *before, *after, number))

    _on_replace = _on_rename

    def _on_unlink(self, real: Any, path: Any, *, dir_fd: int | None = None) -> None:
        full = self._path(path, dir_fd)
        real(path, dir_fd=dir_fd)
        parent = self._parent(full)
        if parent is not None:
            self._tree.pop(full, None)
            self.operations.append(("remove", *parent))

    _on_rmdir = _on_unlink

    def _create(self, kind: str, full: str) -> None:
        parent, number = self._parent(full), next(self._numbers)
        assert parent is not None
        self._tree[full] = number
        self.operations.append((kind, *parent, number))

    def _number(self, full: str) -> int | None:
        return self._tree.get(full)

    def _parent(self, full: str) -> tuple[int, str] | None:
        """Return a path's folder and name, None outside of what is recorded."""
        folder, name = os.path.split(full)
        number = self._tree.get(folder)
        return None if number is None else (number, name)

    def _path(self, path: Any, dir_fd: int | None = None) -> str:
        if isinstance(path, int):
            return self._opened[path].path if path in self._opened else ""
        text = os.fsdecode(path)
        if not os.path.isabs(text):
            text = os.path.join(self._opened[dir_fd].path if dir_fd in self._opened else os.getcwd(), text)
        folder, name = os.path.split(os.path.normpath(text))
        return os.path.join(os.path.realpath(folder), name)

    def _open_unbuffered(self, plain: Any) -> Callable[..., Any]:
        class Unbuffered(io.FileIO):
            def write(self, data: Any, /) -> int:
                return os.write(self.fileno(), data)

            def truncate(self, size: int | None = None, /) -> int:
                length = self.tell() if size is None else size
                os.ftruncate(self.fileno(), length)
                return length

            def seek(self, position: int, whence: int = 0, /) -> int:
                return os.lseek(self.fileno(), position, whence)

            def close(self) -> None:
                if not self.closed:
                    opened.pop(self.fileno(), None)
                super().close()

        opened = self._opened

        def call(path: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
            if buffering == 0 and not isinstance(path, int) and set(mode) & set("wax+"):
                return Unbuffered(path, mode.replace("b", ""), opener=lambda name, flags: os.open(name, flags, 0o666))
            return plain(path, mode, buffering, *args, **options)

        return call
