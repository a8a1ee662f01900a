"""`paceline scaffold battery DIR`: its commands as they are printed, the guide's imports, Hydra's groups."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from paceline.cli.app import run as command_line
from paceline.config.tree import read_yaml
from paceline.recipes.battery import compat

GROUPS = {
    "loss": ["huber", "mae", "mape", "mse", "physics_informed"],
    "model": ["cnn_lstm", "lgbm", "lstm", "lstm_attn", "mlp", "neural_ode", "ols"],
    "pipeline": ["ica_peaks", "latent_ode_seq", "summary_set", "synthetic"],
    "split": ["by_cell", "random", "temp_holdout", "temporal"],
    "tracking": ["dual", "local"],
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
            with monkeypatch.context() as patch:
                patch.setattr(sys, "argv", [program, *words, *more] if program == "paceline" else [*words, *more])
                if program == "paceline":
                    command_line()
                else:
                    assert program == "python", command
                    patch.syspath_prepend(str(Path.cwd()))  # as `python FILE` has it
                    runpy.run_path(words[0], run_name="__main__")
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            for name in set(sys.modules) - before:
                if name == "src" or name.startswith("src."):
                    del sys.modules[name]
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def project(call, monkeypatch) -> tuple[Path, list[str]]:
    """The folder, which is the current one, and the commands that were printed."""
    code, out, _ = call("paceline scaffold battery project")
    assert code == 0
    enter, *commands = [line.strip() for line in out.splitlines()[1:]]
    assert enter == "cd project"
    monkeypatch.chdir("project")
    return Path.cwd(), commands


def test_the_printed_commands_run(project, call):
    """C45: C76: C87: the complete script ends as the guide's does; `loss=huber` and all four choices are on record."""
    pytest.importorskip("lightgbm")
    pytest.importorskip("mlflow")
    _, commands = project
    assert commands == [
        "python train.py",
        "python run.py loss=huber",
        "python make_data.py",
        "python run.py pipeline=summary_set model=lgbm split=temp_holdout tracking=dual",
        "paceline runs artifacts/runs",
    ]
    outputs = []
    for command in commands:
        more = {1: ["training.num_epochs=2", "name=huber"], 3: ["model.n_estimators=20", "name=trees"]}
        code, out, err = call(command, *more.get(len(outputs), []))
        assert code == 0, f"{command}\n{out}\n{err}"
        outputs.append(out)
    script = outputs[0].splitlines()
    found = re.fullmatch(r"Training complete! Run ID: (mlp_baseline_\w+)", script[-1])
    folder = Path("artifacts/runs") / found[1]
    assert {"config.json", "metrics.json", "step_metrics.csv", "tensorboard", "checkpoints", "training"} <= {
        path.name for path in folder.iterdir()
    }
    assert float(re.search(r"RMSE: (\S+)", outputs[0])[1]) < 0.05
    for out in (outputs[1], outputs[3]):
        assert [line[:5] for line in out.splitlines() if line.startswith("[")] == [f"[{n}/7]" for n in range(1, 8)]
    assert read_yaml(Path("artifacts/runs/huber/config.yaml"))["loss"]["name"] == "huber"
    config = read_yaml(Path("artifacts/runs/trees/config.yaml"))
    assert (config["data"]["pipeline"], config["model"]["name"]) == ("summary_set", "lgbm")
    assert config["data"]["split"]["column"] == "condition" and config["data"]["split"]["values"]["test"] == [25]
    assert set(config["tracking"]) == {"tensorboard", "mlflow"}
    chosen = {"pipeline": "summary_set", "model": "lgbm", "split": "temp_holdout", "loss": "mse", "tracking": "dual"}
    assert read_yaml(Path("artifacts/runs/trees/choices.yaml")) == chosen
    assert "test_rmse" in outputs[3]
    assert "mlflow ui --backend-store-uri sqlite:///" in outputs[0] and "mlflow ui" in outputs[3]
    assert Path("artifacts/mlruns/mlflow.db").is_file()
    assert "huber" in outputs[4] and "trees" in outputs[4]


def test_the_guide_s_imports_work(project, monkeypatch):
    """C1: each module has paceline's own names."""
    monkeypatch.syspath_prepend(str(Path.cwd()))
    text = """
from src.training.trainer import Trainer
from src.training import Trainer, LossRegistry, BaseLoss
from src.training.metrics import compute_metrics, print_metrics
from src.training.callbacks import BaseCallback
from src.models.lgbm import LGBMModel
from src.models.mlp import MLPModel
from src.tracking.dual_tracker import DualTracker
from src.data.splits import temperature_split
"""
    Path("imports.py").write_text(text)
    try:
        names = runpy.run_path("imports.py")
        for module in Path("src").rglob("*.py"):
            own = runpy.run_path(str(module))
            for name in own.get("__all__", []):
                assert own[name] is getattr(compat, name)
    finally:
        for name in [name for name in sys.modules if name == "src" or name.startswith("src.")]:
            del sys.modules[name]
    imported = {name for name in names if not name.startswith("__")}
    assert len(imported) == 10
    assert all(names[name] is getattr(compat, name) for name in imported)


def test_every_option_of_every_group_composes(project):
    """C44: with Hydra itself, and `defaults` names a loss."""
    configs = Path("configs").resolve()
    assert {p.name: sorted(f.stem for f in p.iterdir()) for p in configs.iterdir() if p.is_dir()} == GROUPS
    assert {"loss": "mse"} in read_yaml(configs / "config.yaml")["defaults"]
    with initialize_config_dir(str(configs), version_base="1.3"):
        for group, options in GROUPS.items():
            for option in options:
                found = compose("config", overrides=[f"{group}={option}"])
                if group in ("loss", "model"):
                    assert found[group].name == option


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loss=hubert"], "try: huber"),
        (["los=huber"], "try: loss"),
        (["training.num_epoch=3"], "try: training.num_epochs"),
        (["training.num_epochs=0"], "where: training.num_epochs"),
        (["huber"], "not of the form key=value"),
        (["pipeline=summary_set"], "no such folder"),
        (["data.split.values.test=[30]"], "got: 30"),
    ],
)
def test_a_mistake_is_one_error_without_a_traceback(project, call, words, said):
    code, _, err = call("python run.py", *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err and len(err.splitlines()) <= 4
    assert not Path("artifacts").exists()


def test_help_lists_the_choices(project, call):
    code, out, _ = call("python run.py --help")
    assert code == 0
    assert "loss=  huber, mae, mape, mse, physics_informed" in out
