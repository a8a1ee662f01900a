"""Losses and networks of numbers that cannot be used: exit code 2 and at most four lines that say why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli

RECIPE = Path(__file__).parents[1] / "train" / "numbers_recipe.py"


def test_a_loss_of_numbers_is_refused_for_classes(cli: Cli) -> None:
    for name in ("mse", "huber", "mape", "mae", "physics_informed", "quantile"):
        done = cli("train", "task=pain", f"loss={name}")
        assert done.code == 2 and "the loss is for numbers, and the targets are classes" in done.err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["loss=cross_entropy"], "the loss is for classes, and the targets are numbers"),
        (["loss=huber", "loss.delta=0"], "loss.delta"),
        (["loss=hubert"], "huber"),
        (["loss=huber", "loss.epsilon=1"], "loss.epsilon"),
        (["loss=huber", "loss.reduction=none"], "loss.reduction"),
        (["loss=quantile", "loss.levels=[0.9,0.1]"], "increase"),
    ],
)
def test_a_loss_or_network_that_cannot_be_used_is_refused(cli: Cli, options: list[str], line: str) -> None:
    done = cli("train", "--use", RECIPE, "task=numbers", *options)
    assert done.code == 2, done.err
    assert line in done.err and len(done.err.strip().splitlines()) <= 4
    assert not Path("runs").exists()
