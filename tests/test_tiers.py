from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import paceline
from tests.tiers import TIERS, dotted, judge, violations

ROOT = Path(paceline.__path__[0])


def test_imports_point_only_downwards_and_never_within_a_tier():
    assert violations(ROOT) == []


@pytest.mark.fast
def test_no_part_stands_in_two_tiers():
    names = [name for row in TIERS for name in row]
    assert len(names) == len(set(names))


BAD = {
    "an import upwards": ("data/split.py", "from paceline.train import loop"),
    "an import within a tier": ("data/split.py", "from paceline.metrics.confusion import f1"),
    "an import inside a function": ("data/split.py", "def f():\n    import paceline.api\n"),
    "an import in the else of TYPE_CHECKING": (
        "data/split.py",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import paceline.api\n",
    ),
    "a relative import": ("data/split.py", "from ..metrics import confusion"),
    "a relative import from a package": ("data/__init__.py", "from .. import api"),
    "a submodule behind `from paceline`": ("config/tree.py", "from paceline import types, data"),
    "a dynamic import": ("data/split.py", "import importlib\nimportlib.import_module('paceline.run')"),
    "a relative dynamic import": (
        "__init__.py",
        "from importlib import import_module\nimport_module('.cli', 'paceline')",
    ),
    "a lazy table": ("data/__init__.py", "T = {'fit': 'paceline.api'}\ndef __getattr__(name): ..."),
    "the package's face": ("run/build.py", "import paceline"),
    "the face's public name": ("run/build.py", "from paceline import Trainer"),
    "the core knows a recipe": ("run/build.py", "from paceline.recipes.pain.model import Gru"),
    "a recipe knows another": ("recipes/pain/model.py", "from paceline.recipes.macro import model"),
    "a recipe knows its compat": ("recipes/pain/model.py", "from paceline.recipes.pain import compat"),
    "a recipe knows the API": ("recipes/pain/model.py", "from paceline.api import train"),
    "a module without a tier": ("helpers.py", ""),
}


@pytest.mark.fast
@pytest.mark.parametrize("case", BAD)
def test_the_checker_rejects(case, tmp_path):
    write_tree(tmp_path, *BAD[case])
    assert len(violations(tmp_path)) == 1


GOOD = {
    "downwards": ("train/loop.py", "from paceline.data.split import Split\nimport paceline.errors"),
    "within a unit": ("data/split.py", "from paceline.data import scale\nfrom .scale import Scaler"),
    "types alone": ("data/split.py", "if TYPE_CHECKING:\n    from paceline.api import Run"),
    "foreign packages": ("noise.py", "import numpy\nfrom importlib import import_module\nimport_module('torch')"),
    "the version": ("run/environment.py", "from paceline import __version__"),
    "compat above the API": ("recipes/pain/compat.py", "from paceline.api import train\nfrom .model import Gru"),
    "the table of recipes": ("recipes/__init__.py", "def f():\n    import paceline.recipes.pain.model"),
    "the face, lazily": ("__init__.py", "T = {'train': 'paceline.api'}\ndef __getattr__(name): ..."),
}


@pytest.mark.fast
@pytest.mark.parametrize("case", GOOD)
def test_the_checker_accepts(case, tmp_path):
    write_tree(tmp_path, *GOOD[case])
    assert violations(tmp_path) == []


@pytest.mark.fast
def test_the_reason_names_the_direction():
    assert judge("paceline.data.split", "paceline.train.loop") == "a higher tier"
    assert judge("paceline.data.split", "paceline.models.mlp") == "another unit of the same tier"
    assert judge("paceline.train.loop", "paceline.data.split") is None


def write_tree(root: Path, name: str, text: str) -> None:
    for folder in ("api", "cli", "config", "data", "metrics", "recipes/pain", "recipes/macro", "run", "train"):
        (root / folder).mkdir(parents=True)
        (root / folder / "__init__.py").touch()
    for file in ("__init__", "errors", "types", "noise", "train/loop", "data/scale", "metrics/confusion"):
        (root / f"{file}.py").touch()
    for file in ("recipes/__init__", "recipes/pain/model", "recipes/macro/model", "recipes/pain/compat"):
        (root / f"{file}.py").touch()
    (root / name).write_text(text)


def torch_free_modules() -> list[str]:
    """The lowest tiers, everything in config and report, the sections beside their owners, and every __init__."""
    names = [dotted(path, ROOT) for path in sorted(ROOT.rglob("*.py"))]
    packages = [dotted(path, ROOT) for path in sorted(ROOT.rglob("__init__.py"))]
    low = [name for name in names if name.split(".")[1:2] in (["config"], ["errors"], ["noise"], ["types"], ["report"])]
    sections = [name for name in names if name.endswith(".config")]
    return sorted({*packages, *low, *sections})


def test_config_types_and_every_package_import_no_torch():
    code = (
        "import importlib, sys\n"
        f"for name in {torch_free_modules()!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    run_python("-c", code)


def test_help_starts_without_torch():
    code = (
        "import sys\n"
        "from paceline.cli import main\n"
        "sys.argv = ['paceline', '--help']\n"
        "try:\n"
        "    code = main()\n"
        "except SystemExit as stop:\n"
        "    code = stop.code\n"
        "assert not code, code\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert "train" in run_python("-c", code)


def run_python(*args: str) -> str:
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
