"""SIGKILL at random instants of a real run, then resume: the same bits as a run that was never killed."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paceline.api.runs import resume, train
from paceline.checkpoint.snapshot import Snapshots
from paceline.checkpoint.store import Store, read_state
from paceline.checkpoint.tree import compact, equal
from paceline.run.folder import Run
from paceline.train.cohort import CohortTraining
from paceline.types import Cohort
from tests.e2e.forked import forked

MEMBERS = ("seed1", "seed2")
SAMPLES, STEPS_PER_EPOCH = 60, 3
OVERRIDES = [
    "data=npz", "model.channels=[8]", "model.hidden_size=8", "training.num_epochs=10", "training.batch_size=8",
    "training.gradient_accumulation_steps=2", "training.schedule.name=plateau", "training.schedule.patience=0",
    "data.split.val_fraction=0.2", "training.save.every_steps=2", "members.seeds=[1,2]", "numerics.threads=1",
    "training.processes=1", "training.compile=false", "training.save.asynchronous=true",
    "training.augment.jitter=0.1", "training.augment.scale=0.1",
]  # fmt: skip


class Resumed:
    """An observer that writes down at which epoch a cohort went on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, cohort: Cohort, number: int, of: int, num_epochs: int, resumed_at: int) -> None:
        with self._path.open("a") as file:
            file.write(f"{cohort.id} {resumed_at}\n")

    def record(self, cohort: str, record: object) -> None: ...

    def end(self, cohort: str, skipped: bool) -> None: ...


def start(runs: Path, name: str, reference: Reference) -> None:
    overrides = [*OVERRIDES, f"training.engine={reference.engine}", f"data.path={reference.data}"]
    train("pain", overrides, runs=runs, name=name)


def differences(run: Path, reference: Path) -> list[str]:
    """Name what differs between two finished runs, bit by bit."""
    found = [name for name in ("log.jsonl", "members.csv") if _bytes(run, name) != _bytes(reference, name)]
    for member in MEMBERS:
        for name in (f"members/{member}/history.json", f"members/{member}/history.csv"):
            found += [name] if _bytes(run, name) != _bytes(reference, name) else []
        for name in (f"members/{member}/best.pt", f"members/{member}/latest.pt"):
            found += [f"{name}: {path}" for path in equal(read_state(run / name), read_state(reference / name))]
        ours, theirs = (np.load(r / "members" / member / "predictions.npz") for r in (run, reference))
        found += [f"{member} {key}" for key in theirs if ours[key].tobytes() != theirs[key].tobytes()]
    return found


def _bytes(run: Path, name: str) -> bytes:
    return (run / name).read_bytes()


@dataclass(frozen=True)
class Reference:
    """A run that was never killed, its data, and how long it trained."""

    engine: str
    path: Path
    data: Path
    seconds: float = 0.0

    @property
    def cohorts(self) -> dict[str, list[str]]:
        return {c["id"]: c["members"] for c in Run(self.path).read_json("plan.json")["cohorts"]}


@pytest.fixture(scope="module", params=["eager", "cohort"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    runs = tmp_path_factory.mktemp("reference")
    rng = np.random.default_rng(0)
    data = runs / "data.npz"
    lengths = rng.integers(3, 7, SAMPLES)
    np.savez(data, X=rng.normal(size=(SAMPLES, 6, 3)), y=np.arange(SAMPLES) % 3, lengths=lengths)
    whole = Reference(request.param, runs / "whole", data)
    start(runs, "warm", whole)  # imports everything once, so that the children start at once
    started = time.monotonic()
    assert forked(lambda: start(runs, "whole", whole)) == 0
    return replace(whole, seconds=time.monotonic() - started)


def killed_and_resumed(
    runs: Path, name: str, reference: Reference, after: float, *, saved: bool = False
) -> tuple[bool, bool]:
    """Kill a run some seconds after its folder (`saved`: its first checkpoint) is there, resume it until it is done.

    Returns whether the kill hit a living run, and whether a checkpoint was there.
    """
    run = runs / name
    once = (lambda: any(run.glob("checkpoints/*/step-*/manifest.json"))) if saved else Run(run).is_run
    fired = forked(lambda: start(runs, name, reference), after, once=once) is None
    found_at_kill = {cohort: Store(run / "checkpoints" / cohort).latest() for cohort in reference.cohorts}
    done = {cohort: (run / "logs" / f"{cohort}.done").exists() for cohort in reference.cohorts}
    seen = runs / f"{name}.txt"
    assert forked(lambda: resume(run, observer=Resumed(seen))) == 0
    went_on = dict(line.split() for line in seen.read_text().splitlines()) if seen.exists() else {}
    for cohort, found in found_at_kill.items():
        if found is not None and not done[cohort]:
            step, state = found
            assert step > 0
            assert int(went_on[cohort]) == step // STEPS_PER_EPOCH, "went on elsewhere than at the checkpoint"
            assert state["cohort"]["step"] == step
    return fired, any(found is not None for found in found_at_kill.values())


def test_twenty_kills_at_random_instants_change_no_bit(reference: Reference, tmp_path: Path) -> None:
    """X5: weights, log and history are those of the run that was never killed."""
    instants = random.Random(7)
    fired = with_checkpoint = 0
    for i in range(20):
        name = f"kill{i}"
        kill, checkpoint = killed_and_resumed(tmp_path, name, reference, instants.uniform(0, 0.8) * reference.seconds)
        fired, with_checkpoint = fired + kill, with_checkpoint + checkpoint
        assert differences(tmp_path / name, reference.path) == []
    assert fired >= 12, "too few kills hit a living run"
    assert with_checkpoint >= 8, "too few kills came after a checkpoint"


def test_killed_again_and_again_it_still_ends_at_the_same_bits(reference: Reference, tmp_path: Path) -> None:
    run = tmp_path / "often"
    forked(lambda: start(tmp_path, "often", reference), 0.1 * reference.seconds, once=Run(run).is_run)
    kills = 0
    while forked(lambda: resume(run), 0.25 * reference.seconds) is None and kills < 10:
        kills += 1
    assert kills >= 1, "no resume was killed"
    assert forked(lambda: resume(run)) == 0
    assert differences(run, reference.path) == []


def test_the_same_comparison_fails_when_a_resume_forgets_the_optimizer(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known-broken variant: the moments of AdamW are lost on restore."""
    moments = {"eager": "optimizer", "cohort": "moments"}[reference.engine]
    honest = CohortTraining.load_state_dict

    def forgetful(self: CohortTraining, state: dict) -> None:
        honest(self, {**state, "engine": {**state["engine"], moments: zeroed(state["engine"][moments])}})

    monkeypatch.setattr(CohortTraining, "load_state_dict", forgetful)
    assert broken_is_noticed(reference, tmp_path), "the broken resume was not noticed"


@pytest.mark.parametrize("honest", [True, False], ids=["a copy", "the live tensors"])
def test_what_a_slow_save_in_the_background_writes_is_the_state_as_it_was(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honest: bool
) -> None:
    """X5: steps are made while the disk is slow. Known-broken: without a copy, they are in the checkpoint in part."""
    save = Store.save

    def slow(self: Store, step: int, state: dict, **options: int | None) -> Path:
        time.sleep(0.03)
        return save(self, step, state, **options)

    monkeypatch.setattr(Store, "save", slow)
    if honest:
        fired, checkpoint = killed_and_resumed(tmp_path, "slow", reference, 0.05, saved=True)
        assert fired
        assert checkpoint
        assert differences(tmp_path / "slow", reference.path) == []
    else:
        monkeypatch.setattr(Snapshots, "take", lambda self, state: compact(dict(state)))
        assert broken_is_noticed(reference, tmp_path), "the shared memory was not noticed"


def broken_is_noticed(reference: Reference, runs: Path) -> bool:
    """Kill and resume at a few instants; whether one of them gave other bits."""
    for attempt in range(6):
        name = f"broken{attempt}"
        fired, checkpoint = killed_and_resumed(runs, name, reference, 0.02 * attempt, saved=True)
        if fired and checkpoint and differences(runs / name, reference.path):
            return True
    return False


def zeroed(tree: Any) -> Any:
    """The same nested structure with zeros in its tensors."""
    if isinstance(tree, dict):
        return {name: zeroed(value) for name, value in tree.items()}
    return torch.zeros_like(tree) if isinstance(tree, torch.Tensor) else tree


def test_a_log_has_no_line_twice(reference: Reference) -> None:
    rows = [json.loads(line) for line in (reference.path / "log.jsonl").read_text().splitlines()]
    keys = [(row["member"], row["step"], row["split"]) for row in rows]
    assert len(keys) == len(set(keys))
