"""The command line in this process, through the same entry as the installed command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from paceline.cli.app import run as main


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code and both of its outputs."""

    code: int
    out: str
    err: str


Cli = Callable[..., Done]


@pytest.fixture
def cli(workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `paceline WORD...` in an empty folder: cli("train", "task=pain")."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["paceline", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(bool(error.code))
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run
