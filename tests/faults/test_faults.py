"""Few faults of each kind of `x.py bench faults`, which has the many; each must fire, and find a broken variant out."""

from __future__ import annotations

import json
import logging
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults need fork, /proc and namespaces")

from benchmarks.fault_parts.damage import damages, flip  # noqa: E402
from benchmarks.fault_parts.disk import Choice, Disk, choices  # noqa: E402
from benchmarks.fault_parts.forking import run_forked  # noqa: E402
from benchmarks.fault_parts.full import disk_full  # noqa: E402
from benchmarks.fault_parts.kills import sigkill  # noqa: E402
from benchmarks.fault_parts.mlflow_server import killed_server  # noqa: E402
from benchmarks.fault_parts.outcome import Row, lines, skipped  # noqa: E402
from benchmarks.fault_parts.power import power_loss  # noqa: E402
from benchmarks.fault_parts.recording import Recorder  # noqa: E402
from benchmarks.fault_parts.syscalls import TARGETS, system_calls  # noqa: E402
from benchmarks.fault_parts.trackers import full_trackers  # noqa: E402


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("paceline")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # every fault warns
    yield
    logger.setLevel(level)


def check(row: Row) -> Row:
    if row.skipped:
        pytest.skip(row.skipped)
    assert row.missed == [], "\n".join(lines(row))
    assert row.fired > 0 and row.landed > 0 and all(row.broken.values())
    return row


@pytest.mark.slow
def test_killed_at_random_instants_a_run_ends_at_the_same_bits_and_an_in_place_saver_is_found_out(
    tmp_path: Path,
) -> None:
    row = check(sigkill("cohort", 4, 2, seed=1, folder=tmp_path))
    assert row.notes["resumes"] >= 2 and row.notes["steps recomputed, at most"] <= 8


def test_an_error_at_system_calls_of_a_save_is_named_and_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    row = check(system_calls(0.08, seed=1, folder=tmp_path, targets=TARGETS[:1]))
    assert row.outcomes["CheckpointWriteError, old loads"] and row.outcomes["killed, old loads"]


def test_the_last_saved_state_survives_a_power_loss_after_every_operation(tmp_path: Path) -> None:
    row = check(power_loss(2, 1, 1, 0.05, seed=1, folder=tmp_path))
    assert row.outcomes["resumed to the same bits"] == 1


def test_a_full_disk_is_named_and_what_was_saved_verifies(tmp_path: Path) -> None:
    row = check(disk_full(3, [200_000], folder=tmp_path))
    assert row.outcomes["CheckpointWriteError, old loads"] >= 2


def test_every_damage_is_found_and_no_undamaged_file_refused(tmp_path: Path) -> None:
    row = check(damages(200, 20, 30, seed=1, folder=tmp_path))
    assert row.landed == 200 and row.broken["plain torch.load"] > 15


@pytest.mark.slow
def test_trackers_on_a_full_disk_change_no_weight_and_lose_nothing(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    check(full_trackers(1, folder=tmp_path, faults=["TensorBoard", "log, training stops"]))


@pytest.mark.slow
def test_an_mlflow_server_that_dies_changes_no_weight_and_neither_loses_nor_doubles_a_value(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    row = check(killed_server(1, seed=1, folder=tmp_path, faults=["at the start", "in mid-run"]))
    assert row.outcomes == {"at the start: resumed": 1, "in mid-run: resumed": 1}


@pytest.mark.fast
def test_a_row_misses_its_bars_when_something_is_lost_or_a_broken_variant_is_not_found_out() -> None:
    assert Row(name="a", aim="").missed == ["it was not judged"]
    row = Row(name="a", aim="hit", fired=2, broken={"no sync": 0})
    row.lose("a state")
    assert row.judge(enough=True).missed == ["nothing lost", "catches no sync"]
    assert "LOST: a state" in "\n".join(lines(row)) and json.loads(json.dumps(row.to_json()))["lost"] == 1
    assert skipped("b", "no strace").missed == []


@pytest.mark.fast
def test_the_model_of_a_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    recorder = Recorder(live)
    with recorder.recording():
        descriptor = os.open(live / ".new", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"content")
        recorder.mark("written")
        os.fsync(descriptor)
        os.close(descriptor)
        os.rename(live / ".new", live / "file")
        recorder.mark("renamed")
        folder = os.open(live, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        recorder.mark("synced")
    assert (live / "file").read_bytes() == b"content"
    disk, seen = Disk(), {}
    fixed = {choice.name: choice for choice in choices(random.Random(0), 0)}
    for operation in recorder.operations:
        if operation[0] != "mark":
            disk.apply(operation)
            continue
        seen[operation[1]] = {name: shown(disk, choice, tmp_path) for name, choice in fixed.items()}
    assert seen["written"]["names without content"] == {".new": b""}
    assert seen["written"]["names, blocks of zeros"] == {".new": bytes(7)}
    assert seen["renamed"]["nothing unsynced"] == {}
    assert seen["renamed"]["names without content"] == {"file": b"content"}
    assert all(found == {"file": b"content"} for found in seen["synced"].values())


def shown(disk: Disk, choice: Choice, folder: Path) -> dict[str, bytes]:
    target = folder / f"crash{len(list(folder.iterdir()))}"
    target.mkdir()
    disk.show(target, choice)
    return {path.name: path.read_bytes() for path in target.iterdir()}


@pytest.mark.fast
def test_a_flip_changes_one_bit() -> None:
    data = bytes(range(256))
    changed = flip(data, random.Random(0))
    assert sum((a ^ b).bit_count() for a, b in zip(data, changed, strict=True)) == 1


def test_a_child_tells_what_it_returned_or_raised() -> None:
    assert run_forked(lambda: [1, 2]).value == [1, 2]
    failed = run_forked(lambda: {}["missing"])
    assert (failed.code, failed.error, failed.named) == (70, "KeyError", False)
    assert run_forked(lambda: sys.exit(3)).code == 3
