"""Losses and gradients that are not finite: what each policy does, in each engine, and whose bits stay.

Shapes: K members, B samples.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from paceline.api.runs import resume
from paceline.checkpoint.tree import equal
from paceline.errors import InterruptedRunError
from paceline.run.folder import Run
from paceline.tasks import Classification
from paceline.track.journal import to_line
from paceline.train.cohort import Status
from paceline.train.config import TrainingConfig
from paceline.train.control import LoopControl
from tests.contracts.arms import ARMS, Alone, InCohort, classifier, normalised
from tests.contracts.tiny import USE, Cohort, member_result, points, result, train

pytestmark = pytest.mark.fast

TASK = Classification(n_classes=3)
SKIP = {"divergence": {"policy": "skip"}}
ROLLBACK = {"divergence": {"policy": "rollback", "factor": 1e-32}}
WILD = {
    "learning_rate": 1e30,
    "weight_decay": 0.01,
}  # its weights overflow within an epoch; x 1e-32 it is an ordinary one
OPTIMIZERS = [
    {"optimizer": "adamw"},
    {"optimizer": "adam"},
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "momentum": 0.0},
]
BAD = [8, 2]  # sizes of micro-batches: the last sample is the poisoned one


def poisoned() -> dict[str, torch.Tensor]:
    """Ten samples, the last of which has a gradient that is not a number."""
    columns = points(10, dtype=torch.float64)
    columns["x"][9] = math.nan
    return columns


def build() -> torch.nn.Module:
    return normalised(torch.float64)


@pytest.fixture(params=ARMS.values(), ids=ARMS)
def make(request: pytest.FixtureRequest) -> type[Alone]:
    return request.param


def state(arm: Alone) -> dict[str, Any]:
    found = arm.engine.weights(arm.place, "current")
    return {name: found[name] for name in ("model", "optimizer")}


@pytest.mark.parametrize("more", OPTIMIZERS, ids=str)
def test_a_step_that_is_left_out_changes_nothing_but_its_count(make, more):
    """Weights, moments, step counts, statistics of normalisation, the loss: even where it is the very first step."""
    training = {**SKIP, **more, "gradient_clip": {"value": 1.0}, "learning_rate": 0.1}
    one, other = (make(build, TASK, poisoned(), **training) for _ in range(2))
    for step, sizes in enumerate([BAD, [9], BAD, BAD, [8], [9]]):
        one.step(sizes, 0.1, step)
        if sizes is not BAD:
            other.step(sizes, 0.1, step)
        if step:  # before the first step of all, torch's optimizers have no moments yet
            assert equal(state(one), state(other)) == []
    (found,), (expected,) = one.engine.flush([one.place]), other.engine.flush([other.place])
    assert (found.pop("skipped_steps"), expected.pop("skipped_steps")) == (3, 0)
    assert (found.pop("skipped_in_a_row"), expected.pop("skipped_in_a_row")) == (2, 0)
    assert found == expected
    assert math.isfinite(found["loss"])


@pytest.mark.parametrize("more", OPTIMIZERS, ids=str)
def test_both_engines_leave_out_the_same_steps(more):
    arms = [make(build, TASK, poisoned(), **SKIP, **more, gradient_clip={"value": 0.5}) for make in ARMS.values()]
    for step, sizes in enumerate([[9], BAD, [4, 4], BAD, [9]]):
        for arm in arms:
            arm.step(sizes, 0.1, step)
    weights = [arm.weights() for arm in arms]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=1e-9)
    losses = [arm.engine.flush([arm.place])[0] for arm in arms]
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], abs=1e-9)
    assert losses[0]["skipped_steps"] == losses[1]["skipped_steps"] == 2


def test_without_the_policy_the_same_step_ruins_the_weights(make):
    """The known-broken variant of the tests above."""
    arm = make(build, TASK, poisoned())
    arm.step(BAD, 0.1, 0)
    assert not all(value.isfinite().all() for value in arm.weights().values())


@pytest.mark.slow
def test_a_compiled_step_does_the_same():
    """One small graph; whatever cannot be traced would raise."""
    training = {**SKIP, "weight_average": {"name": "ema"}}
    arms = [make(classifier(torch.float64), TASK, poisoned(), **training) for make in (InCohort, Compiled)]
    for step, sizes in enumerate([[9], BAD, [9]]):
        for arm in arms:
            arm.step(sizes, 0.1, step)
    for name, value in arms[0].weights().items():
        torch.testing.assert_close(arms[1].weights()[name], value, rtol=0, atol=1e-12)
    found = [arm.engine.flush([1])[0] for arm in arms]
    assert found[0]["skipped_steps"] == found[1]["skipped_steps"] == 1


class Compiled(InCohort):
    compiled = True


def test_a_row_of_steps_left_out_goes_on_over_an_evaluation(make):
    arm = make(build, TASK, poisoned(), **SKIP)
    rows = []
    for step in range(6):
        arm.step([9] if step == 0 else BAD, 0.1, step)
        if step % 2:
            rows.append(arm.engine.flush([arm.place])[0])
    assert [row["skipped_in_a_row"] for row in rows] == [1, 3, 5]
    assert [row["skipped_steps"] for row in rows] == [1, 2, 2]
    assert math.isnan(rows[1]["loss"]), "no step of the interval counts: there is no loss"


@pytest.mark.parametrize("more", OPTIMIZERS, ids=str)
def test_a_member_returns_to_its_marked_state_bit_for_bit(make, more):
    arm, training = None, {**ROLLBACK, **more, "weight_average": {"name": "ema"}}
    arm, never = (make(build, TASK, poisoned(), **training) for _ in range(2))
    for step in range(2):
        for each in (arm, never):
            each.step([9], 0.1, step)
    arm.engine.mark(arm.place)
    arm.step(BAD, 0.1, 2)
    assert equal(state(arm), state(never))
    arm.engine.roll_back(arm.place)
    assert equal(state(arm), state(never)) == []
    for each in (arm, never):
        each.step([8], 0.1, 3)
    assert equal(state(arm), state(never)) == []
    assert equal(arm.engine.weights(arm.place, "current"), never.engine.weights(never.place, "current")) == []


def test_at_first_a_member_returns_to_where_it_began(make):
    arm = make(build, TASK, poisoned(), **ROLLBACK)
    before = state(arm)
    arm.step(BAD, 0.1, 0)
    arm.engine.roll_back(arm.place)
    assert equal(state(arm), before) == []


def net() -> torch.nn.Module:
    return normalised()


def cohort(folder: Path, divergence: dict[str, Any], **more: Any) -> Cohort:
    """Twenty samples, 3 steps an epoch."""
    return Cohort(folder, points(20), net, TASK, divergence=divergence, num_epochs=5, **WILD, **more)


def test_by_default_the_member_fails_at_the_evaluation_that_sees_it(tmp_path):
    """X4: the loss is logged as it is, and never selected."""
    made = cohort(tmp_path, {})
    records = made.run()
    assert made.state.progress[0].status is Status.FAILED
    assert made.state.progress[0].reason == "the training loss was not finite in epoch 1"
    assert [record.split for record in records] == ["train", "val"]
    assert '"loss":null' in to_line(records[0])
    assert made.state.selectors[0].record()["value"] is None


def test_after_so_many_steps_left_out_in_a_row_the_member_fails(tmp_path):
    made = cohort(tmp_path, {"policy": "skip", "max_skips": 5})
    made.run()
    progress = made.state.progress[0]
    assert progress.status is Status.FAILED
    assert "the gradient was not finite in 5 steps in a row, up to epoch 2" in progress.reason
    assert "steps with a gradient that was not finite were left out" in progress.reason
    assert all(value.isfinite().all() for value in made.weights().values())


def test_a_rollback_lowers_the_learning_rate_and_training_ends_well(tmp_path, caplog):
    made = cohort(tmp_path, ROLLBACK["divergence"])
    records = made.run()
    assert made.state.progress[0].status is Status.FINISHED
    assert made.state.progress[0].reason == (
        "all 5 epochs done; went back to an earlier state after epoch 1, at last with its learning rate x 1e-32"
    )
    train_records = [record.values for record in records if record.split == "train"]
    assert [values["rollbacks"] for values in train_records] == [1, 1, 1, 1, 1]
    assert [values["lr"] for values in train_records] == [1e30] + [pytest.approx(0.01)] * 4
    assert math.isnan(train_records[0]["loss"])
    assert all(math.isfinite(values["loss"]) for values in train_records[1:])
    assert made.state.selectors[0].record()["epoch"] > 1
    assert "back to its last finite state" in caplog.text


def test_rollbacks_are_bounded(tmp_path):
    made = cohort(tmp_path, {"policy": "rollback", "factor": 1.0, "max_rollbacks": 2})
    made.run()
    progress = made.state.progress[0]
    assert (progress.status, progress.rollbacks) == (Status.FAILED, (1, 2))
    assert progress.reason.startswith("the training loss was not finite in epoch 3, after 2 returns")


def test_a_member_that_never_had_a_finite_value_fails(tmp_path):
    made = Cohort(tmp_path, points(20), net, TASK, divergence=ROLLBACK["divergence"], num_epochs=1, **WILD)
    made.run()
    assert made.state.progress[0].status is Status.FAILED


@pytest.mark.parametrize("divergence", [SKIP["divergence"], ROLLBACK["divergence"]], ids=["skip", "rollback"])
@pytest.mark.parametrize("at", [1, 3, 4, 8])
def test_a_resume_at_any_step_keeps_what_the_policy_knows(tmp_path, divergence, at, monkeypatch):
    """X5: counts, marked states, lowered rates."""
    whole = cohort(tmp_path / "whole", divergence)
    records = [to_line(record) for record in whole.run()]
    first = cohort(tmp_path / "parts", divergence)
    step = first.state.step
    monkeypatch.setattr(first.state, "step", lambda: (step(), first.state.at == at and first.control.interrupt(130)))
    begun = first.run()
    second = cohort(tmp_path / "parts", divergence)
    assert (second.restored, second.state.at) == (True, at)
    assert [to_line(record) for record in begun + second.run()] == records
    assert equal(second.state.state_dict(), whole.state.state_dict()) == []


RUN = ["training.engine=cohort", "training.compile=false", "training.num_epochs=4", "training.batch_size=9"]
POLICIES = {
    "abort": [], "skip": ["training.divergence.policy=skip", "training.divergence.max_skips=6"],
    "rollback": ["training.divergence.policy=rollback", "training.divergence.factor=1e-32"],
}  # fmt: skip


def rates(first: float) -> str:
    return f"members.vary.training.learning_rate=[{first},0.01]"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_neighbour_in_the_cohort_keeps_every_bit(tmp_path, policy):
    beside = train(tmp_path, *RUN, *POLICIES[policy], rates(1e30), name="beside")
    calm = train(tmp_path, *RUN, *POLICIES[policy], rates(0.02), name="calm")
    assert len(beside.read_json("plan.json")["cohorts"]) == 1
    wild, sound = beside.members
    assert equal(member_result(beside, sound), member_result(calm, sound)) == []
    statuses = {member["id"]: member["status"] for member in beside.summary["members"]}
    assert statuses == {wild: "finished" if policy == "rollback" else "failed", sound: "finished"}
    assert beside.history(wild)["train_loss"][0] is None or policy == "skip"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_cohort_is_resumed_to_the_same_bits_under_every_policy(tmp_path, policy):
    options = [*RUN, *POLICIES[policy], rates(1e30)]
    whole = train(tmp_path, *options, name="whole")
    with pytest.raises(InterruptedRunError):
        train(tmp_path, *options, name="parts", control=Impatient(6))

    parts = resume(Run(tmp_path / "parts"), use=[USE])
    assert equal(result(parts), result(whole)) == []


class Impatient(LoopControl):
    """Interrupts the loop after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def take_save(self) -> bool:
        self._left -= 1
        if self._left == 0:
            self.interrupt(130)
        return False


def test_skipping_and_float16_would_be_two_judges():
    with pytest.raises(ValueError, match="float16"):
        TrainingConfig(divergence={"policy": "skip"}, amp={"dtype": "float16"})
    TrainingConfig(divergence={"policy": "rollback"}, amp={"dtype": "float16"})
