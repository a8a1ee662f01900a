"""`paceline compare` and `paceline runs`, on real runs and on what is not one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import scipy.stats

from tests.contracts.tiny import train
from tests.report.arms import write_run

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Two small trainings on the same data and split, three seeds each, the test part opened."""
    runs = tmp_path_factory.mktemp("runs")
    common = ("members.seeds=3", "training.num_epochs=2", "data.split.test_fraction=0.2")
    train(runs, *common, name="narrow")
    train(runs, *common, "model.hidden=16", "training.learning_rate=0.02", name="wide")
    return runs


def test_two_trained_runs_are_compared_with_page_and_json(cli, real):
    done = cli(
        "compare", real / "narrow", real / "wide", "--metric", "test_log_loss", "--json", "c.json", "--html", "c.html"
    )
    assert done.code == 0, done.err
    assert "wide" in done.out and "paired t over 3 seeds" in done.out and "written: c.json" in done.out
    (pair,) = json.loads(Path("c.json").read_text())["comparisons"]
    values = [
        [m["metrics"]["test_log_loss"] for m in json.loads((real / name / "summary.json").read_text())["members"]]
        for name in ("wide", "narrow")
    ]
    assert pair["difference"]["p"] == pytest.approx(scipy.stats.ttest_rel(*values).pvalue)
    assert pair["samples"]["units"] in ("samples", "groups")
    assert pair["verdict"].split(":")[0].split("\n")[0] in done.out.replace("\n", " ")
    html = Path("c.html").read_text()
    assert html.startswith("<!doctype html>") and "forest" in html


def test_two_csv_files_are_compared(cli):
    for name, scores in (("a", (0.8, 0.82, 0.79)), ("b", (0.9, 0.91, 0.9))):
        lines = [f"{seed},{score}" for seed, score in enumerate(scores)]
        Path(f"{name}.csv").write_text("\n".join(["seed,accuracy", *lines]))
    done = cli("compare", "a.csv", "b.csv")
    assert done.code == 0, done.err
    assert "b is better than a: +0.1" in done.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("compare", "none", "other"), "there is no such run or CSV file"),
        (("compare", "a"), "there is nothing to compare with"),
        (("compare", "a", "b", "--metric", "nope"), "not all of them have a metric of that name"),
        (("compare", "a", "b", "--json", "no/such/folder.json"), "no such folder"),
        (("compare", "a", "c"), "cannot be compared: they were trained on different data"),
        (("compare", "a", "d"), "the run has no summary.json"),
        (("runs", "nowhere"), "there is no such folder"),
        (("runs", "."), ""),
        (("runs", "a"), "the folder holds no runs"),
    ],
)
def test_bad_input_is_one_short_error(cli, words, says):
    for name, options in (
        ("a", {}),
        ("b", {}),
        ("c", {"fingerprint": "sha256:" + "cd" * 32}),
        ("d", {"finished": False}),
    ):
        write_run(Path(name), **options)
    before = sorted(path.name for path in Path().iterdir())
    done = cli(*words)
    if not says:
        assert done.code == 0
        return
    assert done.code == 2 and says in done.err
    assert done.err.startswith("error: ") and len(done.err.splitlines()) <= 4 and "Traceback" not in done.err
    assert sorted(path.name for path in Path().iterdir()) == before


def test_the_runs_are_listed_and_indexed(cli, real):
    done = cli("runs", real, "--json", "runs.json")
    assert done.code == 0, done.err
    assert "narrow" in done.out and "wide" in done.out and "val_" in done.out
    assert f"index: {real}/index.html" in done.out.replace("\n", "")
    assert '<a href="wide/report.html">' in (real / "index.html").read_text()
    assert {run["name"] for run in json.loads(Path("runs.json").read_text())["runs"]} == {"narrow", "wide"}


def test_the_folder_runs_is_the_default(cli):
    write_run(Path("runs/a"))
    done = cli("runs")
    assert done.code == 0 and "index: runs/index.html" in done.out


@pytest.mark.parametrize("command", ["compare", "runs"])
def test_help_has_an_example(cli, command):
    done = cli(command, "--help")
    assert done.code == 0 and f"Example: paceline {command}" in " ".join(done.out.split())


def test_comparing_imports_no_torch(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    code = (
        "import sys\nfrom paceline.cli import main\n"
        f"sys.argv = ['paceline', 'compare', {str(a)!r}, {str(b)!r}, '--html', {str(tmp_path / 'c.html')!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"sys.argv = ['paceline', 'runs', {str(tmp_path)!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules and 'scipy.stats' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
