"""The order of the loop, seen from whoever consumes its records; real cohorts, real checkpoints."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paceline.checkpoint.tree import equal
from paceline.data.loader import sample_order
from paceline.errors import CheckpointError, CheckpointMismatchError
from paceline.losses.per_sample import PerSample
from paceline.models.dropout import Dropout
from paceline.tasks import Classification
from paceline.train.cohort import Status
from paceline.types import Member, Record
from tests.contracts.tiny import MEMBER, Cohort, points, splits

pytestmark = pytest.mark.fast

TASK = Classification(n_classes=3)
SGD = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), Dropout(0.3), nn.Linear(6, 3))


@pytest.fixture
def cohort(tmp_path):
    """Make a cohort of one member over 20 samples: 3 steps per epoch, 3 epochs."""

    def make(folder: str = "store", **training: object) -> Cohort:
        return Cohort(tmp_path / folder, points(20), net, TASK, **training)

    return make


def test_records_come_in_the_documented_order_and_never_at_step_0(cohort, tmp_path):
    made = Cohort(tmp_path, points(20), net, TASK, test=points(9, seed=1))
    records = made.run()
    assert splits(records) == ["train", "val"] * 3 + ["last", "best", "test"]
    assert [record.step for record in records] == [3, 3, 6, 6, 9, 9, 9, 9, 9]
    assert [record.epoch for record in records] == [1, 1, 2, 2, 3, 3, 3, 3, 3]
    assert {record.member for record in records} == {"seed42"}


def test_a_record_is_seen_before_the_next_step_is_made(cohort):
    made = cohort()
    for record in made.records:
        if record.split in ("train", "val"):
            assert made.state.at == record.step
            (now,) = made.state.engine.evaluate("val", [0])
            if record.split == "val":
                assert record.values["loss"] == now["loss"]


def test_the_validation_values_are_those_of_the_weights_at_that_step(cohort):
    made = cohort()
    first = next(record for record in made.records if record.split == "val")
    model = net().eval()
    model.load_state_dict(made.weights())
    columns = points(20)
    expected = F.cross_entropy(model(columns["x"]), columns["y"]).detach()
    assert first.values["loss"] == pytest.approx(float(expected), rel=1e-6)


def test_a_stop_applies_at_the_step_of_the_record(cohort):
    made = cohort()
    seen = []
    for record in made.records:
        seen.append(record)
        if record.split == "val" and record.epoch == 2:
            made.control.stop("seed42")
    assert made.state.at == 6
    assert splits(seen) == ["train", "val"] * 2 + ["last", "best"]
    assert made.state.progress[0].status is Status.STOPPED
    assert made.state.progress[0].reason == "stopped by a callback"


def test_stopping_another_member_stops_nothing(cohort):
    made = cohort()
    for _ in made.records:
        made.control.stop("seed43")
    assert made.state.at == 9


def test_a_save_asked_for_is_made_at_that_step_and_once(cohort):
    made = cohort()
    steps = []
    for record in made.records:
        if record.split == "val" and record.epoch == 1:
            made.control.save()
        if record.split == "train":
            steps.append(made.store.steps())
    assert steps == [[], [3], [3]]
    assert made.store.steps() == [3, 9]  # and the end


def test_a_checkpoint_holds_what_its_consumer_has_seen(cohort):
    """The evaluation of the saved step is in the state, so that it isn't made twice."""
    made = cohort(save={"every_seconds": None, "every_epochs": 1})
    for record in made.records:
        if record.epoch == 2:
            break
    made.records.close()
    again = cohort(save={"every_seconds": None, "every_epochs": 1})
    assert again.restored
    assert again.state.at == 3
    assert [record.epoch for record in again.run() if record.split == "val"] == [2, 3]


def test_closing_the_generator_never_saves(cohort):
    made = cohort()
    for record in made.records:
        if record.epoch == 2:
            made.control.save()
            break
    made.records.close()
    assert made.store.steps() == []


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        ({"every_seconds": None}, [9]),
        ({"every_seconds": None, "every_steps": 2, "keep_last": 9}, [2, 4, 6, 8, 9]),
        ({"every_seconds": None, "every_epochs": 2, "keep_last": 9}, [6, 9]),
        ({"every_seconds": None, "every_steps": 2}, [8, 9]),
        ({"every_seconds": 1e-9, "keep_last": 99, "asynchronous": False}, list(range(1, 10))),
    ],
    ids=str,
)
def test_saves_come_when_they_are_due_and_at_the_end(cohort, save, expected):
    made = cohort(save=save)
    made.run()
    assert made.store.steps() == expected


@pytest.mark.parametrize("code", [130, 143])
def test_an_interrupt_saves_and_ends_without_the_final_evaluations(cohort, code):
    made = cohort()
    seen = []
    for record in made.records:
        seen.append(record)
        made.control.interrupt(code)
    assert splits(seen) == ["train", "val"]
    assert made.store.steps() == [3]
    assert made.control.interrupted == code


def test_an_interrupt_between_evaluations_applies_at_the_next_step(cohort, monkeypatch):
    made = cohort()
    step = made.state.step

    def interrupted_step() -> None:
        step()
        if made.state.at == 4:
            made.control.interrupt(130)

    monkeypatch.setattr(made.state, "step", interrupted_step)
    made.run()
    assert made.store.steps() == [4]


@pytest.mark.parametrize("at", range(1, 9))
def test_a_resume_at_any_step_gives_the_same_bits_as_no_interruption(cohort, at, monkeypatch):
    """X5: weights, moments, selection, schedule, meter and position are all there."""
    config = {
        "schedule": {"name": "plateau", "patience": 0},
        "selection": {"metric": "val_f1_macro", "smoothing": "median_ema"},
    }
    whole = cohort("whole", **config)
    records = whole.run()
    first = cohort("parts", **config)
    step = first.state.step
    monkeypatch.setattr(first.state, "step", lambda: (step(), first.state.at == at and first.control.interrupt(130)))
    begun = first.run()
    second = cohort("parts", **config)
    assert second.restored
    assert second.state.at == at
    rest = second.run()
    assert begun + rest == records
    assert equal(second.state.state_dict(), whole.state.state_dict()) == []


def test_the_last_epoch_before_a_stop_is_recorded_too(tmp_path):
    """A73, A68: a constant metric stops at epoch 1 + patience, whose records are there."""
    frozen = Cohort(
        tmp_path, points(20), net, TASK, num_epochs=20, learning_rate=1e-30, weight_decay=0.0,
        early_stopping={"patience": 4},
    )  # fmt: skip
    epochs = [record.epoch for record in frozen.run() if record.split == "val"]
    assert epochs == [1, 2, 3, 4, 5]
    assert frozen.state.progress[0].reason == "no improvement for 4 evaluations"


def test_without_early_stopping_a_constant_metric_goes_on(tmp_path):
    frozen = Cohort(
        tmp_path, points(20), net, TASK, num_epochs=7, learning_rate=1e-30, weight_decay=0.0,
        early_stopping={"enabled": False, "patience": 1},
    )  # fmt: skip
    assert max(record.epoch for record in frozen.run()) == 7


def test_the_selected_weights_are_those_of_the_selected_epoch(cohort):
    """A71: not the last ones, which a mere reference would be."""
    made = cohort(num_epochs=6, learning_rate=0.3, selection={"metric": "val_loss"})
    by_epoch, losses = {}, {}
    records: list[Record] = []
    for record in made.records:
        records.append(record)
        if record.split == "val":
            by_epoch[record.epoch], losses[record.epoch] = made.weights(), record.values["loss"]
    chosen = min(losses, key=losses.get)
    assert chosen < 6
    assert made.state.selectors[0].record()["epoch"] == chosen
    assert equal(made.weights("best"), by_epoch[chosen]) == []
    assert equal(made.weights(), by_epoch[6]) == []
    assert records[-1].split == "best"
    assert records[-1].values["loss"] == losses[chosen]
    assert records[-2].split == "last"
    assert records[-2].values["loss"] == losses[6]


def test_the_training_loss_is_the_mean_over_samples_with_a_ragged_last_batch(tmp_path):
    """A61, X4: 20 samples in batches of 8, 8 and 4, at weights that do not move."""
    made = Cohort(
        tmp_path, points(20), lambda: nn.Linear(4, 3), TASK, num_epochs=1, learning_rate=1e-30, weight_decay=0.0
    )
    weights, columns = made.weights(), points(20)
    expected = F.cross_entropy(F.linear(columns["x"], weights["weight"], weights["bias"]), columns["y"])
    train = made.run()[0]
    assert train.split == "train"
    assert train.values["loss"] == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("accumulation", [1, 2, 3])
def test_accumulation_makes_fewer_steps_and_keeps_the_mean_loss(tmp_path, accumulation):
    """C84: the last group of an epoch, which is smaller, is stepped too."""
    made = Cohort(
        tmp_path, points(20), lambda: nn.Linear(4, 3), TASK, num_epochs=1, learning_rate=1e-30, weight_decay=0.0,
        batch_size=4, gradient_accumulation_steps=accumulation,
    )  # fmt: skip
    weights, columns = made.weights(), points(20)
    train = made.run()[0]
    expected = F.cross_entropy(F.linear(columns["x"], weights["weight"], weights["bias"]), columns["y"])
    assert made.state.at == math.ceil(5 / accumulation)
    assert train.values["loss"] == pytest.approx(float(expected), rel=1e-6)


def test_a_whole_epoch_accumulated_is_one_step_of_full_batch_descent(tmp_path):
    columns = points(20, dtype=torch.float64)
    made = Cohort(
        tmp_path, columns, lambda: nn.Linear(4, 3, dtype=torch.float64), TASK, num_epochs=1, learning_rate=1.0,
        gradient_accumulation_steps=3, **SGD,
    )  # fmt: skip
    model = nn.Linear(4, 3, dtype=torch.float64)
    model.load_state_dict(made.weights())
    F.cross_entropy(model(columns["x"]), columns["y"]).backward()
    made.run()
    torch.testing.assert_close(
        made.weights()["weight"], (model.weight - model.weight.grad).detach(), rtol=0, atol=1e-12
    )


class One(nn.Module):
    """One weight, whose gradient under `PerSample(outputs)` is 1 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w.expand(len(x), 3)


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_each_step_is_made_at_the_rate_that_is_for_it(tmp_path, interval):
    """A65: with a gradient of 1 the weight moves by the rates; epoch 1 at base / 5, epoch 5 at base, then on."""
    task = Classification(n_classes=3, loss=PerSample(lambda outputs, batch: outputs[:, 0]))
    made = Cohort(
        tmp_path, points(20, dtype=torch.float64), One, task, num_epochs=7, learning_rate=0.1,
        schedule={"warmup_epochs": 5, "interval": interval}, **SGD,
    )  # fmt: skip
    moved, recorded = [0.0], []
    for record in made.records:
        if record.split == "train":
            recorded.append(record.values["lr"])
        if record.split == "val":
            moved.append(-float(made.weights()["w"]))
    per_epoch = [b - a for a, b in itertools.pairwise(moved)]
    if interval == "epoch":
        expected = [0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1]
        assert recorded == pytest.approx(expected, abs=1e-15)
        assert per_epoch == pytest.approx([3 * rate for rate in expected], abs=1e-12)
    else:
        rates = [min(1.0, (s + 1) / 15) * 0.1 for s in range(21)]
        assert recorded == pytest.approx(rates[2::3], abs=1e-15)
        assert per_epoch == pytest.approx([sum(rates[i : i + 3]) for i in range(0, 21, 3)], abs=1e-12)


def test_a_loss_that_is_not_finite_fails_the_member_at_the_end_of_that_epoch(tmp_path):
    """X4: and there still is a state to look at."""
    made = Cohort(tmp_path, points(20), net, TASK, learning_rate=1e30, num_epochs=5)
    records = made.run()
    assert made.state.progress[0].status is Status.FAILED
    assert "not finite in epoch" in made.state.progress[0].reason
    assert splits(records)[-1] == "val"  # no final evaluation of a broken state
    assert not math.isfinite(records[-2].values["loss"])
    assert max(record.epoch for record in records) < 5


def test_evaluation_can_be_rarer_and_always_comes_after_the_last_epoch(cohort):
    made = cohort(num_epochs=5, evaluate={"every_epochs": 2})
    assert [record.epoch for record in made.run() if record.split == "val"] == [2, 4, 5]


def test_the_training_loss_of_a_rare_evaluation_covers_all_its_epochs(tmp_path):
    options = {"learning_rate": 1e-30, "weight_decay": 0.0, "num_epochs": 2}
    rare = Cohort(tmp_path / "a", points(20), lambda: nn.Linear(4, 3), TASK, evaluate={"every_epochs": 2}, **options)
    often = Cohort(tmp_path / "b", points(20), lambda: nn.Linear(4, 3), TASK, **options)
    losses = [record.values["loss"] for record in often.run() if record.split == "train"]
    assert rare.run()[0].values["loss"] == pytest.approx(sum(losses) / 2, rel=1e-7)


def test_a_smoothed_series_is_recorded_beside_the_raw_one(cohort):
    """A64 through the loop."""
    made = cohort(selection={"metric": "val_f1_macro", "smoothing": "ema", "ema_alpha": 0.25})
    values = [record.values for record in made.run() if record.split == "val"]
    ema = values[0]["f1_macro"]
    for row in values:
        ema = ema if row is values[0] else 0.25 * row["f1_macro"] + 0.75 * ema
        assert row["f1_macro_smoothed"] == pytest.approx(ema, abs=1e-9)


def test_a_checkpoint_of_another_member_or_config_is_refused(tmp_path):
    made = Cohort(tmp_path, points(20), net, TASK)
    made.run()
    with pytest.raises(CheckpointMismatchError, match="members: seed42"):
        Cohort(tmp_path, points(20), net, TASK, member=Member(seed=43))
    state = made.store.load(9)
    made.store.save(10, {**state, "schema_version": 99})
    with pytest.raises(CheckpointError, match="another version"):
        Cohort(tmp_path, points(20), net, TASK)


def test_the_order_of_samples_depends_on_seed_fold_and_epoch_alone():
    torch.manual_seed(1)
    first = sample_order(MEMBER, 3, 50)
    torch.manual_seed(2)
    sample_order(MEMBER, 7, 50)
    assert (sample_order(MEMBER, 3, 50) == first).all()
    assert (sample_order(Member(variant="lstm", seed=42), 3, 50) == first).all()
    others = [(MEMBER, 4), (Member(seed=43), 3), (Member(seed=42, fold=0), 3), (Member(seed=42, fold=1), 3)]
    orders = [sample_order(member, epoch, 50).tolist() for member, epoch in others]
    assert len({tuple(order) for order in [first.tolist(), *orders]}) == 5
    assert all(sorted(order) == list(range(50)) for order in orders)
