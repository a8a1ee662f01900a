"""Saves in the background: of the state as it was, one at a time, their failures raised or survived as asked for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from paceline.checkpoint import snapshot
from paceline.checkpoint.snapshot import Snapshots
from paceline.checkpoint.tree import compact, equal
from paceline.errors import CheckpointError, CheckpointMismatchError, CheckpointWriteError
from paceline.models.dropout import Dropout
from paceline.tasks import Classification
from paceline.track.journal import Journal
from paceline.train import saving
from tests.contracts.tiny import Cohort, points

TASK = Classification(n_classes=3)
EVERY_STEP: dict[str, Any] = {"every_seconds": None, "every_steps": 1, "keep_last": 99}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), Dropout(0.3), nn.Linear(6, 3))


@pytest.fixture
def cohort(tmp_path) -> Callable[..., Cohort]:
    """Make a cohort of one member over 20 samples: 3 steps per epoch, 3 epochs; saved each step, all saves kept."""

    def make(**save: Any) -> Cohort:
        return Cohort(tmp_path / "store", points(20), net, TASK, save={**EVERY_STEP, **save})

    return make


def slowed(made: Cohort, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.01) -> list[tuple[str, int, str]]:
    """Make the store slow; return what it will have been asked: (begin or end, step, thread)."""
    real, seen = made.store.save, []

    def save(step: int, state: Any, **options: Any) -> Any:
        seen.append(("begin", step, threading.current_thread().name))
        time.sleep(seconds)
        real(step, state, **options)
        seen.append(("end", step, threading.current_thread().name))

    monkeypatch.setattr(made.store, "save", save)
    return seen


def full_disk(made: Cohort, monkeypatch: pytest.MonkeyPatch, steps: set[int], error: Exception | None = None) -> None:
    """Let the saves of some steps fail."""
    real = made.store.save
    failure = error or CheckpointWriteError(
        "a file could not be written", path="there", needed=9, free=1, reason="full"
    )

    def save(step: int, state: Any, **options: Any) -> Any:
        if step in steps:
            raise failure
        return real(step, state, **options)

    monkeypatch.setattr(made.store, "save", save)


@pytest.mark.parametrize("asynchronous", [True, "auto", False])
def test_training_saved_in_the_background_gives_the_same_bits_at_every_step(tmp_path, cohort, asynchronous):
    """X5: a checkpoint of any step is that step's, whoever wrote it."""
    whole = Cohort(tmp_path / "whole", points(20), net, TASK, save={**EVERY_STEP, "asynchronous": False})
    made = cohort(asynchronous=asynchronous)
    assert made.run() == whole.run()
    assert made.store.steps() == whole.store.steps() == list(range(1, 10))
    for step in whole.store.steps():
        assert equal(made.store.load(step), whole.store.load(step)) == []


def test_the_same_comparison_fails_for_a_snapshot_that_shares_memory_with_what_trains(tmp_path, cohort, monkeypatch):
    """The known-broken variant: the state is passed to the thread as it is, and the next step changes it."""
    whole = Cohort(tmp_path / "whole", points(20), net, TASK, save={**EVERY_STEP, "asynchronous": False})
    whole.run()
    monkeypatch.setattr(Snapshots, "take", lambda self, state: compact(dict(state)))
    made = cohort(asynchronous=True)
    slowed(made, monkeypatch)
    made.run()
    changed = [step for step in range(1, 9) if equal(made.store.load(step), whole.store.load(step))]
    assert len(changed) >= 4
    assert equal(made.store.load(9), whole.store.load(9)) == []  # the last one was waited for


def test_one_save_is_in_flight_at_most_and_the_last_is_waited_for(cohort, monkeypatch):
    made = cohort(asynchronous=True)
    seen = slowed(made, monkeypatch)
    made.run()
    assert [(kind, step) for kind, step, _ in seen] == [(k, s) for s in range(1, 10) for k in ("begin", "end")]
    threads = {step: name for _, step, name in seen}
    assert {threads[step] for step in range(1, 9)} == {"paceline-save"}
    assert threads[9] == threading.current_thread().name


def test_a_save_by_time_does_not_wait_for_the_one_before(cohort, monkeypatch):
    made = cohort(every_seconds=1e-9, every_steps=None, asynchronous=True)
    seen = slowed(made, monkeypatch, seconds=0.2)
    made.run()
    assert [step for kind, step, _ in seen if kind == "begin"] == [1, 9]


@pytest.mark.parametrize(
    ("save", "after"),
    [
        ({"every_steps": 4}, 1), ({"every_steps": None, "every_epochs": 2}, 1), ({"asynchronous": False}, None),
        ({"every_steps": None, "every_seconds": 3600.0}, None), ({"every_steps": None, "every_seconds": 1e-9}, 1),
        ({"every_steps": None}, None),
    ],
)  # fmt: skip
def test_memory_for_copies_is_reserved_once_and_before_the_first_of_them(cohort, monkeypatch, save, after):
    made = cohort(**save)
    steps = []
    monkeypatch.setattr(Snapshots, "reserve", lambda self, state: steps.append(state["cohort"]["step"]))
    made.run()
    assert steps == ([] if after is None else [after])


def test_the_first_copy_takes_the_memory_that_was_reserved(cohort, monkeypatch):
    monkeypatch.setattr(snapshot, "RESERVED_BYTES", 0)
    real, anew = Snapshots.take, []

    def take(self, state):
        self._reserving.wait()
        before = dict(self._buffers)
        taken = real(self, state)
        anew.append({path for path, buffer in self._buffers.items() if buffer is not before.get(path)})
        return taken

    monkeypatch.setattr(Snapshots, "take", take)
    made = cohort(every_steps=2)
    made.run()
    assert anew[0] == set() and len(anew) == 4
    assert {path[:3] for path in anew[1]} == {("cohort", "engine", "best")}  # the first evaluation was after step 3


def test_closing_waits_for_the_save_under_way(cohort, monkeypatch):
    made = cohort(asynchronous=True)
    seen = slowed(made, monkeypatch, seconds=0.05)
    next(record for record in made.records if record.epoch == 1)
    made.records.close()
    assert seen[-1][0] == "end" and made.store.latest()[0] == seen[-1][1]


def test_states_too_large_to_copy_are_saved_at_once_by_default(cohort, monkeypatch):
    monkeypatch.setattr(saving, "COPIED_BYTES", 100)
    made = cohort(asynchronous="auto")
    seen = slowed(made, monkeypatch, seconds=0.0)
    made.run()
    assert {name for _, _, name in seen} == {threading.current_thread().name}


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_failed_save_ends_the_training_at_the_next_step(cohort, monkeypatch, asynchronous):
    made = cohort(asynchronous=asynchronous)
    full_disk(made, monkeypatch, {4})
    with pytest.raises(CheckpointWriteError, match="full"):
        made.run()
    assert made.state.at == (5 if asynchronous else 4)
    assert made.store.latest()[0] == 3


def test_the_step_after_a_failed_save_raises_even_where_none_is_due(cohort, monkeypatch):
    made = cohort(every_steps=3, asynchronous=True)
    full_disk(made, monkeypatch, {3})
    real = made.state.step

    def step() -> None:
        made.saver._background.wait()
        real()

    monkeypatch.setattr(made.state, "step", step)
    with pytest.raises(CheckpointWriteError, match="full"):
        made.run()
    assert made.state.at == 4


@pytest.mark.parametrize("asynchronous", [True, False])
def test_with_on_error_continue_training_goes_on_and_warns_once(cohort, monkeypatch, caplog, asynchronous):
    made = cohort(asynchronous=asynchronous, on_error="continue")
    full_disk(made, monkeypatch, {4, 5, 6})
    with caplog.at_level(logging.WARNING, logger="paceline"):
        made.run()
    (message,) = caplog.messages
    assert "a save failed, and training goes on" in message and "there" in message
    assert made.store.steps() == [1, 2, 3, 7, 8, 9] and made.saver.failure is None


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_last_save_that_failed_is_known_at_the_end(cohort, monkeypatch, asynchronous):
    made = cohort(asynchronous=asynchronous, on_error="continue")
    full_disk(made, monkeypatch, {9})
    assert [record.split for record in made.run()][-1] == "best"
    assert isinstance(made.saver.failure, CheckpointWriteError)


@pytest.mark.parametrize("on_error", ["stop", "continue"])
@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_bug_is_raised_whatever_on_error_says(cohort, monkeypatch, asynchronous, on_error):
    made = cohort(asynchronous=asynchronous, on_error=on_error)
    full_disk(made, monkeypatch, {4}, error=ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        made.run()


def test_a_value_that_cannot_be_held_is_refused_before_the_thread_has_it(tmp_path):
    class Callback:
        def state_dict(self) -> dict[str, Any]:
            return {"seen": {1, 2}}

        def load_state_dict(self, state: dict[str, Any]) -> None: ...

    made = Cohort(tmp_path, points(20), net, TASK, beside={"callback-0": Callback()}, save=EVERY_STEP)
    with pytest.raises(CheckpointError, match=r"beside\.callback-0\.seen"):
        made.run()
    assert made.state.at == 1


def test_the_lengths_of_the_log_are_those_of_the_snapshot(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "logs", "c0")
    made = Cohort(tmp_path / "store", points(20), net, TASK, beside={"log": journal}, save=EVERY_STEP)
    slowed(made, monkeypatch, seconds=0.02)
    lengths = {}
    for record in made.records:
        journal.write(record)
        lengths[record.step] = (tmp_path / "logs" / "c0.jsonl").stat().st_size
    journal.close()
    for step in range(1, 9):
        log = made.store.load(step)["beside"]["log"]
        assert log["records"] == max((n for s, n in lengths.items() if s <= step), default=0), step


def test_the_log_is_synced_before_its_lengths_are_published(tmp_path, monkeypatch):
    order: list[str] = []
    made = Cohort(tmp_path, points(20), net, TASK, save=EVERY_STEP)
    monkeypatch.setattr(made.saver, "_sync", lambda: order.append("sync"))
    real = made.store.save
    monkeypatch.setattr(made.store, "save", lambda *a, **k: (order.append("save"), real(*a, **k)))
    made.run()
    assert order == ["sync", "save"] * 9


def test_a_full_disk_under_the_log_fails_the_save_and_no_line_is_lost(tmp_path, monkeypatch, caplog):
    journal = Journal(tmp_path / "logs", "c0")
    save = {**EVERY_STEP, "every_steps": 3, "on_error": "continue"}
    made = Cohort(tmp_path / "store", points(20), net, TASK, beside={"log": journal}, save=save)
    full = [False]
    real = journal._records._file

    class File:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def write(self, data: bytes) -> int:
            if full[0]:
                raise OSError(28, "No space left on device")
            return real.write(data[:7])  # and short writes are gone on with

    monkeypatch.setattr(journal._records, "_file", File())
    written = 0
    for record in made.records:
        full[0] = record.epoch == 2
        journal.write(record)
        written += 1
    journal.finish()
    journal.close()
    assert made.store.steps() == [3, 9]
    assert "the log could not be written" in caplog.text
    assert len((tmp_path / "logs" / "c0.jsonl").read_text().splitlines()) == written


def test_steps_that_stay_for_ever_are_saved_when_they_come(cohort):
    made = cohort(every_steps=None, keep_every=4, keep_last=1)
    made.run()
    assert made.store.steps() == [4, 8, 9]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("schema_version"), {"missing": ["schema_version"]}),
        (lambda s: s.pop("beside"), {"missing": ["beside"]}),
        (lambda s: s.update(more=1), {"extra": ["more"]}),
        (lambda s: s["beside"].update({"callback-0": {}}), {"extra": ["callback-0"]}),
        (lambda s: s["identity"].update(data="other"), {"extra": ["data"]}),
        (lambda s: s["cohort"].update(members=["seed43"]), {"changed": ["members: seed43"]}),
        (lambda s: s["cohort"].update(step=-3), {"changed": ["step: -3"]}),
        (lambda s: s["cohort"]["progress"][0].update(status="gone"), {"changed": ["progress.0.status: 'gone'"]}),
        (
            lambda s: s["cohort"]["engine"]["meter"].update(sums=[1], weights=[1]),
            {"changed": ["AttributeError: 'list' object has no attribute 'items'"]},
        ),
        (lambda s: s["cohort"]["progress"].append({}), {"changed": ["progress: 2 entries, not 1"]}),
    ],
)
def test_a_state_that_is_not_this_cohorts_is_refused_with_names(cohort, change, named):
    made = cohort()
    made.run()
    state = made.store.load(5)
    change(state)
    made.store.save(10, state)
    with pytest.raises(CheckpointMismatchError) as info:
        cohort()
    found = {kind: getattr(info.value, kind) for kind in ("missing", "extra", "changed")}
    assert found == {"missing": (), "extra": (), "changed": ()} | {k: tuple(v) for k, v in named.items()}
    assert all(name in str(info.value) for names in named.values() for name in names)
    assert len(str(info.value).splitlines()) <= 4
