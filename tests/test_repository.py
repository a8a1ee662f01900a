"""What holds for every file of the repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.unsafe import unsafe_calls

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

MAX_LINES = 300
LONGER: dict[str, str] = {}  # path -> why it may be longer

# Put together from parts, so that this file doesn't hold what it looks for.
FOLDERS = "|".join(["work", "root", "home", "Users", "opt", "tmp"])
HOSTS = "|".join(["py" + r"pi\.org", "python" + "hosted", "npm" + r"js\.", "deb" + r"\.debian\."])
MACHINE = re.compile(rf"(?<![\w.~:-])/(?:{FOLDERS})/\w[^\s\"'`)]*|[\w.-]*(?:{HOSTS})[\w./-]*")


def repository_files() -> list[Path]:
    """Every file that is tracked or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    )  # fmt: skip
    return [path for name in sorted(set(listed.stdout.split("\0")) - {""}) if (path := ROOT / name).is_file()]


def test_no_file_names_a_machine_or_a_registry():
    found = []
    for path in repository_files():
        for number, line in enumerate(path.read_bytes().decode("latin-1").splitlines(), start=1):
            if match := MACHINE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert found == []


@pytest.mark.fast
@pytest.mark.parametrize("folder", FOLDERS.split("|"))
def test_the_search_finds_machine_paths(folder):
    assert MACHINE.search(f"see '/{folder}/main/x.py' there")
    assert not MACHINE.search(f"https://example.com/{folder}/main and docs/{folder}/main")


@pytest.mark.fast
@pytest.mark.parametrize(
    "host", ["https://py" + "pi.org/simple", "files.python" + "hosted.org", "registry.npm" + "js.com"]
)
def test_the_search_finds_registries(host):
    assert MACHINE.search(f"from {host}")


def test_every_source_file_is_short():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in [*SOURCES, ROOT / "x.py"]
    }
    assert {name: length for name, length in lengths.items() if length >= MAX_LINES and name not in LONGER} == {}
    assert [name for name in LONGER if lengths.get(name, 0) < MAX_LINES] == []  # no exception outlives its reason


def test_no_source_file_runs_code_from_data():
    found = {path.relative_to(ROOT).as_posix(): unsafe_calls(path.read_text("utf-8")) for path in SOURCES}
    assert len(SOURCES) > 10
    assert {name: calls for name, calls in found.items() if calls} == {}


UNSAFE = [
    "import pickle\npickle.load(f)",
    "from pickle import loads as read\nread(b)",
    "def f():\n    import joblib\n    return joblib.load(p)",
    "import torch\ntorch.load(p)",
    "import torch as t\nt.load(p, weights_only=False)",
    "import torch\ntorch.load(p, weights_only=flag)",
    "from torch import load\nload(p)",
    "import numpy as np\nnp.load(p, allow_pickle=True)",
    "import pandas as pd\npd.read_pickle(p)",
    "import yaml\nyaml.load(f)",
    "import yaml\nyaml.load(f, yaml.Loader)",
    "import yaml\nyaml.unsafe_load(f)",
    "eval(text)",
    "exec(text)",
    "import os\nos.system(c)",
    "import subprocess\nsubprocess.run(c, shell=True)",
]
SAFE = [
    "import torch\ntorch.load(p, map_location='cpu', weights_only=True)",
    "import numpy as np\nnp.load(p, allow_pickle=False)\nnp.load(p)",
    "import yaml\nyaml.safe_load(f)\nyaml.load(f, Loader=yaml.CSafeLoader)",
    "import json\njson.load(f)",
    "model.eval()\nspec.loader.exec_module(module)",
    "import subprocess\nsubprocess.run(['ls'])",
]


@pytest.mark.fast
@pytest.mark.parametrize("source", UNSAFE)
def test_the_checker_finds(source):
    assert len(unsafe_calls(source)) == 1


@pytest.mark.fast
@pytest.mark.parametrize("source", SAFE)
def test_the_checker_allows(source):
    assert unsafe_calls(source) == []
