"""Signals in every phase of a command: a verified save where there is something to save, the exit code, no orphan.

Everything runs the command itself, in forked children (no import is paid twice) or in processes of its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness needs fork, setsid and /proc")

from benchmarks.fault_parts.forking import Board, run_forked  # noqa: E402
from benchmarks.fault_parts.interrupts import interrupts  # noqa: E402
from benchmarks.fault_parts.outcome import lines  # noqa: E402
from paceline.checkpoint.store import Store  # noqa: E402
from paceline.checkpoint.tree import equal  # noqa: E402
from paceline.cli.app import run as main  # noqa: E402
from paceline.run.folder import Run  # noqa: E402
from paceline.tasks import Classification  # noqa: E402
from paceline.train.cohort import CohortTraining  # noqa: E402
from paceline.train.control import LoopControl, checked  # noqa: E402
from tests.contracts.arms import normalised  # noqa: E402
from tests.contracts.tiny import USE, Cohort, points, result, train  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs" / "durable.md"
QUICK = ["task=blobs", "training.num_epochs=4", "training.compile=false", "training.save.every_seconds=null"]


@pytest.mark.parametrize(("engine", "seed"), [("eager", 3), ("cohort", 4)])
def test_a_signal_at_a_random_instant_of_each_phase_loses_no_bit(engine: str, seed: int, tmp_path: Path) -> None:
    """Start-up, step, evaluation, save, report; `x.py bench faults` sends a hundred."""
    row = interrupts(engine, 5, seed=seed, folder=tmp_path, broken=engine == "cohort")
    assert row.missed == [], "\n".join(lines(row))


def command(*words: object) -> None:
    sys.argv = ["paceline", *map(str, words)]
    main()


def start(runs: Path, *words: str) -> None:
    command("train", "--use", USE, *QUICK, "--runs", runs, "--name", "run", *words)


def in_step(at: int, act: Callable[[], object]) -> None:
    """Make every process forked from here act in the middle of a step."""
    real = CohortTraining.step

    def step(self: CohortTraining) -> None:
        if self.at == at:
            act()
        real(self)

    CohortTraining.step = step  # type: ignore[method-assign]  # in a child only


def test_the_second_signal_leaves_at_once(tmp_path: Path) -> None:
    def child() -> None:
        def twice() -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

        in_step(5, twice)
        start(tmp_path)

    began = time.monotonic()
    assert run_forked(child).code == 143
    assert time.monotonic() - began < 30
    assert list((tmp_path / "run" / "checkpoints").rglob("step-*")) == []


def test_sigusr1_saves_and_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = train(tmp_path, *QUICK[1:], name="whole")
    saves = Board("first", "count")

    def child() -> None:
        in_step(5, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        save = Store.save

        def noted(self: Store, step: int, *args: object, **options: object) -> object:
            saves["first"] = saves["first"] or step
            saves["count"] += 1
            return save(self, step, *args, **options)  # type: ignore[arg-type]

        Store.save = noted  # type: ignore[method-assign, assignment]
        start(tmp_path)

    assert run_forked(child).code == 0
    assert (saves["first"], saves["count"]) == (6, 2), "one after the step in which it came, and the last one"
    assert equal(result(Run(tmp_path / "run")), result(whole)) == []


@pytest.mark.fast
def test_an_evaluation_is_left_between_two_batches_and_made_again(tmp_path: Path) -> None:
    """X5: the training loss of the epoch is still there."""
    task, columns = Classification(n_classes=3), points(40)
    whole = Cohort(tmp_path / "whole", columns, normalised, task)
    records = whole.run()
    first = Cohort(tmp_path / "parts", columns, normalised, task)
    engine, seen = first.state.engine, []
    passed = engine._passes["val"]

    class Interrupting:
        def __iter__(self) -> Iterator[object]:
            for batch in passed:
                seen.append(first.state.at)
                if len(seen) == 5:  # the second of three batches of the second evaluation
                    first.control.interrupt(143)
                yield batch

    engine._passes["val"] = Interrupting()
    begun = first.run()
    assert len(seen) == 5, "the evaluation went on"
    assert first.store.steps() == [10]
    second = Cohort(tmp_path / "parts", columns, normalised, task)
    assert begun + second.run() == records
    assert equal(second.state.state_dict(), whole.state.state_dict()) == []


@pytest.mark.fast
def test_nothing_is_asked_of_an_evaluation_that_nobody_stops() -> None:
    assert list(checked([1, 2], None)) == list(checked([1, 2], LoopControl())) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_the_command_starts_leaves_nothing_behind(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """It is loading its data, which takes a minute."""
    loading, recipe = tmp_path / "loading", tmp_path / "slow.py"
    recipe.write_text(SLOW)
    words = ["train", "--use", str(recipe), "--runs", str(tmp_path / "runs")]
    process = subprocess.Popen([sys.executable, "-m", "paceline", *words], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not loading.exists() and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (code, "error: interrupted\n")
    assert not (tmp_path / "runs").exists() or list((tmp_path / "runs").iterdir()) == []


SLOW = """
import time
from pathlib import Path

import paceline


class Slow(paceline.DataConfig):
    def load(self):
        Path(__file__).with_name("loading").touch()
        time.sleep(60)


class Net(paceline.ModelConfig):
    def build(self, spec): ...


recipe = paceline.Recipe(name="slow", data={"slow": Slow}, models={"net": Net})
"""


@pytest.mark.slow
def test_the_sbatch_script_of_the_docs_requeues_until_the_run_is_done(tmp_path: Path) -> None:
    """A scheduler that sends SIGTERM to the script before its time is up, and starts it again when it asks for it."""
    script = tmp_path / "job.sh"
    (text,) = (block for block in re.findall(r"```text\n(.*?)```", DOCS.read_text(), re.DOTALL) if "#SBATCH" in block)
    script.write_text(text)
    tools = tmp_path / "bin"
    tools.mkdir()
    quick = "training.num_epochs=60 training.early_stopping.enabled=false"
    for name, body in {
        "scontrol": f'echo "$@" >> {tmp_path}/requeued',
        "paceline": f'if [ "$1" = train ]; then set -- train --use {USE} {quick} "--name" "${{@: -1}}"; else '
                    f'set -- "$@" --use {USE}; fi; exec {sys.executable} -m paceline "$@"',
    }.items():  # fmt: skip
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    run, requeued, codes = tmp_path / "runs" / "17", tmp_path / "requeued", list[int]()
    while (not codes or codes[-1] == 143) and len(codes) < 5:
        asked = requeued.read_text().count("requeue 17") if requeued.exists() else 0
        assert asked == len(codes), "it did not ask to be started again"
        job = subprocess.Popen(["bash", str(script)], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
        began, logs = time.monotonic(), list[Path]()
        while not codes and job.poll() is None and not logs and time.monotonic() - began < 60:
            logs = [path for path in run.glob("logs/*.jsonl") if path.stat().st_size]  # training has begun
            time.sleep(0.01)
        if not codes:
            job.send_signal(signal.SIGTERM)
        codes.append(job.wait(timeout=120))
    assert codes == [143, 0]
    assert Run(run).summary["status"] == "finished"
    whole = train(tmp_path, *quick.split(), name="whole")
    assert equal(result(Run(run)), result(whole)) == []
