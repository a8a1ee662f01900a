"""`paceline doctor` and shell completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paceline.cli import doctor
from paceline.cli.completion import complete_override
from paceline.errors import RunError


def test_doctor_tries_everything_and_leaves_nothing_behind(cli, workdir: Path) -> None:
    done = cli("doctor", "--json")
    assert done.code == 0, done.err
    found = {finding["what"]: finding for finding in json.loads(done.out)}
    assert {"python", "torch", "device", "cores", "checkpoints", "disk", "compiling"} <= set(found)
    assert found["checkpoints"]["fine"] is True
    assert found["compiling"]["fine"] in (True, None)
    assert list(workdir.iterdir()) == []


@pytest.mark.fast
def test_what_does_not_work_is_named_and_exits_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x", encoding="utf-8")

    def fails(folder: Path):
        raise OSError("no space")
        yield

    for name in ("_versions", "_torch", "_processor", "_compiler", "_extras"):
        monkeypatch.setattr(doctor, name, lambda folder: iter(()))
    monkeypatch.setattr(doctor, "_storage", fails)
    with pytest.raises(RunError, match="1 things do not work") as caught:
        doctor.doctor_command(tmp_path, as_json=True)
    assert caught.value.where == "fails"
    assert caught.value.exit_code == 2


@pytest.mark.fast
@pytest.mark.parametrize(
    ("typed", "some"),
    [
        ("mo", ["model="]),
        ("task", ["task="]),
        ("task=", ["task=pain"]),
        ("model=g", ["model=gru"]),
        ("training.num_ep", ["training.num_epochs="]),
        ("training.compile=", ["training.compile=auto", "training.compile=false", "training.compile=true"]),
        ("data.split.rule=st", ["data.split.rule=stratified"]),
        ("numerics.matmul_precision=hig", ["numerics.matmul_precision=high", "numerics.matmul_precision=highest"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_keys_options_and_choices_are_completed(typed: str, some: list[str]) -> None:
    found = complete_override(typed)
    assert set(some) <= set(found)
    assert all(text.startswith(typed) for text in found)


@pytest.mark.fast
@pytest.mark.parametrize("typed", ["nonsense.", "model=x", "training.num_epochs="], ids=str)
def test_what_cannot_be_completed_is_left_alone(typed: str) -> None:
    assert complete_override(typed) == []


def test_the_shell_asks_and_torch_is_not_imported() -> None:
    asked = {"_PACELINE_COMPLETE": "complete_bash", "COMP_WORDS": "paceline train model=g", "COMP_CWORD": "2"}
    script = (
        "import sys; from paceline.cli.app import app\n"
        "try: app(prog_name='paceline')\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["model=gru", "False"]
