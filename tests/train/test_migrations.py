"""A checkpoint of an earlier version resumes to the same bits; one of a later version, or of none, is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import paceline
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointError, CheckpointMismatchError, InterruptedRunError
from paceline.train.control import LoopControl
from paceline.train.migrations import MIGRATIONS, SCHEMA_VERSION, migrate
from paceline.types import Control, Record
from tests.contracts.tiny import USE, result, train

OVERRIDES = ["members.seeds=2", "training.num_epochs=4", "training.compile=false", "training.processes=1"]
EMPTY: dict[str, Any] = {"schema_version": 1, "identity": {}, "cohort": {"engine": {}}, "beside": {}}
ENGINES = {
    "eager": ("model", "optimizer", "scaler", "best", "meter"),
    "cohort": ("parameters", "buffers", "moments", "updates", "sums", "weights", "active", "slots", "best"),
}


def as_version_1_wrote_it(state: dict[str, Any], engine: str) -> dict[str, Any]:
    """What the first version saved of a training: no averages, nothing of divergence, fewer keys of the config."""
    cohort = state["cohort"]
    old = {name: cohort[name] for name in ("step", "evaluated_at", "selectors", "schedules", "members")}
    old["progress"] = [{name: own[name] for name in ("status", "reason", "at")} for own in cohort["progress"]]
    return {
        "schema_version": 1,
        "identity": {**state["identity"], "config": "0" * 64},
        "cohort": {**old, "engine": {name: cohort["engine"][name] for name in ENGINES[engine]}},
        "beside": {"log": state["beside"]["log"]},
    }


def interrupted(runs: Path, engine: str) -> Path:
    """Return a run that was told to stop after its second epoch, its checkpoints rewritten as version 1 had them."""
    control = LoopControl()

    def stop(record: Record, _: Control) -> None:
        if record.split == "val" and record.epoch == 2:
            control.interrupt(130)

    with pytest.raises(InterruptedRunError):
        train(runs, *OVERRIDES, f"training.engine={engine}", name="parts", callbacks=[stop], control=control)
    for folder in (runs / "parts" / "checkpoints").iterdir():
        store = Store(folder)
        for step in store.steps():
            store.save(step, as_version_1_wrote_it(store.load(step), engine), keep_last=9)
    return runs / "parts"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_state_of_the_first_version_resumes_bit_for_bit(tmp_path, engine):
    """X5: what an earlier version saved goes on as if it had been saved by this one."""
    whole = train(tmp_path, *OVERRIDES, f"training.engine={engine}", name="whole")
    old = interrupted(tmp_path, engine)
    (first, *_) = (old / "checkpoints").iterdir()
    _, state = Store(first).latest()
    assert state["schema_version"] == 1 and state["cohort"]["step"] > 0
    assert equal(result(paceline.resume(old, use=[USE])), result(whole)) == []


def test_every_version_has_its_way_to_the_next_one():
    assert list(MIGRATIONS) == list(range(1, SCHEMA_VERSION))


def test_a_migration_leaves_the_state_that_it_was_given_as_it_is():
    engine = {**dict.fromkeys(ENGINES["cohort"]), "updates": torch.zeros(2)}
    cohort = {"engine": engine, "progress": [{"status": "training", "reason": "", "at": None}]}
    old = {"schema_version": 1, "identity": {"config": "a"}, "cohort": cohort, "beside": {}}
    before = copy.deepcopy(old)
    assert migrate(old)["cohort"]["engine"]["averages"] == {}
    assert equal(old, before) == []
    with pytest.raises(CheckpointMismatchError, match="progress"):
        migrate({**old, "cohort": {"engine": engine}})


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, -1])
def test_a_state_of_another_version_is_refused(version):
    with pytest.raises(CheckpointError, match="another version"):
        migrate({**EMPTY, "schema_version": version})


@pytest.mark.parametrize("part", [{"schema_version": "2"}, {"schema_version": True}, {"cohort": []}, {"beside": None}])
def test_a_state_without_a_version_is_or_a_part_is_of_something_else(part):
    with pytest.raises(CheckpointMismatchError, match=f"not of a training\n.*{next(iter(part))}"):
        migrate({**EMPTY, **part})
    with pytest.raises(CheckpointMismatchError, match="not of a training"):
        migrate({})
