"""The norm of the gradients in the record: the mean over the steps of an epoch, before clipping, in both engines."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from paceline.checkpoint.tree import equal
from paceline.tasks import Classification
from paceline.train.config import TrainingConfig
from paceline.train.learner import seeded_model
from tests.contracts.arms import ARMS, classifier
from tests.contracts.tiny import MEMBER, Cohort, points, train

pytestmark = pytest.mark.fast

TASK = Classification(n_classes=3)
F64 = classifier(torch.float64)


def oracle(n: int) -> float:
    """The norm at the first weights, by autograd."""
    model, columns = seeded_model(F64, MEMBER), points(10, dtype=torch.float64)
    F.cross_entropy(model(columns["x"][:n]), columns["y"][:n]).backward()
    return float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(
    "training",
    [
        {"gradient_clip": {"value": 0.01}},
        {"gradient_clip": {"mode": "value", "value": 0.01}, "log_grad_norm": True},
        {"log_grad_norm": True},
        {"gradient_clip": {"value": 0.01}, "divergence": {"policy": "skip"}},
    ],
    ids=["clipped by norm", "clipped by value", "not clipped", "with steps left out"],
)
def test_the_norm_is_the_mean_over_steps_before_clipping(arm: str, training: dict[str, Any]) -> None:
    """C80."""
    made = ARMS[arm](F64, TASK, points(10, dtype=torch.float64), **training)
    made.step([10], 0.0, 0)
    made.step([3, 2], 0.0, 1)
    (found,) = made.engine.flush([made.place])
    assert found["grad_norm"] == pytest.approx((oracle(10) + oracle(5)) / 2, abs=1e-12)
    made.step([10], 0.0, 2)
    assert made.engine.flush([made.place])[0]["grad_norm"] == pytest.approx(oracle(10), abs=1e-12)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize(
    "training", [{}, {"gradient_clip": {"mode": "value", "value": 1.0}},
                 {"gradient_clip": {"value": 1.0}, "log_grad_norm": False}],
    ids=["not clipped", "clipped by value", "not wanted"],
)  # fmt: skip
def test_without_a_norm_at_hand_there_is_none_in_the_record(arm: str, training: dict[str, Any]) -> None:
    made = ARMS[arm](F64, TASK, points(10, dtype=torch.float64), **training)
    made.step([10], 0.1, 0)
    assert "grad_norm" not in made.engine.flush([made.place])[0]
    assert not TrainingConfig(**training).logs_grad_norm


@pytest.mark.parametrize("arm", ARMS)
def test_looking_at_the_norm_changes_no_bit_of_the_weights(arm: str) -> None:
    with_norm, without = (
        ARMS[arm](classifier(dropout=0.5), TASK, points(10), gradient_clip={"value": 0.1}, log_grad_norm=on)
        for on in (True, False)
    )
    for step in range(5):
        with_norm.step([6, 4], 0.1, step)
        without.step([6, 4], 0.1, step)
    assert equal(with_norm.weights(), without.weights()) == []


def test_a_step_left_out_has_no_norm_in_the_mean() -> None:
    columns = points(10, dtype=torch.float64)
    broken = {**columns, "x": torch.cat([columns["x"], torch.full_like(columns["x"], torch.inf)])}
    for arm in ARMS.values():
        made = arm(F64, TASK, {**broken, "y": columns["y"].repeat(2)}, gradient_clip={"value": 1.0},
                   divergence={"policy": "skip"})  # fmt: skip
        made.step([10], 0.0, 0)
        made.step([10, 10], 0.0, 1)
        (found,) = made.engine.flush([made.place])
        assert (found["skipped_steps"], found["grad_norm"]) == (1, pytest.approx(oracle(10), abs=1e-12))


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_resume_within_an_epoch_gives_the_same_mean(tmp_path, monkeypatch, at: int) -> None:
    options = {"gradient_clip": {"value": 0.1}, "num_epochs": 2}
    whole = Cohort(tmp_path / "whole", points(20), classifier(), TASK, **options).run()
    first = Cohort(tmp_path / "parts", points(20), classifier(), TASK, **options)
    step = first.state.step
    monkeypatch.setattr(first.state, "step", lambda: (step(), first.state.at == at and first.control.interrupt(130)))
    begun = first.run()
    assert begun + Cohort(tmp_path / "parts", points(20), classifier(), TASK, **options).run() == whole
    assert all("grad_norm" in record.values for record in whole if record.split == "train")


@pytest.mark.parametrize("engine", ["eager", "cohort"])
def test_the_history_has_a_column_of_the_norm(tmp_path, engine: str) -> None:
    """C80: the same in both engines."""
    run = train(tmp_path, f"training.engine={engine}", "training.compile=false", "training.gradient_clip.value=1.0",
                "members.seeds=2", "training.processes=1")  # fmt: skip
    history = run.history()
    assert len(history["grad_norm"]) == 3 and min(history["grad_norm"]) > 0
    assert "train_grad_norm" not in history
