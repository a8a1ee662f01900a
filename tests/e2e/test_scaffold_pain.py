"""`paceline scaffold pain DIR`: its files, its commands as they are printed, and what it refuses."""

from __future__ import annotations

import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from paceline.cli.app import run as command_line
from paceline.recipes.pain import compat

SHORT = ["epochs=1", "hidden_size=4", "batch_size=256", "tensorboard=false"]
FILES = {
    "README.md",
    "ablation.py",
    "configs.py",
    "cross_validation.py",
    "run_experiment.py",
    "sweep.py",
    "training.py",
}


@pytest.fixture
def call(workdir, monkeypatch, capsys):
    """Run a printed command in this process: (exit code, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "200")
    before = set(sys.modules)

    def run(command: str, *more: str) -> tuple[int, str, str]:
        program, *words = shlex.split(command)
        capsys.readouterr()
        try:
            if program == "paceline":
                monkeypatch.setattr(sys, "argv", [program, *words, *more])
                command_line()
            else:
                assert program == "python", command
                monkeypatch.setattr(sys, "argv", [*words, *more])
                with monkeypatch.context() as path:  # as `python FILE` has it
                    path.syspath_prepend(str(Path.cwd()))
                    runpy.run_path(words[0], run_name="__main__")
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            for name in set(sys.modules) - before:
                if getattr(sys.modules[name], "__file__", None) in {str(Path.cwd() / name) for name in FILES}:
                    del sys.modules[name]
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def project(call, monkeypatch) -> tuple[Path, list[str]]:
    """The folder, which is the current one, and the commands that were printed."""
    code, out, _ = call("paceline scaffold pain project")
    assert code == 0
    enter, *commands = [line.strip() for line in out.splitlines()[1:]]
    assert enter == "cd project"
    monkeypatch.chdir("project")
    return Path.cwd(), commands


def test_the_printed_commands_run(project, call):
    """A93: the ablation prints one table of the three, the best first."""
    folder, commands = project
    assert {path.name for path in folder.iterdir()} == FILES
    assert [shlex.split(command)[1] for command in commands] == [
        "run_experiment.py", "ablation.py", "cross_validation.py", "sweep.py", "report", "runs"
    ]  # fmt: skip
    np.savez("tiny.npz", X=np.random.default_rng(0).normal(size=(30, 3, 2)), y=np.arange(30) % 3)
    outputs = {}
    for command in commands:
        more = SHORT if command.startswith("python") else []
        if outputs and more:  # the first has the data that the scaffold names
            more = [*more, "data={name: npz, path: tiny.npz}", *["max_runs=2"] * ("sweep" in command)]
        code, outputs[shlex.split(command)[1]], err = call(command, *more)
        assert code == 0, f"{command}\n{err}"
    assert (folder / "runs/GRU_mono_256x2/report.html").stat().st_size > 1000
    state = torch.load(folder / "runs/GRU_mono_256x2/GRU_mono_256x2.pt", weights_only=True)
    assert state["config"]["hidden_size"] == 4
    assert "report: runs/GRU_mono_256x2/report.html" in outputs["run_experiment.py"]
    best = [float(line.split()[-4]) for line in outputs["ablation.py"].splitlines()[1:]]
    assert len(best) == 3 and best == sorted(best, reverse=True)
    assert len(list((folder / "runs/GRU_mono_256x2_cv").glob("*_fold?.pt"))) == 5
    table = pd.read_csv(folder / "runs/sweep/summary.csv")
    assert len(table) == 2 and table["best_f1"].is_monotonic_decreasing


def test_the_shim_has_the_guide_s_names(project, monkeypatch):
    names = runpy.run_path("training.py")
    own = {name: value for name, value in names.items() if name in names["__all__"]}
    assert names["MAX_SWEEP_RUNS"] == 12
    assert own == {name: getattr(compat, name) for name in names["__all__"]}
    assert {
        "prepare_config", "set_seed", "create_dataloaders", "FocalLoss", "build_criterion", "fit_model",
        "run_experiment", "run_cross_validation", "base_config", "summary_table",
    } <= set(own)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Foo"], "unknown name 'Foo'"),
        (["GRU_mono_256x2", "hiden_size=3"], "try: hidden_size"),
        (["GRU_mono_256x2", "lr=-1"], "where: lr"),
        (["GRU_mono_256x2", "lr="], "where: lr"),
    ],
)
def test_a_mistake_is_one_error_without_a_traceback(project, call, words, said):
    code, _, err = call("python run_experiment.py", *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert not Path("runs").exists()


def test_a_folder_with_files_is_left_alone_without_force(call):
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("keep")
    Path("mine/training.py").write_text("my own")
    code, _, err = call("paceline scaffold pain mine")
    assert code == 2
    assert "the folder is not empty" in err and "training.py" in err and "--force" in err
    assert Path("mine/training.py").read_text() == "my own"
    assert call("paceline scaffold pain mine --force")[0] == 0
    assert {path.name for path in Path("mine").iterdir()} == {*FILES, "notes.txt"}
    assert Path("mine/notes.txt").read_text() == "keep"
    assert "FocalLoss" in Path("mine/training.py").read_text()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("paceline scaffold pane project", "pain"),
        ("paceline scaffold pain file.txt", "the path is a file"),
        ("paceline scaffold pain file.txt/below", "cannot be made"),
    ],
)
def test_a_folder_that_cannot_be_made_is_one_error(call, command, said):
    Path("file.txt").write_text("")
    code, _, err = call(command)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) <= 4
    assert [path.name for path in Path().iterdir()] == ["file.txt"]
