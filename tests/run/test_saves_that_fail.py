"""A disk that refuses checkpoints: what a run says of it, and what it leaves behind."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import paceline
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import CheckpointWriteError, InterruptedRunError
from paceline.run.folder import open_run
from paceline.train.control import LoopControl
from paceline.types import Control, Record
from tests.contracts.tiny import USE, result, train

OVERRIDES = ["training.num_epochs=3", "training.save.every_epochs=1", "training.engine=eager"]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every save after the first is refused."""
    real = Store.save

    def save(self: Store, step: int, state: Any, **options: Any) -> Any:
        if self.steps():
            raise CheckpointWriteError("a file could not be written", path="a/b", needed=9, free=1, reason="full")
        return real(self, step, state, **options)

    monkeypatch.setattr(Store, "save", save)
    return monkeypatch


@pytest.mark.parametrize("asynchronous", ["true", "false"])
def test_by_default_the_run_stops_with_the_reason_and_resumes_to_the_same_bits(tmp_path, full, asynchronous):
    with pytest.raises(CheckpointWriteError, match="full") as info:
        train(tmp_path, *OVERRIDES, f"training.save.asynchronous={asynchronous}")
    assert info.value.exit_code == 1
    full.undo()
    whole = train(tmp_path, *OVERRIDES, name="whole")
    assert equal(result(paceline.resume(tmp_path / "run", use=[USE])), result(whole)) == []


def test_with_on_error_continue_it_ends_as_ever_and_says_that_its_last_save_failed(tmp_path, full, caplog):
    with caplog.at_level(logging.WARNING, logger="paceline"):
        run = train(tmp_path, *OVERRIDES, "training.save.on_error=continue")
    said = [message for message in caplog.messages if "save" in message]
    reason = "a file could not be written (a/b: full (needs about 9 bytes; 1 bytes are free))"
    assert said == [f"a save failed, and training goes on: {reason}", f"the last save of seed42 failed: {reason}"]
    full.undo()
    assert run.summary["status"] == "finished"
    assert equal(result(run), result(train(tmp_path, *OVERRIDES, name="whole"))) == []


def test_an_interrupted_run_whose_save_failed_does_not_say_that_it_is_saved(tmp_path, full):
    control = LoopControl()

    def stop(record: Record, _: Control) -> None:
        if record.split == "val" and record.epoch == 2:
            control.interrupt(143)

    with pytest.raises(InterruptedRunError, match="the last save failed: a resume goes on from the one before") as info:
        train(tmp_path, *OVERRIDES, "training.save.on_error=continue", control=control, callbacks=[stop])
    assert info.value.exit_code == 143
    full.undo()
    paceline.resume(tmp_path / "run", use=[USE])
    whole = train(tmp_path, *OVERRIDES, name="whole")
    assert equal(result(open_run(tmp_path / "run")), result(whole)) == []


def test_what_a_worker_process_says_of_a_damaged_checkpoint_reaches_the_user(tmp_path, caplog):
    overrides = [*OVERRIDES, "members.seeds=2", "training.processes=2", "training.save.keep_last=9"]
    run = train(tmp_path, *overrides, callbacks=[lambda record, control: None])  # for which it trains in this process
    before = result(run)
    step = Store(run.path / "checkpoints" / "seed43").steps()[-1]
    (run.path / f"checkpoints/seed43/step-{step}/state.pt").write_bytes(b"")
    for done in (run.path / "logs").glob("*.done"):
        done.unlink()
    with caplog.at_level(logging.WARNING, logger="paceline"):
        paceline.resume(run.path, use=[USE])
    (record,) = [record for record in caplog.records if "set aside" in record.message]
    assert record.module == "execute"  # which passes on what the worker said
    assert f"step {step} is damaged" in record.message and "trained again" in record.message
    assert equal(result(run), before) == []
