"""The two trainings of a proof: the commands, the kills, and what the folder shows of both."""

from __future__ import annotations

import copy
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paceline.checkpoint.store import Store
from paceline.config.tree import Tree, put, to_yaml
from paceline.errors import TrainingError
from paceline.run.folder import Run, write_json
from paceline.run.plan import plan_to_json
from paceline.train.witness import last_step, read_batches
from paceline.types import Plan

REFERENCE, KILLED = "reference", "killed"
POLL_SECONDS = 0.002
SAVES_PER_KILL = 3  # checkpoints between two kills, on average
SAVES_PER_COHORT = 4  # at least
TEMPORARY = ".tmp-step-*"  # a step that is being written, see `checkpoint/store.py`


class Process(Protocol):
    """A command under way."""

    def poll(self) -> int | None:
        """Return the exit code, negative for the number of the signal that ended it; None while it runs."""
        ...

    def kill(self) -> None:
        """End it at once, by SIGKILL, and wait for it; nothing where it has ended."""
        ...


Start = Callable[[Sequence[str], Path], Process]  # arguments of `paceline`, and a file for what it says on stderr


class Watcher:
    """Is told how a proof goes; this one shows nothing."""

    def say(self, text: str) -> None:
        """Something has happened."""

    def steps(self, name: str, done: int, total: int) -> None:
        """A training has begun so many steps; `total` is 0 while that is not known."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One SIGKILL that hit a training: after how many steps of the run, and whether in the middle of a save."""

    step: int
    in_save: bool
    checkpoint: int  # the step, of the cohort in training, that a resume can go on from; 0 where nothing was saved


class Trial:
    """Trains a configuration whole and killed, both by the commands that a user would type."""

    def __init__(
        self, folder: Path, tree: Tree, plan: Plan, options: Sequence[str], start: Start, watcher: Watcher
    ) -> None:
        self.folder, self.total = folder, 0  # steps of the reference
        self._tree, self._plan, self._options = tree, plan, list(options)
        self._start, self._watcher = start, watcher
        self._cohorts = [cohort.id for cohort in plan.cohorts]
        self._errors = folder / "errors.txt"
        self.say = watcher.say

    def run(self, name: str) -> Run:
        return Run(self.folder / name)

    def train_whole(self) -> None:
        """Train the reference, and count its steps."""
        self._to_the_end(self._train(REFERENCE, self._tree), REFERENCE)
        self.total = self._begun(REFERENCE)

    def train_killed(self, kills: int, instants: random.Random) -> list[Kill]:
        """Train the same under kills, resumed after each, until it is done."""
        tree = copy.deepcopy(self._tree)
        put(tree, "training.save.every_steps", self._interval(kills))
        put(tree, "training.save.every_epochs", None)
        train = self._train(KILLED, tree)
        found: list[Kill] = []
        command = train
        for target in sorted(instants.randrange(self.total) for _ in range(kills)):
            last_chance = len(found) == kills - 1 and not any(kill.checkpoint for kill in found)
            kill = self._kill(command, target, instants, once_saved=last_chance)
            if kill is None:
                return found
            found.append(kill)
            self.say(
                f"kill {len(found)} of {kills}: in step {kill.step} of {self.total}" + kill.in_save * ", in a save"
            )
            resume = ["resume", str(self.folder / KILLED), *_used(self._options)]
            command = resume if self.run(KILLED).is_run() else train
        self._to_the_end(command, KILLED)
        return found

    def again(self) -> Iterator[int]:
        """Yield how many steps had to be trained again, each time that a cohort went on from a checkpoint."""
        for cohort in self._cohorts:
            due = 0
            for step, _ in read_batches(self._batches(KILLED, cohort)):
                if step != due:
                    yield due - step
                due = step + 1

    def _train(self, name: str, tree: Tree) -> list[str]:
        """Write what the command starts from, a configuration and beside it the plan, and return the command."""
        start = self.folder / f"{name}.start"
        start.mkdir(parents=True)
        (start / "config.yaml").write_text(to_yaml(tree), encoding="utf-8")
        write_json(start / "plan.json", plan_to_json(self._plan))
        config = str(start / "config.yaml")
        return ["train", "--config", config, "--runs", str(self.folder), "--name", name, *self._options]

    def _to_the_end(self, command: Sequence[str], name: str) -> None:
        with self._launched(command) as process:
            while (code := process.poll()) is None:
                self._wait(name)
        self._check(code)

    def _interval(self, kills: int) -> int:
        """Steps between two checkpoints of the killed training: some for each kill, and in every cohort."""
        shortest = min(last_step(self._batches(REFERENCE, cohort)) for cohort in self._cohorts)
        return max(1, min(self.total // (SAVES_PER_KILL * (kills + 1)), shortest // SAVES_PER_COHORT))

    def _kill(self, command: Sequence[str], target: int, instants: random.Random, *, once_saved: bool) -> Kill | None:
        """Start the training and kill it somewhere after a step; None where it ended before.

        once_saved: not before there is a checkpoint to resume from.
        """
        wants_save, later = instants.random() < 0.5, instants.random()
        lines, stale = self._lines(), self._half_written()
        with self._launched(command) as process:
            while process.poll() is None and (self._begun(KILLED) <= target or self._lines() == lines):
                self._wait(KILLED)
            while process.poll() is None and once_saved and not self._saved():
                self._wait(KILLED)
            while process.poll() is None and wants_save and self._half_written() <= stale:
                time.sleep(POLL_SECONDS / 20)
            time.sleep(later * POLL_SECONDS * (0.5 if wants_save else 10))
        code = process.poll()
        if code != -signal.SIGKILL:
            self._check(code)
            return None
        in_save = not self._half_written() <= stale
        return Kill(step=self._begun(KILLED), in_save=in_save, checkpoint=self._saved())

    def _saved(self) -> int:
        """The step of the last checkpoint of the cohort in training; 0 where there is none."""
        begun = [cohort for cohort in self._cohorts if self._batches(KILLED, cohort).exists()]
        steps = Store(self.folder / KILLED / "checkpoints" / begun[-1]).steps() if begun else []
        return steps[-1] if steps else 0

    @contextmanager
    def _launched(self, command: Sequence[str]) -> Iterator[Process]:
        """Start a command; whatever happens, nothing of it is left running."""
        process = self._start(command, self._errors)
        try:
            yield process
        finally:
            process.kill()

    def _check(self, code: int | None) -> None:
        if code:
            said = self._errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            what = next((line for line in said if line.startswith("error: ")), said[-1] if said else "")
            raise TrainingError(f"a training of the proof ended with code {code}", where=str(self.folder),
                                got=what.removeprefix("error: "), hint="paceline train, the same way")  # fmt: skip

    def _wait(self, name: str) -> None:
        self._watcher.steps(name, self._begun(name), self.total)
        time.sleep(POLL_SECONDS)

    def _begun(self, name: str) -> int:
        """Steps that a training has come to, over all cohorts."""
        return sum(last_step(self._batches(name, cohort)) for cohort in self._cohorts)

    def _lines(self) -> int:
        """Bytes of all that the killed training has written about its steps: they grow with each one."""
        paths = [self._batches(KILLED, cohort) for cohort in self._cohorts]
        return sum(path.stat().st_size for path in paths if path.exists())

    def _half_written(self) -> set[Path]:
        """Steps that are being written, and those of processes that were killed."""
        return set((self.folder / KILLED / "checkpoints").glob(f"*/{TEMPORARY}"))

    def _batches(self, name: str, cohort: str) -> Path:
        return self.folder / name / "logs" / f"{cohort}.batches"


def spawn(command: Sequence[str], errors: Path) -> Process:
    """Start `paceline` with these arguments as a process of its own."""
    return _Spawned(command, errors)


class _Spawned:
    def __init__(self, command: Sequence[str], errors: Path) -> None:
        with errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "paceline", *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=stderr, start_new_session=True,
            )  # fmt: skip

    def poll(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _used(options: Sequence[str]) -> list[str]:
    """The `--use` options alone: a resume composes nothing."""
    pairs = zip(options[::2], options[1::2], strict=True)
    return [word for name, value in pairs if name == "--use" for word in (name, value)]
