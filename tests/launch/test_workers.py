"""Cohorts in worker processes: the same bits as in one process, killed, told to stop, or left alone by their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from paceline.api.runs import resume, train
from paceline.checkpoint.tree import equal
from paceline.launch.workers import Worker, run_workers
from paceline.run.folder import Run
from paceline.train.control import LoopControl

RECIPE = Path(__file__).parents[1] / "train" / "double_recipe.py"
OVERRIDES = [
    "task=double", "data=rows", "model=mlp", "training.engine=cohort", "training.compile=false", "members.seeds=4",
    "training.processes=2", "training.save.every_steps=2", "training.num_epochs=40",
    "training.early_stopping.enabled=false",
]  # fmt: skip


def command(runs: Path, name: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "paceline", "train", "--use", str(RECIPE), *OVERRIDES, *more,
            "--runs", str(runs), "--name", name]  # fmt: skip


def workers_of(run: Path) -> list[int]:
    """Process ids of the workers that train a run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"paceline.worker" in words and str(run).encode() in words:
            found.append(int(entry.name))
    return found


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def saved(run: Path) -> bool:
    return len(list(run.glob("checkpoints/*/step-*/manifest.json"))) >= 2


def same(run: Path, reference: Path) -> bool:
    ours, theirs = Run(run), Run(reference)
    assert (run / "log.jsonl").read_bytes() == (reference / "log.jsonl").read_bytes()
    assert all(equal(ours.best(member), theirs.best(member)) == [] for member in theirs.members)
    return True


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same plan in this process: a callback keeps all cohorts here."""
    runs = tmp_path_factory.mktemp("reference")
    run = train(overrides=OVERRIDES, use=[RECIPE], runs=runs, name="whole", callbacks=[lambda record, control: None])
    plan = run.read_json("plan.json")
    assert [len(cohort["members"]) for cohort in plan["cohorts"]] == [2, 2]
    assert plan["processes"] == 2
    return run.path


@pytest.mark.slow
def test_workers_give_the_bits_of_one_process(reference: Path, tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, "apart"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 members together" in done.stdout
    assert same(tmp_path / "apart", reference)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_a_retry_from_its_last_checkpoint(reference: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    parent = subprocess.Popen(command(tmp_path, "killed", "training.num_epochs=40"), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: saved(run))
    victims = workers_of(run)
    assert victims, "no worker to kill"
    os.kill(victims[0], signal.SIGKILL)
    out, _ = parent.communicate(timeout=120)
    assert parent.returncode == 0
    assert "going on after epoch" in out or out.count("together") == 3, "the worker was not started again"
    assert same(run, reference)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_parent_saves_everywhere_and_leaves_no_orphan(
    number: signal.Signals, code: int, reference: Path, tmp_path: Path
) -> None:
    run = tmp_path / "stopped"
    parent = subprocess.Popen(command(tmp_path, "stopped"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: saved(run))
    parent.send_signal(number)
    _, errors = parent.communicate(timeout=60)
    assert parent.returncode == code
    assert "paceline resume" in errors
    assert workers_of(run) == []
    assert not (run / "summary.json").exists(), "the signal came after the end"
    resume(run, use=[RECIPE])
    assert same(run, reference)


@pytest.mark.slow
def test_a_save_asked_of_the_parent_is_made_by_every_worker(reference: Path, tmp_path: Path) -> None:
    """Nothing else saves before the end. A worker that does not know the signal yet is not sent it."""
    run = tmp_path / "asked"
    quiet = ["training.save.every_steps=null", "training.save.every_seconds=null", "training.num_epochs=4000"]
    parent = subprocess.Popen(command(tmp_path, "asked", *quiet), stdout=subprocess.DEVNULL)

    def asked() -> bool:
        assert parent.poll() is None
        if workers_of(run):
            parent.send_signal(signal.SIGUSR1)
            time.sleep(0.3)
        return len({path.parts[-3] for path in run.glob("checkpoints/*/step-*/manifest.json")}) == 2

    wait_until(asked)
    parent.terminate()
    assert parent.wait(60) == 143
    assert workers_of(run) == []


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "orphans"
    parent = subprocess.Popen(command(tmp_path, "orphans", "training.num_epochs=4000"), stdout=subprocess.DEVNULL)
    wait_until(lambda: saved(run))
    assert workers_of(run)
    parent.kill()
    parent.wait()
    wait_until(lambda: workers_of(run) == [], seconds=10)


@pytest.mark.fast
def test_a_worker_that_dies_twice_is_reported_with_its_last_words() -> None:
    script = "import os, sys; print('the last words', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    worker = Worker("doomed", [sys.executable, "-c", script])
    failed = run_workers([worker], 1, lambda name, event: None, LoopControl())
    assert failed == [worker]
    assert worker.starts == 2
    assert "the last words" in worker.tail


@pytest.mark.fast
def test_events_arrive_and_no_more_run_at_once_than_asked() -> None:
    script = 'import time; print(\'{"event":"a"}\', flush=True); time.sleep(.1); print(\'{"event":"z"}\')'
    workers = [Worker(str(i), [sys.executable, "-c", script]) for i in range(4)]
    seen: list[tuple[str, str]] = []
    assert run_workers(workers, 2, lambda name, event: seen.append((name, event["event"])), LoopControl()) == []
    assert sorted(seen) == sorted((str(i), event) for i in range(4) for event in "az")
    running = most = 0
    for _, event in seen:
        running += 1 if event == "a" else -1
        most = max(most, running)
    assert most <= 2


@pytest.mark.slow
def test_a_cohort_whose_worker_dies_twice_fails_alone_and_resume_tries_it_again(
    reference: Path, tmp_path: Path
) -> None:
    run = tmp_path / "half"
    parent = subprocess.Popen(command(tmp_path, "half"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: saved(run))
    killed = set[int]()
    while parent.poll() is None:
        for worker in workers_of(run):
            if b"seed44-to-seed45" in command_line(worker) and worker not in killed:
                os.kill(worker, signal.SIGKILL)
                killed.add(worker)
        time.sleep(0.05)
    _, errors = parent.communicate()
    assert len(killed) == 2, "the worker was not started again"
    assert parent.returncode == 1
    assert "2 of 4 members failed" in errors
    summary = Run(run).summary
    assert summary["failed"] == ["seed44", "seed45"]
    assert summary["metrics"]["val_loss"]["n"] == 2
    reasons = {m["id"]: m["stopped"] for m in summary["members"]}
    assert reasons["seed44"] == "its worker died: killed by SIGKILL"
    assert (run / "report.html").is_file()
    resume(run, use=[RECIPE])
    assert same(run, reference)


@pytest.mark.slow
def test_a_worker_that_is_frozen_is_killed_and_tried_again(reference: Path, tmp_path: Path) -> None:
    run = tmp_path / "frozen"
    parent = subprocess.Popen(command(tmp_path, "frozen"), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: saved(run))
    victim = workers_of(run)[0]
    os.kill(victim, signal.SIGSTOP)
    began = time.monotonic()
    wait_until(lambda: not Path(f"/proc/{victim}").exists() or command_line(victim) == b"", seconds=15)
    assert time.monotonic() - began < 12, "nobody noticed"
    out, _ = parent.communicate(timeout=120)
    assert parent.returncode == 0
    assert "going on after epoch" in out or out.count("together") == 3
    assert same(run, reference)


def command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.slow
def test_workers_map_what_the_parent_prepared_and_it_is_gone_afterwards(tmp_path: Path) -> None:
    """Two folds, each scaled by its own training part; the workers never call `load`."""
    recipe = tmp_path / "once.py"
    recipe.write_text(ONCE, encoding="utf-8")
    run = tmp_path / "once"
    words = ["task=once", "members.seeds=2", "members.folds=2", "training.engine=cohort", "training.compile=false",
             "training.processes=2", "training.num_epochs=3"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "paceline", "train", "--use", str(recipe), *words, "--runs", str(tmp_path), "--name",
         "once"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "loads.txt").read_text(encoding="utf-8") == "loaded\n"
    assert not (run / "prepared").exists()
    here = train(overrides=words, use=[recipe], runs=tmp_path, name="here", callbacks=[lambda record, control: None])
    assert same(run, here.path)


ONCE = """
from pathlib import Path

import numpy as np

import paceline


class Counted(paceline.DataConfig):
    def load(self):
        with (Path(__file__).parent / "loads.txt").open("a") as log:
            log.write("loaded\\n")
        x = np.random.default_rng(0).normal(3.0, 2.0, size=(60, 4))
        return paceline.dataset(x=x, y=(x[:, 0] > 3).astype(int))


class Net(paceline.ModelConfig):
    def build(self, spec):
        from torch import nn

        return nn.Linear(spec.n_features, spec.n_classes)


recipe = paceline.Recipe(name="once", data={"counted": Counted}, models={"net": Net})
"""
