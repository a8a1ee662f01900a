"""What a run was made with: versions, machine, command. Recorded, never read back to decide anything but resume."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.run.scope import processor, scope_of
from paceline.track.redact import shown_words

if TYPE_CHECKING:
    from paceline.types import Plan

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "pydantic", "hydra-core")


def describe(command: Sequence[str], used: Sequence[Path], plan: Plan) -> dict[str, Any]:
    """Return the environment as plain values. `used` are the files given with `--use`; their SHA-256 is recorded."""
    from paceline.run.use import file_sha256

    return {
        "schema_version": 1,
        "paceline": importlib.metadata.version("paceline"),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "scope": scope_of(plan),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
        "command": shown_words(command),
        "use": [{"file": path.name, "sha256": file_sha256(path)} for path in used],
    }


def _git_commit() -> str | None:
    """The commit of the working folder, which is where a user's own code most likely is."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None


def command_line() -> list[str]:
    """The command as a user would type it."""
    return ["paceline", *sys.argv[1:]] if Path(sys.argv[0]).name.startswith("paceline") else list(sys.argv)
