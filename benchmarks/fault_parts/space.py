"""Disks that are really full: a file-size limit, and a small file system in a namespace of the child's own."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

from .forking import run_forked

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER
_PRIVATE = (1 << 18) | (1 << 14)  # MS_PRIVATE | MS_REC


def limit_files(size: int) -> None:
    """`ulimit -f`: no file of this process may grow beyond so many bytes. Python gets an error, not the signal."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def mount_small(folder: Path, size: int) -> None:
    """Mount an empty file system of so many bytes (whole pages) for this process alone. For a forked child.

    Raises OSError where the system does not allow it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    _check(libc.unshare(_NEW_MOUNTS | _NEW_USER))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _check(libc.mount(b"none", b"/", None, _PRIVATE, None))
    mount_more(folder, size)


def mount_more(folder: Path, size: int) -> None:
    """Mount once more, in a process that has a namespace of its own already."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()))


def unmount(folder: Path) -> None:
    """Take the file system away again; the folder shows what was under it."""
    _check(ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(folder), 2))


def unmountable(folder: Path) -> str:
    """Why no file system can be mounted here, or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    ended = run_forked(lambda: mount_small(folder, 65536))
    return "" if ended.code == 0 else f"no namespace of its own: {ended.text}"


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
