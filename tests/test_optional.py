"""Without a package that is optional: paceline imports, works, and says in one line what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

USE = Path(__file__).parent / "contracts" / "blobs.py"
WITHOUT = """
import sys
from importlib.machinery import PathFinder

absent = sys.argv[1]

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == absent else super().find_spec(name, path, target)

sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
sys.argv = ["paceline", *sys.argv[2:]]
import paceline
from paceline.cli.app import run
run()
"""
BLOBS = ["train", "--use", str(USE), "training.num_epochs=1", "--name", "run"]
NEEDS = {
    "tensorboard": [*BLOBS, "tracking=tensorboard"],
    "mlflow": [*BLOBS, "tracking=mlflow"],
    "wandb": [*BLOBS, "tracking=wandb"],
    "lightgbm": ["train", "task=battery", "model=lgbm", "--name", "run"],
    "torchdiffeq": ["train", "task=battery", "model=neural_ode", "--name", "run"],
}


def without(package: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of paceline where a package cannot be imported."""
    return subprocess.run([sys.executable, "-c", WITHOUT, package, *words], cwd=folder, capture_output=True, text=True,
                          check=False)  # fmt: skip


@pytest.mark.parametrize("package", NEEDS)
def test_without_a_package_the_lists_are_whole_and_what_needs_it_says_what_to_install(tmp_path, package):
    """X6."""
    done = without(package, "tasks", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = without(package, *NEEDS[package], folder=tmp_path)
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert f"pip install {package}" in " ".join(said.split())
    if package == "mlflow":  # what is not there yet can be sent later
        assert done.returncode == 0, said
        assert "paceline resume runs/run" in " ".join(said.split())
    else:
        assert done.returncode == 2, said
        assert not (tmp_path / "runs" / "run").exists()


def test_without_mlflow_the_command_that_shows_it_says_what_to_install(tmp_path):
    """X6."""
    done = without("mlflow", "ui", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install mlflow" in done.stderr
