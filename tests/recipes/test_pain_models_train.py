"""The recipe's models from the outside: what a run logs, compares, evaluates and predicts. N samples, T steps."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import paceline
from paceline.api.using import evaluate, predict
from paceline.cli.app import app
from paceline.errors import ConfigError
from paceline.run.folder import Run

N, T = 60, 16
TINY = [
    "data=npz", "data.path=waves.npz", "training.num_epochs=2", "training.processes=1", "numerics.threads=1",
    "model.hidden_size=4", "training.engine=eager",
]  # fmt: skip


@pytest.fixture
def waves(workdir: Path) -> Path:
    """Three classes of slow, faster and fast sines, 6 to 16 steps, in `waves.npz`."""
    rng = np.random.default_rng(0)
    y = np.arange(N) % 3
    clean = np.sin(np.arange(T) * (0.3 + 0.5 * y[:, None]) + rng.uniform(0, 6, (N, 1)))
    x = clean[:, :, None] + 0.1 * rng.normal(size=(N, T, 2))
    classes = np.array(["no_pain", "low_pain", "high_pain"])
    np.savez("waves.npz", x=x, y=y, lengths=rng.integers(6, T + 1, N), classes=classes)
    return workdir


def train(name: str, *overrides: str) -> Run:
    return paceline.train("pain", [*TINY, *overrides], name=name)


@pytest.mark.parametrize(
    ("model", "lines"),
    [("model=gru", 0), ("model=conv_gru", 0), ("model=lstm model.bidirectional=true", 1)],
    ids=["one direction", "conv_gru", "two directions"],
)
def test_two_directions_are_said_to_be_offline_in_one_line(
    waves: Path, caplog: pytest.LogCaptureFixture, model: str, lines: int
) -> None:
    """A8."""
    with caplog.at_level(logging.INFO, logger="paceline"):
        train("run", *model.split(), "training.num_epochs=1", "members.seeds=2")
    assert sum("offline / non-causal" in text for text in caplog.messages) == lines
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_one_command_compares_the_kinds_of_models_in_a_table_sorted_by_their_best_f1(waves: Path) -> None:
    """A93."""
    arguments = ["train", "task=pain", *TINY, "members.vary={model: [gru, lstm, rnn, conv_gru]}", "--name", "kinds"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    variants = paceline.open_run("runs/kinds").summary["variants"]
    assert {variant["name"] for variant in variants} == {"gru", "lstm", "rnn", "conv_gru"}
    scores = [variant["metrics"]["val_f1_macro"]["mean"] for variant in variants]
    assert scores == sorted(scores, reverse=True)
    printed = result.output.splitlines()
    first = next(i for i, line in enumerate(printed) if line.startswith("variant"))
    assert [line.split()[0] for line in printed[first + 1 : first + 5]] == [variant["name"] for variant in variants]


def test_an_unknown_model_is_refused_with_the_choices(waves: Path) -> None:
    """A4."""
    with pytest.raises(ConfigError) as caught:
        train("bad", "model=transformer")
    assert "conv_gru, gru, lstm, rnn" in str(caught.value)


def test_a_model_in_windows_is_evaluated_and_predicts_from_all_of_them(waves: Path) -> None:
    """A101: new input may be longer than what was trained on, or shorter than a window."""
    run = train("windows", "model=gru", "model.windows.size=8", "model.windows.stride=5", "model.windows.aggregate=max")
    again = evaluate(run)["members"][0]["metrics"]
    for name, value in again.items():
        assert value == pytest.approx(run.summary["metrics"][name]["mean"], abs=1e-9), name
    with np.load("waves.npz") as stored:
        x, lengths = stored["x"], stored["lengths"]
    found = predict(run, {"x": x, "lengths": lengths})
    longer = np.concatenate([x, np.full((N, 30, 2), 99.0)], axis=1)
    padded = predict(run, {"x": longer, "lengths": lengths})
    probabilities = [name for name in found.columns if name.startswith("p_")]
    np.testing.assert_allclose(padded[probabilities], found[probabilities], rtol=1e-5)
    for other in (x[:3, :4], longer[:3]):
        table = predict(run, {"x": other})
        assert len(table) == 3
        np.testing.assert_allclose(table[probabilities].sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("model.windows.size=17", "model.windows.size"),
        ("model.windows.size=0", "model.windows.size"),
        ("model.windows={size: 5, stride: 0}", "model.windows.stride"),
        ("model.windows={size: 5, stride: 6}", "model.windows"),
        ("model.windows.stride=5", "model.windows"),
        ("model.windows.sise=5", "model.windows.sise"),
        ("model.channels=[8]", "model.channels"),
        ("training.augment={jitter: 0.1, classes: [hihg_pain]}", "training.augment.classes"),
        ("training.augment={jitter: 0.1, channels: [joint_0]}", "training.augment.channels"),
        ("training.augment.time_mask=1", "training.augment.time_mask"),
        ("training.augment.jiter=1", "training.augment.jiter"),
        ("training.oversample={factor: 2, classes: [pain]}", "training.oversample.classes"),
        ("training.oversample.factor=0", "training.oversample.factor"),
        ("training.oversample.factor=1.5", "training.oversample.factor"),
        ("members.vary={model.windows.size: [5, 50]}", "model.windows.size"),
    ],
)
def test_what_cannot_be_meant_is_one_error_of_four_lines_and_no_run(waves: Path, override: str, where: str) -> None:
    result = CliRunner().invoke(app, ["train", "task=pain", *TINY, "model=gru", override])
    assert isinstance(result.exception, ConfigError), result.output
    assert result.exception.exit_code == 2
    assert result.exception.where == where
    assert len(str(result.exception).splitlines()) <= 4
    assert not Path("runs").exists()
