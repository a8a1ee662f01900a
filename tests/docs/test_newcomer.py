"""What a newcomer gets wrong in the first hour: one clear error with a way out, and a terminal that stays readable."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

import paceline
from paceline.api.runs import configure
from paceline.cli.app import app
from paceline.cli.progress import LiveView, progress_view
from paceline.cli.standing import note
from paceline.errors import ConfigError, RunError
from paceline.types import Cohort, Record
from tests.docs.pages import ROOT, Page

ONE_THREAD = {"numerics.threads": 1, "training.num_epochs": 2}


@pytest.fixture
def waves(workdir: Path) -> Path:
    """The recipe of `docs/recipes.md`."""
    Path("waves.py").write_text(Page(ROOT / "docs/recipes.md").files()["waves.py"], encoding="utf-8")
    return Path("waves.py")


@pytest.mark.fast
def test_a_task_without_its_key_is_told_the_key() -> None:
    with pytest.raises(ConfigError, match="key=value") as caught:
        configure(overrides=["pain"])
    assert caught.value.hint == "task=pain"


@pytest.mark.fast
def test_overrides_given_as_one_text_are_told_to_be_a_list() -> None:
    with pytest.raises(ConfigError) as caught:
        configure("pain", "model=gru")
    assert caught.value.hint == "['model=gru']"


def test_an_interrupted_run_says_that_it_is_not_finished_and_opens_no_test_data(waves: Path) -> None:
    def stop(record: Record, control: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paceline.train("waves", ONE_THREAD, use=[waves], callbacks=[stop], name="cut")
    for use_it in (
        lambda: paceline.evaluate("runs/cut", use=[waves]),
        lambda: paceline.predict("runs/cut", {"x": np.zeros((1, 24, 1))}, use=[waves]),
    ):
        with pytest.raises(RunError, match="not finished") as caught:
            use_it()
        assert caught.value.got == "seed42"
        assert "paceline resume" in caught.value.hint


def test_a_run_of_trainer_is_named_after_its_model_and_says_where_its_weights_are(workdir: Path) -> None:
    x, y = np.zeros((8, 2), np.float32), np.arange(8, dtype=np.float32)
    run = paceline.Trainer(torch.nn.Linear(2, 1), ONE_THREAD).fit((x, y), (x, y))
    assert run.name.startswith("trainer-Linear-")
    with pytest.raises(RunError) as caught:
        paceline.predict(run, {"x": x})
    assert "run.best()" in caught.value.hint


@pytest.mark.fast
def test_the_live_line_keeps_its_bar_and_the_time_left_on_a_terminal_of_80_columns() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80, legacy_windows=False)
    with progress_view(terminal) as view:
        cohort = Cohort(id="conv_gru-seed42-fold3", members=("conv_gru-seed42-fold3",))
        view.start(cohort, 12, 30, 60, 0)
        values = {"loss": 0.1234, "accuracy": 0.9876}
        view.record(cohort.id, Record(member=cohort.id, step=9, epoch=30, split="val", values=values))
    shown = terminal.file.getvalue()
    assert "conv_gru-seed42-fold3 (12 of 30)" in shown
    assert "epoch 30/60" in shown
    assert shown.count("━") + shown.count("╺") >= 12
    assert "--:--" in shown


@pytest.mark.fast
def test_a_terminal_shows_every_member_or_says_how_many_more_there_are() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100, height=16, legacy_windows=False)
    cohorts = [Cohort(id=f"c{n}", members=tuple(f"c{n}-seed{i}" for i in range(8))) for n in range(2)]
    view = LiveView(terminal)
    for number, cohort in enumerate(cohorts, start=1):
        view.start(cohort, number, 2, 60, 0)
        for epoch, accuracy in ((1, 0.5), (2, 0.9), (3, 0.7)):
            for member in cohort.members[: 8 if epoch < 2 else 7]:
                values = {"loss": 0.1, "accuracy": accuracy}
                record = Record(member=member, step=epoch, epoch=epoch, split="val", values=values)
                view.record(cohort.id, record)
    with terminal.capture() as captured:
        terminal.print(view.render())
    shown = captured.get()
    assert shown.count("7/8 active") == 2
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.startswith("c0-seed")}
    assert rows["c0-seed0"] == ["3", "accuracy", "0.7000", "0.9000", "2"]
    assert rows["c0-seed7"] == ["1", "accuracy", "0.5000", "0.5000", "1", "ended"]
    assert "and 7 more" in shown
    assert len(shown.splitlines()) < 16


@pytest.mark.fast
@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({"loss": 0.5, "f1_macro": 0.25, "accuracy": 0.75}, "val_loss 0.5  val_accuracy 0.75"),
        ({"loss": 1234.5678, "mse": 2.0, "rmse": 1.5}, "val_loss 1235  val_rmse 1.5"),
        ({"loss": 0.5, "coverage": 0.9, "class": [1.0]}, "val_loss 0.5  val_coverage 0.9"),
        ({"loss": 0.5}, "val_loss 0.5"),
    ],
)
def test_the_progress_shows_the_loss_and_one_metric_of_any_task(values: dict, shown: str) -> None:
    assert note([Record(member="m", step=1, epoch=1, split="val", values=values)]) == shown


def test_a_line_of_plain_progress_is_never_broken(waves: Path) -> None:
    arguments = ["train", "--use", "waves.py", "members.seeds=1", "training.num_epochs=1", "numerics.threads=1"]
    lines = CliRunner().invoke(app, arguments).output.splitlines()
    (ended,) = [line for line in lines if line.startswith("seed42: 1 epochs")]
    assert "val_loss" in ended
    assert "val_accuracy" in ended
