"""Killed at chosen instants, or resumed from a state in which something is lost or altered: one matrix of both engines.

`test_kill_and_resume.py` has the random instants.
"""

from __future__ import annotations

import copy
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from paceline.api.runs import open_with_recipe
from paceline.checkpoint.store import Store
from paceline.checkpoint.tree import equal
from paceline.errors import PacelineError
from paceline.run.equality import Compared, compare_bits
from paceline.run.execute import execute
from paceline.run.folder import Run
from paceline.run.start import reopen
from paceline.train.cohort import CohortTraining
from paceline.train.engine_cohort import CohortEngine
from paceline.train.engine_eager import EagerEngine
from paceline.train.member_function import MemberFunction
from paceline.train.runtime import Noise
from paceline.types import Control, Record
from tests.contracts.tiny import USE, train
from tests.e2e.forked import forked

STEPS_PER_EPOCH = 5  # 36 samples in 9 batches of 4, two to a step
EVERYTHING = [
    "training.num_epochs=6", "training.batch_size=4", "training.gradient_accumulation_steps=2",
    "training.schedule.name=plateau", "training.schedule.patience=2", "training.schedule.observe=smoothed",
    "training.selection.smoothing=median_ema", "training.early_stopping.patience=4", "training.gradient_clip.value=1",
    "training.save.every_steps=1", "training.save.every_seconds=null", "training.log_batches=true",
    "training.processes=1", "training.compile=false", "members.seeds=2", "training.schedule.threshold=0.9",
    "training.selection.metric=val_loss", "training.selection.min_delta=10", "model.dropout=0.2",
]  # fmt: skip
BF16 = ["training.amp.enabled=true", "training.amp.dtype=bfloat16"]
WAYS = {
    "eager fp32, EMA": ["training.engine=eager", "training.weight_average.name=ema", "members.seeds=1"],
    "cohort fp32, EMA": ["training.engine=cohort", "training.weight_average.name=ema"],
    "eager bf16, SWA": [
        "training.engine=eager", "training.weight_average.name=swa", "training.weight_average.start_epoch=2",
        "members.seeds=1", *BF16,
    ],
    "cohort bf16, SWA, oversampled": [
        "training.engine=cohort", "training.weight_average.name=swa", "training.weight_average.start_epoch=2",
        "training.oversample.factor=2", "training.oversample.classes=[a]", *BF16,
    ],
}  # fmt: skip


@dataclass
class Patience:
    """A callback with a state of its own: it stops a member at its fourth evaluation, wherever the process began."""

    seen: dict[str, int] = field(default_factory=dict)

    def __call__(self, record: Record, control: Control) -> None:
        if record.split == "val":
            self.seen[record.member] = self.seen.get(record.member, 0) + 1
            if self.seen[record.member] == 4:
                control.stop(record.member)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": dict(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = dict(state["seen"])


def go_on(run: Run, *callbacks: Any) -> None:
    """What `paceline.resume` does, without the report."""
    run, recipe = open_with_recipe(run, [USE])
    execute(run, reopen(run, recipe), callbacks=callbacks or [Patience()])


@dataclass(frozen=True)
class Reference:
    way: list[str]
    run: Run

    def differences(self, run: Run) -> list[str]:
        found: Compared = compare_bits(run, self.run)
        assert found.tensors > 20 and found.steps > 3 * STEPS_PER_EPOCH
        return list(found.differences)


@pytest.fixture(scope="module", params=WAYS)
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    way = [*EVERYTHING, *WAYS[request.param]]
    return Reference(way, train(tmp_path_factory.mktemp("reference"), *way, name="whole", callbacks=[Patience()]))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_in(kind: type, name: str, doomed: Callable[..., bool]) -> None:
    """From here on this process kills itself when a method of a class is called with arguments that are doomed."""
    honest = getattr(kind, name)

    def method(self: Any, *arguments: Any) -> Any:
        if doomed(self, *arguments):
            die()
        return honest(self, *arguments)

    setattr(kind, name, method)


def in_step(step: int) -> None:
    """Within an epoch, before a step."""
    dies_in(CohortTraining, "step", lambda training: training.at == step)


def in_accumulation(step: int) -> None:
    """Between the two micro-batches of a step: the gradient of the first is there."""
    at = [0, 0]  # the step, and its micro-batches so far

    def begins(training: CohortTraining) -> bool:
        at[:] = [training.at, 0]
        return False

    def micro_batch(*arguments: Any) -> bool:
        at[1] += 1
        return at == [step, 2]

    dies_in(CohortTraining, "step", begins)
    dies_in(Noise, "set", micro_batch)
    dies_in(MemberFunction, "gradients", micro_batch)


def in_evaluation(number: int) -> None:
    """At the end of an evaluation of this process: the metrics are there, the record is not."""
    for kind in (EagerEngine, CohortEngine):
        honest, calls = kind.evaluate, [0]

        def evaluate(self: Any, *arguments: Any, honest: Any = honest, calls: list[int] = calls, **named: Any) -> Any:
            found = honest(self, *arguments, **named)
            calls[0] += 1
            if calls[0] == number:
                die()
            return found

        kind.evaluate = evaluate  # type: ignore[method-assign]


def killed(instant: Callable[[int], None], number: int, work: Callable[[], object]) -> None:
    """Do some work in a process that dies at an instant."""

    def doomed() -> None:
        instant(number)
        work()

    assert forked(doomed) is None, "the kill did not fire"


def start(tmp_path: Path, way: list[str]) -> None:
    train(tmp_path, *way, callbacks=[Patience()])


def test_ten_resumes_after_kills_at_any_instant_change_no_bit(reference: Reference, tmp_path: Path) -> None:
    """X5: within epochs, in accumulation groups, in evaluations; the first resume, the second, the tenth."""
    run = Run(tmp_path / "run")
    killed(in_step, 2, lambda: start(tmp_path, reference.way))
    for instant, number in [
        (in_accumulation, 3), (in_evaluation, 1), (in_step, 6), (in_accumulation, 8), (in_evaluation, 1), (in_step, 11),
        (in_accumulation, 12), (in_evaluation, 1), (in_step, 17),
    ]:  # fmt: skip
        killed(instant, number, lambda: go_on(run))
    assert any(Store(folder).latest() for folder in (run.path / "checkpoints").iterdir())
    go_on(run)
    assert reference.differences(run) == []


# The components of a saved state, by their paths.
EVERY = [
    "schema_version", "identity.config", "identity.data", "identity.split",
    "beside.log", "beside.log.records", "beside.callback-0",
    "cohort.step", "cohort.evaluated_at", "cohort.progress", "cohort.members",
    "cohort.selectors.0.last", "cohort.selectors.0.ema", "cohort.selectors.0.waited", "cohort.selectors.0.seen",
    "cohort.selectors.0.bar", "cohort.selectors.0.best", "cohort.selectors.0.raw",
    "cohort.schedules.0.factor", "cohort.schedules.0.best", "cohort.schedules.0.bad",
]  # fmt: skip
COMPONENTS = {
    "eager": [
        *EVERY, "cohort.engine.model", "cohort.engine.average", "cohort.engine.best.model",
        "cohort.engine.optimizer.state.0.exp_avg", "cohort.engine.optimizer.state.1.exp_avg_sq",
        "cohort.engine.optimizer.state.0.step", "cohort.engine.meter.sums", "cohort.engine.meter.weights",
    ],
    "cohort": [  # the rest is the same code
        "cohort.engine.parameters", "cohort.engine.averages", "cohort.engine.best.parameters",
        "cohort.engine.moments.mean", "cohort.engine.moments.square", "cohort.engine.sums", "cohort.engine.weights",
        "cohort.engine.active",
    ],
}  # fmt: skip


@pytest.fixture(scope="module", params=COMPONENTS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Reference, Run]:
    """A run with a checkpoint in mid-epoch, at step 13, and its reference."""
    engine, runs = request.param, tmp_path_factory.mktemp("saved")
    (way,) = ([*EVERYTHING, *way] for name, way in WAYS.items() if name.startswith(f"{engine} fp32"))
    whole = train(runs, *way, name="whole", callbacks=[Patience()])
    killed(in_step, 13, lambda: start(runs, way))
    return engine, Reference(way, whole), Run(runs / "run")


def components(saved: tuple[str, Reference, Run]) -> list[str]:
    return COMPONENTS[saved[0]]


def tampered(run: Run, target: Path, tamper: Callable[[dict[str, Any]], None]) -> Run:
    """Return a copy of a run whose last state was changed before it was saved."""
    shutil.copytree(run.path, target)
    (folder,) = (target / "checkpoints").iterdir()
    found = Store(folder).latest()
    assert found is not None and found[0] in (12, 13)  # the last one may have been under way
    step, state = found
    before = copy.deepcopy(state)
    tamper(state)
    assert equal(state, before) != [], "the tampering changed nothing"
    Store(folder).save(step, state, keep_last=1)
    return Run(target)


def at(state: dict[str, Any], path: str) -> tuple[Any, Any]:
    """Return the container of a component and its key there."""
    *way, last = path.split(".")
    tree: Any = state
    for name in way:
        tree = tree[name if isinstance(tree, dict) and name in tree else int(name)]
    return tree, last if isinstance(tree, dict) and last in tree else int(last)


def altered(value: Any) -> Any:
    """Return another value of the same form: that is checked, a value only by the checkpoint's SHA-256."""
    if isinstance(value, torch.Tensor):
        return value + value.abs().mean().clamp(min=1) / 2 if value.is_floating_point() else value + 1
    if isinstance(value, dict):
        return {name: altered(child) for name, child in value.items()}
    if isinstance(value, list):
        return [altered(child) for child in value]
    if isinstance(value, bool) or value is None:
        return not value
    return value + (1 if isinstance(value, int) else 0.5) if not isinstance(value, str) else value + "x"


# Values that matter from step 13 on, halfway between two evaluations, where just another number need not.
NOTHING_BETTER = {"value": 0.0, "smoothed": 0.0, "epoch": 1, "step": 5}
TELLING = {
    "cohort.evaluated_at": 15, "cohort.selectors.0.seen": 0, "cohort.selectors.0.bar": 0.0,
    "cohort.selectors.0.raw": NOTHING_BETTER, "cohort.schedules.0.best": 1e9,
}  # fmt: skip


def test_a_state_that_lacks_a_component_is_refused_before_the_first_step(
    saved: tuple[str, Reference, Run], tmp_path: Path
) -> None:
    _, _, run = saved
    for i, path in enumerate(components(saved)):

        def drop(state: dict[str, Any], path: str = path) -> None:
            tree, key = at(state, path)
            del tree[key]

        broken = tampered(run, tmp_path / str(i), drop)
        steps = (next((broken.path / "logs").glob("*.batches"))).read_bytes()
        with pytest.raises(PacelineError) as caught:
            go_on(broken)
        assert path.split(".")[2 if "optimizer" in path else -1] in str(caught.value), f"{path}: {caught.value}"
        assert (next((broken.path / "logs").glob("*.batches"))).read_bytes() == steps, "a step was made"


def test_a_component_that_is_another_is_refused_or_shows_in_the_comparison(
    saved: tuple[str, Reference, Run], tmp_path: Path
) -> None:
    _, reference, run = saved
    unseen = []
    for i, path in enumerate(components(saved)):

        def alter(state: dict[str, Any], path: str = path) -> None:
            tree, key = at(state, path)
            tree[key] = TELLING.get(path, altered(tree[key]))

        broken = tampered(run, tmp_path / str(i), alter)
        try:
            go_on(broken)
        except PacelineError:
            continue
        unseen += [] if reference.differences(broken) else [path]
    assert unseen == []


def test_the_state_as_it_was_saved_goes_on_exactly(saved: tuple[str, Reference, Run], tmp_path: Path) -> None:
    """What the two tests above do, less the tampering."""
    _, reference, run = saved
    shutil.copytree(run.path, tmp_path / "run")
    go_on(Run(tmp_path / "run"))
    assert reference.differences(Run(tmp_path / "run")) == []


def test_a_callback_that_begins_anew_is_noticed(saved: tuple[str, Reference, Run], tmp_path: Path) -> None:
    """A known-broken variant: its state is saved and not taken back."""

    class Forgetful(Patience):
        def load_state_dict(self, state: dict[str, Any]) -> None: ...

    _, reference, run = saved
    shutil.copytree(run.path, tmp_path / "run")
    go_on(Run(tmp_path / "run"), Forgetful())
    assert reference.differences(Run(tmp_path / "run")) != []
