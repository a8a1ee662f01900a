"""The whole step's compiler settings."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ASK = "from paceline.train.whole_step import _processor_options as ask; print(ask())"


def asked(compiler: str) -> str:
    found = subprocess.run([sys.executable, "-c", ASK], env={**os.environ, "CXX": compiler}, capture_output=True,
                           text=True, check=True)  # fmt: skip
    return found.stdout.strip()


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="torch checks the instructions of x86 alone")
def test_instructions_are_taken_for_granted_only_where_the_compiler_knows_their_flags(tmp_path: Path) -> None:
    old = tmp_path / "old-compiler"
    old.write_text('#!/bin/sh\nfor a; do case "$a" in -mavx*) exit 1;; esac; done\nexec g++ "$@"\n', encoding="utf-8")
    old.chmod(0o755)
    assert asked("g++") == "{'cpp.vec_isa_ok': True}"
    assert asked(str(old)) == "{}"
    assert asked("/bin/false") == "{}"
