"""The journal as the trackers' spool: whatever goes wrong there, the same weights here, and nothing lost or doubled."""

from __future__ import annotations

import errno
import io
import json
import logging
import time
from pathlib import Path

import pytest

import paceline
from paceline.api.runs import resume
from paceline.checkpoint.tree import equal
from paceline.errors import ConfigError, InterruptedRunError, ModelError
from paceline.run.folder import Run
from paceline.track import event_file
from paceline.track import queue as queue_module
from paceline.track.journal import Journal
from paceline.track.queue import TrackerQueue
from paceline.track.spool import Acknowledged
from paceline.types import Record
from tests.contracts.tiny import USE, result
from tests.e2e.forked import forked
from tests.track.events import differences

REMOTE = Path(__file__).with_name("remote.py")
QUICK = ["training.num_epochs=4", "training.compile=false", "members.seeds=2", "training.save.every_steps=2"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "LINGER_SECONDS", 0.01)
    monkeypatch.setattr(queue_module, "PAUSES_SECONDS", (0.01, 0.05))


@pytest.fixture
def server(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return paceline.train("blobs", QUICK, use=[USE], runs=tmp_path_factory.mktemp("runs"), name="run")


def tracked(tmp_path: Path, server: Path, *more: str, **options: object) -> Run:
    words = [*QUICK, f"tracking.remote.server={server}", *more]
    return paceline.train("blobs", words, use=[USE, REMOTE], runs=tmp_path, name="run", **options)


def again(tmp_path: Path) -> Run:
    return resume(tmp_path / "run", use=[USE, REMOTE])


def taken(server: Path) -> list[list[object]]:
    """What the remote run has, in the order in which it came."""
    (run,) = (path for path in server.iterdir() if path.is_dir())
    path = run / "values"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def statuses(server: Path) -> list[str]:
    (path,) = server.glob("*/status")
    return path.read_text().split()


def journal(run: Run) -> list[list[object]]:
    rows = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    return [[row["member"], row["split"], row["step"]] for row in rows]


def complete(server: Path, run: Run) -> bool:
    """Whether the remote run has every record once, each member's in order."""
    by_member = [sorted(rows, key=lambda row: str(row[0])) for rows in (taken(server), journal(run))]
    return by_member[0] == by_member[1]


@pytest.mark.parametrize("fault", ["", "at first", "in the middle", "down", "at the end", "hangs"])
def test_whatever_the_tracker_does_the_weights_are_the_same_and_a_resume_sends_what_it_misses(
    tmp_path, server, untracked, fault, monkeypatch, caplog
):
    """A79."""
    caplog.set_level(logging.WARNING, logger="paceline")
    monkeypatch.setitem(queue_module.CLOSING_SECONDS, "finished", 0.3)
    (server / "fault").write_text(fault)
    started = time.monotonic()
    run = tracked(tmp_path, server)
    assert time.monotonic() - started < 20
    assert equal(result(run), result(untracked)) == []
    whole = fault in ("", "at first", "in the middle", "at the end")
    assert complete(server, run) == whole
    assert bool(caplog.messages) == (fault != "")
    if not whole:
        assert f"paceline resume {run.path}" in caplog.messages[-1]
    (server / "fault").write_text("")
    again(tmp_path)
    assert complete(server, run)
    assert statuses(server)[-1] == "finished"
    assert len(list(server.glob("*/summary.json"))) == 1


def test_an_interrupted_run_says_so_and_goes_on_as_the_same_remote_run(tmp_path, server, untracked):
    def interrupt(record, control):
        if record.epoch == 2:
            control.interrupt(143)

    with pytest.raises(InterruptedRunError):
        tracked(tmp_path, server, callbacks=[interrupt])
    assert statuses(server) == ["running", "interrupted"]
    assert 0 < len(taken(server)) < len(journal(untracked))
    run = again(tmp_path)
    assert statuses(server) == ["running", "interrupted", "running", "finished"]
    assert complete(server, run)
    assert equal(result(run), result(untracked)) == []


def test_a_crashed_run_is_failed_there(tmp_path, server):
    def crash(record, control):
        raise ModelError("broken")

    with pytest.raises(ModelError):
        tracked(tmp_path, server, callbacks=[crash])
    assert statuses(server) == ["running", "failed"]


@pytest.mark.parametrize("after_seconds", [0.05, 0.2])
def test_a_killed_run_that_is_resumed_neither_loses_nor_doubles_a_record(tmp_path, server, untracked, after_seconds):
    """The note of what was taken is written after the tracker's answer: a batch may be on its way, and no more."""
    killed = forked(
        lambda: tracked(tmp_path, server, callbacks=[lambda record, control: time.sleep(0.03)]),
        after_seconds, once=lambda: bool(list(server.glob("*/values"))),
    )  # fmt: skip
    assert killed is None, "the kill came too late"
    assert taken(server)
    run = again(tmp_path)
    rows = [tuple(row) for row in taken(server)]
    assert {*rows} == {tuple(row) for row in journal(run)}
    assert len(rows) - len({*rows}) <= 4, "more than the batch on its way came twice"
    assert statuses(server) == ["running", "running", "finished"]
    assert equal(result(run), result(untracked)) == []


def test_a_full_disk_under_tensorboard_changes_no_weight_and_is_made_good(tmp_path, untracked, monkeypatch, caplog):
    """Appends that wrote half of their bytes, as a full disk leaves them, until there is room again."""
    full = [0]

    class Disk(io.FileIO):
        def write(self, content) -> int:
            full[0] += 1
            if full[0] % 4 == 2 and full[0] < 8:
                return super().write(content[: len(content) // 2])
            if full[0] % 4 == 3 and full[0] < 8:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    class Places(type(Path())):
        def open(self, mode="r", buffering=-1, *more):
            return Disk(self, mode) if (mode, buffering) == ("ab", 0) else super().open(mode, buffering, *more)

    honest = event_file.append
    monkeypatch.setattr(event_file, "append", lambda path, events: honest(Places(path), events))
    words = [*QUICK, "tracking=tensorboard", "tracking.tensorboard.figure_every_epochs=null"]
    run = paceline.train("blobs", words, use=[USE], runs=tmp_path, name="run")
    assert full[0] > 3, "the disk was never full"
    assert "No space left" in caplog.text
    assert equal(result(run), result(untracked)) == []
    assert [differences(run, member) for member in run.members] == [[], []]


def test_a_tracker_that_cannot_start_leaves_the_run_that_was_to_be_replaced(tmp_path, server):
    before = tracked(tmp_path, server)
    made = before.id
    (server / "fault").write_text("start")
    with pytest.raises(ConfigError, match="cannot be started"):
        tracked(tmp_path, server, overwrite=True)
    assert (Run(tmp_path / "run").id, Run(tmp_path / "run").summary["status"]) == (made, "finished")
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()
    (server / "fault").write_text("")
    assert tracked(tmp_path, server, overwrite=True).id != made
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()


def record(step: int, split: str = "val") -> Record:
    return Record(member="seed42", step=step, epoch=1, split=split, values={"loss": 0.5})


class Slow:
    """Takes records only once it may."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.open = False

    def scalars(self, rows):
        if not self.open:
            raise TimeoutError
        self.steps += [row.step for row in rows]

    def figure(self, name, path, step): ...

    def artefact(self, name, path): ...

    def close(self, status): ...


@pytest.mark.fast
def test_memory_is_bounded_and_what_does_not_fit_is_read_from_the_journal(tmp_path, monkeypatch):
    monkeypatch.setattr(queue_module, "CAPACITY", 10)
    tracker, written = Slow(), Journal(tmp_path / "logs", "cohort")
    queue = TrackerQueue({"slow": tracker}, tmp_path)
    for step in range(500):
        written.write(record(step))
        queue.put(record(step))
        assert len(queue._feeds[0]._records) <= 10
    tracker.open = True
    queue.close("finished")
    written.close()
    assert tracker.steps == list(range(500))


@pytest.mark.fast
def test_what_was_taken_is_on_record_and_a_damaged_record_of_it_only_sends_again(tmp_path):
    noted = Acknowledged(tmp_path, "a/b")
    noted.note([record(3), record(6), record(6, "best")])
    assert [path.name for path in (tmp_path / "tracking").iterdir()] == ["a_b.json"]
    after = Acknowledged(tmp_path, "a/b")
    assert after.fresh([record(6), record(7), record(7), record(6, "last"), record(6, "best")]) == [
        record(7), record(6, "last")
    ]  # fmt: skip
    for text in ("", "[]", '{"steps": 1}', '{"steps": {"m": {"val": "x"}}}'):
        (tmp_path / "tracking" / "a_b.json").write_text(text)
        assert Acknowledged(tmp_path, "a/b").fresh([record(6)]) == [record(6)]
