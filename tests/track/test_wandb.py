"""Weights & Biases offline: its own file read back. What a server makes of it is not tested here."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wandb")

from paceline.run.folder import Run, open_run
from paceline.track.config import WandbConfig
from tests.contracts.tiny import train
from tests.track.served import history

BLOCK, HEAD = 32 * 1024, struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a `.wandb` file: blocks of 32 KiB of (checksum, length, kind) and a piece each."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, held = path.read_bytes(), 7, b""
    while at + HEAD.size <= len(content):
        if BLOCK - at % BLOCK < HEAD.size:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = HEAD.unpack_from(content, at)
        if at + HEAD.size + length > len(content):
            return
        held += content[at + HEAD.size : at + HEAD.size + length]
        at += HEAD.size + length
        if kind in (FULL, LAST):
            yield Record.FromString(held)
            held = b""


def whole(path: Path) -> list[Any]:
    """Return the records of a file once the summary is in it: another process writes it, in its own time."""
    end = time.monotonic() + 20
    while True:
        found = list(records(path))
        keys = {key(item) for r in found if r.HasField("summary") for item in r.summary.update}
        if "test_loss" in keys and any(r.HasField("history") for r in found):
            return found
        assert time.monotonic() < end, f"no summary, but {[r.WhichOneof('record_type') for r in found]}"
        time.sleep(0.1)


def key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    words = ["members.seeds=2", "data.split.test_fraction=0.2", "tracking.wandb.mode=offline", "training.num_epochs=4"]
    return train(tmp_path_factory.mktemp("runs"), *words)


@pytest.fixture(scope="module")
def files(run: Run) -> dict[str, list[Any]]:
    """Member -> the records of its file."""
    found = [whole(path) for path in (run.path.parent / "wandb").glob("offline-run-*/*.wandb")]
    return {next(r.run.display_name for r in own if r.HasField("run")): own for own in found}


def test_each_member_is_a_run_of_one_group_with_its_config(run, files):
    assert sorted(files) == run.members
    started = {name: next(r.run for r in own if r.HasField("run")) for name, own in files.items()}
    assert {one.run_group for one in started.values()} == {"run"}
    assert len({one.run_id for one in started.values()}) == 2
    config = {key(item): json.loads(item.value_json) for item in started["seed42"].config.update}
    assert config["training.learning_rate"] == 0.01


def test_its_history_has_the_values_of_ours_each_once(run, files):
    for member, own in files.items():
        kept = [r.history.item for r in own if r.HasField("history")]
        rows = [{key(item): json.loads(item.value_json) for item in items} for items in kept]
        for name, expected in history(run, member).items():
            assert [(row["_step"], row[name]) for row in rows] == expected, name


def test_the_selected_state_and_the_test_are_its_summary(run, files):
    for member, own in files.items():
        updates = [item for r in own if r.HasField("summary") for item in r.summary.update]
        found = {key(item): json.loads(item.value_json) for item in updates}
        (metrics,) = [one["metrics"] for one in run.summary["members"] if one["id"] == member]
        assert found["test_loss"] == metrics["test_loss"]
        assert found["best_loss"] == metrics["val_loss"]


def test_its_files_are_beside_the_runs_since_it_makes_links_that_lead_out(run):
    assert open_run(run.path).members == run.members
    assert {path.name for path in run.path.parent.iterdir()} >= {"run", "wandb"}
    assert not (run.path / "wandb").exists()


@pytest.mark.fast
def test_it_is_offline_unless_somebody_says_otherwise(tmp_path):
    assert WandbConfig().mode is None
    assert not list(tmp_path.iterdir())
