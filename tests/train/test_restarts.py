"""Restarts of the learning rate and patience: what counts, what is said, what a resume keeps."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from paceline.checkpoint.tree import equal
from paceline.tasks import Classification
from paceline.train.cohort import Status
from paceline.train.config import TrainingConfig
from paceline.train.selection import doubt_of_patience
from tests.contracts.tiny import Cohort, points

pytestmark = pytest.mark.fast

STILL: dict[str, Any] = {"learning_rate": 1e-30, "weight_decay": 0.0}
SCHEDULE = {"name": "cosine_with_restarts", "t0": 2, "t_mult": 2}


def cohort(folder: Any, **training: Any) -> Cohort:
    """One member that learns nothing, as its learning rate is tiny: from epoch 2 on nothing improves."""
    return Cohort(folder, points(20), lambda: nn.Linear(4, 3), Classification(n_classes=3), **{**STILL, **training})


def epochs(made: Cohort) -> int:
    return max(record.epoch for record in made.run())


@pytest.mark.parametrize(
    ("grace", "ended"),
    [(0, 4), (1, 5), (2, 6), (3, 10), (9, 14)],
)
def test_epochs_after_a_restart_do_not_use_up_patience(tmp_path, grace, ended):
    """C58: cycles of 2, 4 and 8 epochs; of the flat epochs 2, 3, ... those within the grace after 2 and 6 are free."""
    made = cohort(tmp_path, num_epochs=14, schedule=SCHEDULE,
                  early_stopping={"patience": 3, "grace_after_restart": grace})  # fmt: skip
    assert epochs(made) == ended
    if ended < 14:
        beside = f", the first {grace} epochs after a restart not counted" if grace else ""
        assert made.state.progress[0].status is Status.STOPPED
        assert made.state.progress[0].reason == f"no improvement for 3 evaluations{beside}"


def test_an_improvement_within_the_grace_is_one():
    from paceline.train.config import EarlyStoppingConfig, SelectionConfig
    from paceline.train.selection import Selector

    selector = Selector(SelectionConfig(), EarlyStoppingConfig(patience=2, grace_after_restart=2))
    seen = [selector.observe(value, i, i, since) for i, (value, since) in enumerate(
        [(1.0, None), (1.1, None), (1.2, 1), (0.9, 2), (1.0, 3), (1.0, 4)], start=1)]  # fmt: skip
    assert [judgement.improved for judgement in seen] == [True, False, False, True, False, False]
    assert [judgement.exhausted for judgement in seen] == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"early_stopping": {"patience": 20}}, "in the 100 epochs after the restart of its learning rate at epoch 51"),
        ({"early_stopping": {"patience": 20}}, "grace_after_restart=80"),
        ({"early_stopping": {"patience": 20, "grace_after_restart": 1}}, ""),
        ({"early_stopping": {"patience": 100}}, ""),
        ({"early_stopping": {"patience": 20, "enabled": False}}, ""),
        ({"early_stopping": {"patience": 20}, "num_epochs": 60}, ""),
        ({"early_stopping": {"patience": 20}, "evaluate": {"every_epochs": 5}}, ""),
    ],
)
def test_patience_that_may_end_a_training_after_a_restart_is_warned_of(options, said):
    """C58."""
    schedule = {"name": "cosine_with_restarts", "t0": 50, "t_mult": 2}
    found = doubt_of_patience(TrainingConfig(**{"num_epochs": 200, "schedule": schedule, **options}))
    assert said in found if said else found == ""


def test_other_schedules_have_no_such_warning():
    assert doubt_of_patience(TrainingConfig(num_epochs=200, schedule={"name": "cosine"})) == ""


def test_a_training_with_grace_goes_on_bit_for_bit(tmp_path):
    options: dict[str, Any] = {
        "num_epochs": 9, "learning_rate": 0.05, "schedule": {**SCHEDULE, "interval": "step"},
        "early_stopping": {"patience": 3, "grace_after_restart": 2},
    }  # fmt: skip
    whole = cohort(tmp_path / "whole", **options)
    records = whole.run()
    for end in (3, 5):
        first = cohort(tmp_path / f"parts{end}", **options)
        begun = list(_interrupted(first, end))
        second = cohort(tmp_path / f"parts{end}", **options)
        assert second.restored
        assert begun + second.run() == records
        assert equal(second.state.state_dict(), whole.state.state_dict()) == []


def _interrupted(made: Cohort, epoch: int) -> Any:
    for record in made.records:
        yield record
        if record.split == "val" and record.epoch == epoch:
            made.control.interrupt(130)


def test_flat_validation_loss_ends_a_training_after_20_epochs_without_improvement(tmp_path):
    """C53: the first epoch is an improvement, so the record has 21."""
    made = cohort(tmp_path, num_epochs=200, early_stopping={"patience": 20})
    assert [record.epoch for record in made.run() if record.split == "val"] == list(range(1, 22))


def test_the_best_state_changes_only_where_the_validation_loss_improves(tmp_path):
    """C54."""
    made = cohort(tmp_path, num_epochs=12, learning_rate=0.4, optimizer="sgd", momentum=0.9)
    low, changes, kept = float("inf"), [], None
    for record in made.records:
        if record.split == "val":
            now = made.weights("best")
            changed = kept is None or equal(now, kept) != []
            assert changed == (record.values["loss"] < low)
            low, kept = min(low, record.values["loss"]), now
            changes.append(changed)
    assert {True, False} == set(changes), "the loss has to rise and to fall"
