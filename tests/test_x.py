"""The commands of x.py. Installing needs a network, so `fill` stands in for it here: it leaves a mark or fails."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "x.py"
INPUTS = ["pyproject.toml", "constraints.txt"]


@pytest.fixture
def x(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """x.py over an empty repository whose environments are filled by a stand-in."""
    spec = importlib.util.spec_from_file_location("x", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in INPUTS:
        (tmp_path / name).write_text("one")
    module.fills = []

    def fill(folder: Path, bin_dir: Path, what: list[str], *, new: bool) -> None:
        module.fills.append("new" if new else "update")
        (folder / "mark").touch()

    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "BENCHMARKS", tmp_path / "benchmarks")
    monkeypatch.setattr(module, "fill", fill)
    return module


@pytest.mark.fast
def test_unchanged_inputs_install_once(x):
    first = x.core_environment()
    assert x.core_environment() == first == x.ROOT / ".venv" / "bin"
    assert x.fills == ["new"]


@pytest.mark.fast
@pytest.mark.parametrize("name", INPUTS)
def test_a_changed_input_updates_the_environment(x, name):
    x.core_environment()
    (x.ROOT / name).write_text("two")
    x.core_environment()
    x.core_environment()
    assert x.fills == ["new", "update"]


@pytest.mark.fast
def test_another_python_starts_from_nothing(x, monkeypatch):
    x.core_environment()
    (x.ROOT / ".venv" / "old").touch()
    monkeypatch.setattr(x.platform, "python_version", lambda: "3.99.0")
    x.core_environment()
    assert x.fills == ["new", "new"]
    assert not (x.ROOT / ".venv" / "old").exists()


@pytest.mark.fast
def test_a_half_finished_installation_starts_from_nothing(x, monkeypatch):
    def fail(folder, bin_dir, what, *, new):
        (folder / "half").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(x, "fill", fail)
        with pytest.raises(KeyboardInterrupt):
            x.core_environment()
    x.core_environment()
    assert x.fills == ["new"]
    assert not (x.ROOT / ".venv" / "half").exists()


@pytest.mark.fast
def test_a_failed_update_starts_from_nothing(x, monkeypatch):
    x.core_environment()
    (x.ROOT / "constraints.txt").write_text("wrong")

    def fail(folder, bin_dir, what, *, new):
        raise x.CommandError("pip failed")

    with monkeypatch.context() as patch:
        patch.setattr(x, "fill", fail)
        with pytest.raises(x.CommandError, match="pip failed"):
            x.core_environment()
    (x.ROOT / "constraints.txt").write_text("one")
    x.core_environment()
    assert x.fills == ["new", "new"]


@pytest.mark.fast
def test_an_environment_of_the_user_is_not_touched(x):
    own = x.ROOT / ".venv" / "own"
    own.parent.mkdir()
    own.touch()
    with pytest.raises(x.CommandError, match="not made by") as caught:
        x.core_environment()
    assert caught.value.code == 2
    assert own.exists()
    assert x.fills == []


@pytest.mark.fast
def test_only_benchmarks_with_peers_get_the_second_environment(x, monkeypatch):
    (x.ROOT / "benchmarks").mkdir()
    for name in ("step.py", "other.py", "requirements.txt"):
        (x.ROOT / "benchmarks" / name).touch()
    commands = []
    monkeypatch.setattr(x, "become", lambda command: commands.append([str(word) for word in command]) or 0)
    x.main(["bench", "step", "--json", "out.json"])
    x.main(["bench", "other"])
    assert commands[0] == [f"{x.ROOT}/.venv-bench/bin/python", f"{x.ROOT}/benchmarks/step.py", "--json", "out.json"]
    assert commands[1][0] == f"{x.ROOT}/.venv/bin/python"


@pytest.mark.fast
def test_the_output_of_a_failed_installation_is_shown(x, tmp_path):
    command = [sys.executable, "-c", "print('no such package'); raise SystemExit(3)"]
    with pytest.raises(x.CommandError, match=r"exit code 3(.|\n)*no such package"):
        x.watch(command, tmp_path / "log", "installing")


@pytest.mark.fast
def test_two_commands_do_not_install_at_the_same_time(x, tmp_path):
    code = f"""
import importlib.util, time
spec = importlib.util.spec_from_file_location("x", {str(SCRIPT)!r})
x = importlib.util.module_from_spec(spec)
spec.loader.exec_module(x)
with x.lock(x.Path({str(tmp_path / "env")!r})):
    print("locked", flush=True)
    time.sleep(0.3)
    x.Path({str(tmp_path / "done")!r}).touch()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with x.lock(tmp_path / "env"):
            assert (tmp_path / "done").exists()


def script(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *args], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["trian"], "no command 'trian'; there are: demo, test, lint, bench, run"),
        (["bench", "nothing"], "no benchmark 'nothing'; there are: "),
        (["bench"], "bench needs a name; there are: "),
        (["bench", "../x"], "no benchmark '../x'"),
        (["lint", "src"], "lint takes --fix or nothing"),
        (["demo", "--seeds", "3"], "demo takes no arguments"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(args, said, tmp_path):
    done = script(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_names_every_command(tmp_path):
    done = script("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in ("demo", "test", "lint", "bench", "run"):
        assert f"\n  {command}" in done.stdout


def test_the_exit_code_and_the_signals_are_those_of_the_command(x, tmp_path):
    code = "import sys; sys.path[:0] = [{!r}]; import x; x.become([sys.executable, '-c', {!r}])"
    inner = "print('ready', flush=True); import time; time.sleep(30)"
    with subprocess.Popen(
        [sys.executable, "-c", code.format(str(SCRIPT.parent), inner)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == -signal.SIGTERM
    done = subprocess.run([sys.executable, "-c", code.format(str(SCRIPT.parent), "raise SystemExit(7)")], check=False)
    assert done.returncode == 7
