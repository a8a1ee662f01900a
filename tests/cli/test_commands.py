"""The commands, from a new recipe to its predictions; interruptions; what they print."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from paceline.checkpoint.tree import equal
from paceline.run.folder import open_run
from tests.contracts.tiny import USE, result

FAST = ["training.num_epochs=2", "numerics.threads=1"]


@pytest.mark.fast
def test_a_new_recipe_trains_resumes_evaluates_predicts_and_reports(cli, monkeypatch):
    done = cli("new", "clouds")
    assert done.code == 0
    text = Path("clouds.py").read_text()
    assert "NAME" not in text
    code = [line for line in text.splitlines() if line.strip() and not line.startswith(("import", '"""'))]
    assert len(code) <= 20
    assert "paceline train --use clouds.py task=clouds" in done.out

    use = ["--use", "clouds.py"]
    done = cli("train", *use, "task=clouds", "members.seeds=2", *FAST, "--name", "first")
    assert done.code == 0, done.err
    assert "report: runs/first/report.html" in done.out
    assert done.err == ""
    done = cli("resume", "runs/first", *use)
    assert done.code == 0
    assert done.out.count("done before") == 2
    done = cli("evaluate", "runs/first", *use)
    assert done.code == 0
    trained = cli("report", "runs/first").out.splitlines()
    for line in done.out.splitlines():  # the same figures in the same style, without those over samples
        if line.startswith("val_"):
            (same,) = [other for other in trained if other.startswith(line.split()[0] + " ")]
            assert same.split()[: len(line.split())] == line.split()
    assert "val_accuracy" in done.out
    assert Path("runs/first/evaluation_val.json").exists()

    np.savez("new.npz", x=np.eye(3, 8) * 2.5)
    predict = ["predict", "runs/first", "new.npz", *use]
    done = cli(*predict)
    assert done.code == 0
    printed = [line.split(",") for line in done.out.splitlines()]
    assert printed[0] == ["sample", "prediction", "p_a", "p_b", "p_c"]
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal
    lines = [line.split() for line in re.sub(r"\x1b\[[0-9;]*m", "", cli(*predict).out).splitlines()]
    monkeypatch.delenv("FORCE_COLOR")
    assert lines[0] == printed[0]
    assert [line[2:] for line in lines[1:]] == [[f"{float(p):.4f}" for p in row[2:]] for row in printed[1:]]
    done = cli("predict", "runs/first", "new.npz", *use, "-o", "out.csv", "--member", "seed42")
    assert done.code == 0
    table = pd.read_csv("out.csv")
    assert list(table["sample"]) == [0, 1, 2]
    assert table[["p_a", "p_b", "p_c"]].sum(axis=1).tolist() == pytest.approx([1, 1, 1])

    Path("runs/first/report.html").unlink()
    done = cli("report", "runs/first")
    assert done.code == 0
    assert Path("runs/first/report.html").stat().st_size > 1000
    done = cli("config", *use, "task=clouds", "model.hidden=7")
    assert yaml.safe_load(done.out)["model"] == {"name": "net", "hidden": 7}
    assert "clouds" in cli("tasks", *use).out


@pytest.mark.fast
def test_what_a_new_recipe_says_to_type_works(cli):
    done = cli("new", "clouds")
    commands = [line.split()[1:] for line in done.out.splitlines() if line.strip().startswith("paceline ")]
    assert [words[0] for words in commands] == ["train", "resume", "predict"]
    np.savez("INPUT.npz", x=np.zeros((2, 8)))
    for words in commands:
        done = cli(*words, *(FAST if words[0] == "train" else []))
        assert done.code == 0, done.err


@pytest.mark.fast
def test_a_model_can_be_reconfigured_and_a_run_repeated_from_its_config(cli):
    assert cli("train", "--use", USE, "model=foreign", "--name", "a").code == 0
    assert cli("train", "--use", USE, "--config", "runs/a/config.yaml", "--name", "b").code == 0
    a, b = open_run("runs/a"), open_run("runs/b")
    assert equal(result(a), result(b)) == []
    assert Path("runs/a/config.yaml").read_bytes() == Path("runs/b/config.yaml").read_bytes()
    done = cli("config", "--use", USE, "--config", "runs/a/config.yaml", "training.num_epochs=9")
    assert yaml.safe_load(done.out)["training"]["num_epochs"] == 9


@pytest.mark.fast
def test_the_printed_config_is_a_config_file(cli):
    done = cli("config", "task=pain", "model=gru", "members.vary.training.learning_rate=[1e-3,1e-5]")
    assert done.code == 0
    Path("mine.yaml").write_text(done.out)
    assert cli("config", "--config", "mine.yaml").out == done.out
    assert not Path("runs").exists()


@pytest.mark.fast
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_exits_with_its_code_and_the_run_goes_on_bit_for_bit(cli, number, code):
    """It comes in the seventh training step of a process, in the middle of an epoch; so do resumes."""
    common = ["--use", USE, "model=signalling", f"model.number={int(number)}", "members.seeds=2"]
    assert cli("train", *common, "--name", "whole").code == 0
    before = signal.getsignal(number)
    done = cli("train", *common, "model.at=7", "--name", "parts")
    assert signal.getsignal(number) is before
    assert done.code == code
    hint = f"paceline resume runs/parts --use {USE}"
    assert done.err.splitlines() == ["error: interrupted: the state is saved", f"try: {hint}"]
    assert [path.name for path in Path("runs/parts/checkpoints").rglob("step-*")] == ["step-7"]
    interruptions = 0
    while done.code == code:
        interruptions += 1
        done = cli(*shlex.split(hint)[1:])  # the command works as it was printed
    assert done.code == 0
    assert interruptions > 1
    parts, whole = result(open_run("runs/parts")), result(open_run("runs/whole"))
    assert equal(parts, whole) == []


@pytest.mark.fast
def test_a_failed_member_is_named_and_the_exit_code_is_1(cli):
    done = cli("train", "--use", USE, "members.vary.training.learning_rate=[1e30,0.01]", "--name", "a")
    assert done.code == 1
    assert "1 of 2 members failed" in done.err
    assert "Traceback" not in done.err
    assert Path("runs/a/report.html").exists()
    assert re.search(r"learning_rate1e_30-seed42: \d epochs? in .* s, failed", done.out)


@pytest.mark.fast
def test_names_and_values_cannot_drive_the_terminal(cli):
    np.savez("a.npz", X=np.random.default_rng(0).normal(size=(20, 3, 2)), y=["\x1b[31mred", "[bold]b"] * 10)
    done = cli("train", "task=pain", "data=npz", "data.path=a.npz", "model.channels=[4]", "model.hidden_size=4", *FAST,
               "--name", "a")  # fmt: skip
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    done = cli("config", "task=pain", "model=\x1b[31m")
    assert done.code == 2
    assert "\x1b" not in done.err


@pytest.mark.fast
def test_help_lists_every_command_with_an_example(cli):
    done = cli("--help")
    commands = re.findall(r"^  (\w+) ", done.out.partition("Commands:")[2], flags=re.MULTILINE)
    assert {"train", "resume", "evaluate", "predict", "report", "config", "tasks", "new"} <= set(commands)
    for command in commands:
        text = cli(command, "--help").out
        assert f"paceline {command}" in text.partition("Example:")[2], command


def installed(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paceline", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_the_module_runs_as_a_command_and_help_needs_no_torch(workdir):
    code = """
import sys
from paceline.cli.app import run
sys.argv = ["paceline", "--help"]
try:
    run()
finally:
    print("torch" in sys.modules, "pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines()[-1] == "False False"
    done = installed("config", "task=pain", "model=gur", cwd=workdir)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == "error: there is no model of that name"


def test_a_real_process_trains_and_leaves_nothing_on_stderr(workdir):
    done = installed("train", "--use", str(USE), "members.seeds=2", "--name", "a", cwd=workdir)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((workdir / "runs/a/summary.json").read_text())["status"] == "finished"


def test_a_second_signal_ends_the_process_at_once(workdir):
    """The model signals in every training step; the second arrives before the first has been obeyed."""
    text = USE.read_text().replace("if self.left == 0:", "if True:").replace(
        "            os.kill(", "            os.kill(os.getpid(), self.number)\n            os.kill("
    )  # fmt: skip
    assert text.count("os.kill(") == 2
    (workdir / "own.py").write_text(text)
    done = installed("train", "--use", "own.py", "model=signalling", "--name", "a", cwd=workdir)
    assert done.returncode == 130
    assert "the state is saved" not in done.stderr
    assert list((workdir / "runs/a/checkpoints").rglob("state.pt")) == []
