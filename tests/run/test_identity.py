"""What a checkpoint belongs to is told by the text that its run was made with, whatever a later version reads in it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import paceline
from paceline.api.runs import open_with_recipe
from paceline.api.trainer import Trainer
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.config.tree import to_yaml
from paceline.errors import CheckpointMismatchError, InterruptedRunError
from paceline.run.config import resolve
from paceline.run.folder import Run, open_run, write_json
from tests.contracts.tiny import USE, result, train

# Keys that an earlier version did not know, as if they had come since: a value, a section, and one of the data.
NEW = ("training.weight_decay", "training.divergence", "training.log_batches", "data.loader.bucket_by_length")
PARTS = ["members.seeds=2", "training.processes=1", "training.compile=false"]


def interrupt(record: Any, control: Any) -> None:
    control.interrupt(130)


def half(runs: Path, *overrides: str, name: str = "run") -> Run:
    """A run that was interrupted after its first epoch."""
    with pytest.raises(InterruptedRunError):
        train(runs, *overrides, name=name, callbacks=[interrupt])
    return open_run(runs / name)


def without(tree: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return a copy of a tree without these dotted keys."""
    tree = json.loads(json.dumps(tree))
    for key in keys:
        *sections, last = key.split(".")
        inner = tree
        for section in sections:
            inner = inner.get(section, {})
        inner.pop(last, None)
    return tree


def digest(trees: list[dict[str, Any]]) -> str:
    """What states have said of their config from the second version on: a digest of their members' whole configs."""
    return hashlib.sha256(json.dumps([without(tree, "members") for tree in trees], sort_keys=True).encode()).hexdigest()


def made_earlier(run: Run) -> None:
    """Rewrite a run as a version that did not know the new keys had made and saved it."""
    config = without(run.config, *NEW)
    assert config != run.config
    (run.path / "config.yaml").write_text(to_yaml(config))
    write_json(run.path / "environment.json", {**run.read_json("environment.json"), "config": config})
    members = {cohort["id"]: cohort["members"] for cohort in run.read_json("plan.json")["cohorts"]}
    for folder in (run.path / "checkpoints").iterdir():
        store = Store(folder)
        for step, state in [(step, store.load(step)) for step in store.steps()]:
            state["identity"]["config"] = digest([config] * len(members[folder.name]))
            store.save(step, state, keep_last=9)


@pytest.mark.parametrize("engine", ["eager", "cohort"])
def test_a_run_that_was_made_before_a_key_existed_resumes_bit_for_bit(tmp_path, engine):
    whole = train(tmp_path, *PARTS, f"training.engine={engine}", name="whole")
    run = half(tmp_path, *PARTS, f"training.engine={engine}")
    made_earlier(run)
    assert equal(result(paceline.resume(run, use=[USE])), result(whole)) == []
    assert "divergence" not in run.config["training"]  # the file stays as it was made


def test_it_may_be_changed_on_resume_and_resumed_again(tmp_path):
    run = half(tmp_path)
    made_earlier(run)
    with pytest.raises(InterruptedRunError):
        paceline.resume(run, ["training.num_epochs=5"], use=[USE], callbacks=[interrupt])
    assert paceline.resume(run, use=[USE]).history()["epoch"][-1] == 5


def test_the_digest_is_that_of_the_members_whole_configs_as_in_states_saved_before(tmp_path):
    run = half(tmp_path, "+members.vary.training.learning_rate=[0.01,0.5]", *PARTS)
    recipe = open_with_recipe(run, [USE])[1]
    seen = set()
    for cohort in run.read_json("plan.json")["cohorts"]:
        found = Store(run.path / "checkpoints" / cohort["id"]).latest()
        if found is not None:
            trees = [resolve(run.member_config(member), recipe).tree() for member in cohort["members"]]
            assert found[1]["identity"]["config"] == digest(trees)
            seen.add(digest(trees))
    assert seen


def test_a_state_of_another_config_is_refused(tmp_path):
    run, other = half(tmp_path), half(tmp_path, "training.learning_rate=0.5", name="other")
    shutil.rmtree(run.path / "checkpoints")
    shutil.copytree(other.path / "checkpoints", run.path / "checkpoints")
    with pytest.raises(CheckpointMismatchError) as caught:
        paceline.resume(run, use=[USE])
    assert caught.value.changed == ("config",)


def test_a_run_of_trainer_that_was_made_before_a_key_existed_resumes(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    config = {"training.num_epochs": 2, "device": "cpu"}

    def fail(record: Any, control: Any) -> None:
        raise KeyboardInterrupt

    def trainer(**options: Any) -> Trainer:
        return Trainer(lambda: nn.Linear(4, 2), config, folder=tmp_path, **options)

    whole = trainer(name="whole").fit((x, y), (x, y))
    with pytest.raises(KeyboardInterrupt):
        trainer(name="run", callbacks=[fail]).fit((x, y), (x, y))
    run = open_run(tmp_path / "run")
    made_earlier(run)
    assert equal(result(trainer().resume(run, (x, y), (x, y))), result(whole)) == []
