"""Averages of weights in every engine: the formulas by hand, what is shown of them, and whose bits stay.

Shapes: K members, B samples, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paceline.checkpoint.tree import equal
from paceline.errors import ModelError
from paceline.optim.average import blend, ema_share, swa_share
from paceline.tasks import Classification
from paceline.train.config import TrainingConfig, WeightAverageConfig
from tests.contracts.arms import ARMS, Alone, InCohort, classifier, normalised
from tests.contracts.tiny import Cohort, points

pytestmark = pytest.mark.fast

TASK = Classification(n_classes=3)
EMA = {"name": "ema", "decay": 0.6}
SWA = {"name": "swa", "start_epoch": 2}


@pytest.fixture(params=ARMS.values(), ids=ARMS)
def make(request: pytest.FixtureRequest) -> Callable[..., Alone]:
    return request.param


def double() -> nn.Module:
    return normalised(torch.float64)


def averaged(make: Any, weight_average: dict[str, Any], build: Any = double, **options: Any) -> Alone:
    columns = points(10, dtype=next(build().parameters()).dtype)
    return make(build, TASK, columns, weight_average=weight_average, **options)


def shown(arm: Alone) -> dict[str, Tensor]:
    """The averages, as `latest.pt` has them beside the weights."""
    return {name: value.clone() for name, value in arm.engine.weights(arm.place, "current")["average"].items()}


def test_the_share_of_an_ema_warms_up_by_hand():
    """d = min(decay, (1 + n) / (10 + n)): .1, 2/11, .25, ... until the decay is reached."""
    assert [1 - ema_share(n, 0.999) for n in (0, 1, 2, 8)] == pytest.approx([0.1, 2 / 11, 0.25, 0.5])
    assert [1 - ema_share(n, 0.3) for n in (2, 3, 100)] == pytest.approx([0.25, 0.3, 0.3])
    assert 1 - ema_share(8989, 0.999) < 0.999 == 1 - ema_share(8992, 0.999)


def test_the_shares_of_a_running_mean_give_the_plain_mean():
    values, mean = [3.0, 100.0, 2.0, 4.0, 9.0], 0.0
    for epoch, value in enumerate(values, start=1):
        mean += swa_share(epoch, 3) * (value - mean)
        if epoch <= 3:
            assert mean == value
    assert mean == pytest.approx((2.0 + 4.0 + 9.0) / 3)


@pytest.mark.parametrize(
    ("start", "epochs", "first"), [(0.75, 60, 45), (0.75, 5, 4), (0.1, 30, 3), (0, 9, 1), (1, 9, 1), (7, 9, 7)]
)
def test_the_start_of_swa_is_an_epoch_or_a_share(start, epochs, first):
    assert WeightAverageConfig(name="swa", start_epoch=start).first_epoch(epochs) == first


@pytest.mark.parametrize(("start", "text"), [(2.5, "an epoch"), (11, "after the last of 10 epochs"), (-1, "greater")])
def test_a_start_that_is_none_is_refused(start, text):
    with pytest.raises(ValueError, match=text):
        TrainingConfig(num_epochs=10, weight_average={"name": "swa", "start_epoch": start})


def test_an_ema_is_the_formula_over_the_weights_after_each_step(make):
    """Weights and running statistics alike; the count of batches is copied. Dropout is on."""
    arm = averaged(make, EMA)
    expected = shown(arm)
    assert equal(expected, arm.weights()) == []  # it begins at the initial weights
    for step in range(6):
        arm.step([6, 4], 0.1, step)
        decay = min(0.6, (1 + step) / (10 + step))
        for name, value in arm.weights().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
            else:
                expected[name] = value
        for name, value in shown(arm).items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-12)
    assert (shown(arm)["0.weight"] - arm.weights()["0.weight"]).abs().max() > 1e-3
    assert int(shown(arm)["1.num_batches_tracked"]) == 12


@pytest.mark.parametrize("average", [EMA, SWA], ids=["ema", "swa"])
def test_averaging_does_not_touch_the_training(make, average):
    plain, arm = averaged(make, {"name": "none"}), averaged(make, average)
    for step in range(3):
        for each in (plain, arm):
            each.step([6, 4], 0.1, step)
        if average is SWA:
            arm.engine.average([arm.place], [0.5])
    assert equal(arm.weights(), plain.weights()) == []
    assert arm.loss() == plain.loss()


def test_without_averages_nothing_is_kept_for_them(make):
    arm = averaged(make, {"name": "none"})
    assert not (arm.engine.state_dict().get("average") or arm.engine.state_dict().get("averages"))
    assert "average" not in arm.engine.weights(arm.place, "current")


def test_the_averages_are_what_is_evaluated_kept_and_published(make):
    arm = averaged(make, EMA)
    for step in range(3):
        arm.step([10], 0.1, step)
    (found,), average, predicted = arm.engine.evaluate("val", [arm.place]), shown(arm), double().eval()
    predicted.load_state_dict(average)
    columns = points(10, dtype=torch.float64)
    expected = F.cross_entropy(predicted(columns["x"]), columns["y"])
    assert found["loss"] == pytest.approx(float(expected.detach()), abs=1e-12)
    for member in range(arm.place + 1):
        arm.engine.keep(member)
    arm.step([10], 0.1, 3)
    assert equal(arm.weights("best"), average) == []
    last, last_average = arm.weights(), shown(arm)
    arm.engine.use_best()
    assert arm.engine.evaluate("val", [arm.place])[0] == found
    assert arm.engine.predict("val", arm.place)["prediction"].tolist() == predicted(columns["x"]).argmax(1).tolist()
    assert equal(arm.weights(), last) == []
    assert equal(shown(arm), last_average) == []
    assert equal(last, last_average) != []


@pytest.mark.parametrize("average", [EMA, SWA], ids=["ema", "swa"])
def test_both_engines_have_the_same_averages(average):
    arms = [averaged(make, average) for make in ARMS.values()]
    for step in range(12):
        for arm in arms:
            arm.step([6, 4], 0.05, step)
            if average is SWA and step % 3 == 2:
                arm.engine.average([arm.place], [swa_share((step + 1) // 3, 2)])
    alone, together = (shown(arm) for arm in arms)
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("average", [EMA, SWA], ids=["ema", "swa"])
def test_a_retired_neighbours_average_keeps_every_bit(average):
    cohort = averaged(InCohort, average)
    for step in range(2):
        cohort.step([10], 0.1, step)
    cohort.engine.retire(0)
    before = cohort.engine.weights(0, "current")["average"]
    mine = shown(cohort)
    for step in range(2, 5):
        cohort.step([10], 0.1, step)
        if average is SWA:
            cohort.engine.average([1], [1.0])
    assert equal(cohort.engine.weights(0, "current")["average"], before) == []
    assert equal(shown(cohort), mine) != []


class Constant(nn.Module):
    """A constant buffer with infinite values, such as a mask added to scores, and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.linear = nn.Linear(4, 3)
        self.register_buffer("floor", torch.tensor([-float("inf"), 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(self.linear(self.frozen(x)), self.floor[0])


@pytest.mark.parametrize("average", [EMA, SWA], ids=["ema", "swa"])
def test_constants_and_frozen_weights_stay_what_they_are(make, average):
    arm = averaged(make, average, Constant)
    before = arm.weights()
    for step in range(3):
        arm.step([10], 0.1, step)
        if average is SWA:
            arm.engine.average([arm.place], [1 / (step + 1)])
    for name in ("floor", "frozen.weight", "frozen.bias"):
        assert torch.equal(shown(arm)[name], before[name])
        assert torch.equal(arm.weights()[name], before[name])
    assert shown(arm)["linear.weight"].isfinite().all()


def test_a_blend_leaves_other_rows_their_sign_of_zero():
    average, live = torch.tensor([[-0.0, 1.0], [2.0, 3.0]]), torch.tensor([[5.0, 5.0], [4.0, 5.0]])
    blend({"w": average}, {"w": live}, torch.tensor([0.5, 0.5]), torch.tensor([False, True]))
    assert average.tolist() == [[-0.0, 1.0], [3.0, 4.0]]
    assert torch.signbit(average)[0, 0]


class NoCopy(nn.Linear):
    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        raise RuntimeError("there is only one of me")


def test_a_model_that_cannot_be_copied_is_refused_by_name_of_the_key():
    with pytest.raises(ModelError, match="cannot be copied") as caught:
        averaged(Alone, EMA, lambda: NoCopy(4, 3))
    assert caught.value.where == "training.weight_average.name"


@pytest.mark.parametrize("start", [1, 2, 4, 0.5])
def test_the_running_mean_of_a_training_is_that_of_the_weights_at_the_ends_of_its_epochs(tmp_path, start):
    made = Cohort(
        tmp_path, points(20, dtype=torch.float64), classifier(torch.float64, dropout=0.3), TASK, num_epochs=5,
        weight_average={"name": "swa", "start_epoch": start}, evaluate={"every_epochs": 2}, learning_rate=0.1,
    )  # fmt: skip
    ends: list[dict[str, Tensor]] = []
    step = made.state.step

    def observed() -> None:
        step()
        if made.state.at % 3 == 0:
            ends.append(made.weights())

    made.state.step = observed
    losses = {record.epoch: record.values["loss"] for record in made.records if record.split == "val"}
    first = {1: 1, 2: 2, 4: 4, 0.5: 3}[start]
    model, columns = classifier(torch.float64)().eval(), points(20, dtype=torch.float64)
    for epoch, loss in losses.items():
        used = ends[first - 1 : epoch] or [ends[epoch - 1]]  # before the first, the weights themselves
        model.load_state_dict({name: torch.stack([w[name] for w in used]).mean(0) for name in used[0]})
        expected = F.cross_entropy(model(columns["x"]), columns["y"]).detach()
        assert loss == pytest.approx(float(expected), abs=1e-12)
    assert list(losses) == [2, 4, 5]


@pytest.mark.parametrize("average", [EMA, SWA], ids=["ema", "swa"])
@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_resume_gives_the_same_averages_bit_for_bit(tmp_path, average, at, monkeypatch):
    """X5."""

    def cohort(folder: str) -> Cohort:
        build = classifier(dropout=0.3)
        return Cohort(tmp_path / folder, points(20), build, TASK, weight_average=average, learning_rate=0.05)

    whole = cohort("whole")
    records = whole.run()
    first = cohort("parts")
    step = first.state.step
    monkeypatch.setattr(first.state, "step", lambda: (step(), first.state.at == at and first.control.interrupt(130)))
    begun = first.run()
    second = cohort("parts")
    assert second.state.at == at
    assert begun + second.run() == records
    assert equal(second.state.state_dict(), whole.state.state_dict()) == []
    assert equal(second.weights("best"), whole.weights("best")) == []


def test_the_record_of_the_selection_says_of_which_weights_it_is(tmp_path):
    for average in ("none", "ema", "swa"):
        made = Cohort(tmp_path / average, points(20), classifier(), TASK, weight_average={"name": average})
        assert made.state.selectors[0].record()["weights"] == {"none": "raw"}.get(average, average)
