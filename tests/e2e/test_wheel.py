"""The wheel, as a user gets it: built without a network, installed beside the user's own torch, used from elsewhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DATA = {".yaml", ".npz", ".gz", ".md", ".txt", ".html", ".css", ".j2"}


def call(*command: object, cwd: Path) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    call(*pip, "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel, and sees what is installed here as a user's own environment would have it."""
    folder = tmp_path_factory.mktemp("user")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    call(*pip, wheel, cwd=folder)
    site_packages = Path(
        call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    # A folder named in a .pth file is searched, but its own .pth files are not read: an editable paceline stays unseen.
    paths = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site_packages / "installed_here.pth").write_text("\n".join(paths) + "\n")
    return python


def test_the_wheel_holds_every_module_and_data_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    files = [
        path for path in (ROOT / "src" / "paceline").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    wanted = {path.relative_to(ROOT / "src").as_posix() for path in files}
    assert any(name.endswith(".npz") for name in wanted)
    assert any("/conf/" in name for name in wanted)
    assert wanted - packed == set()
    assert {name for name in packed - wanted if ".dist-info/" not in name} == set()
    assert {name.rpartition(".")[2] for name in wanted} <= {"py", "typed"} | {suffix[1:] for suffix in DATA}


def test_the_wheel_asks_for_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    for line in ("Requires-Dist: torch>=2.10", "Requires-Python: >=3.11", "License-Expression: Apache-2.0"):
        assert f"\n{line}\n" in text
    assert len(text.partition("\n\n")[2]) > 200  # the README


def test_the_installed_package_is_the_one_imported(python, tmp_path):
    where = Path(call(python, "-c", "import paceline; print(paceline.__file__)", cwd=tmp_path).strip())
    assert where.is_relative_to(python.parents[1])


def test_the_installed_command_explains_itself(python, tmp_path):
    assert "train" in call(python.with_name("paceline"), "--help", cwd=tmp_path)


def test_the_installed_command_trains(python, tmp_path):
    words = ["train", "task=pain", "data=vowels", "training.num_epochs=1", "members.seeds=1", "--name", "t"]
    call(python.with_name("paceline"), *words, cwd=tmp_path)
    run = tmp_path / "runs" / "t"
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    assert (run / "report.html").stat().st_size > 1000
