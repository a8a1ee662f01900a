"""Training a run: one cohort after another, every record to the journal first, then to whoever listens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from paceline.checkpoint.store import Store
from paceline.data.fingerprint import part_fingerprint
from paceline.errors import InterruptedRunError
from paceline.run.folder import Run, write_json
from paceline.run.inputs import InMemory
from paceline.run.openings import RecordedPass, record_opening
from paceline.run.publish import publish_member
from paceline.run.summary import finish
from paceline.track.journal import Journal, read_journal
from paceline.track.queue import TrackerQueue
from paceline.train.cohort import CohortTraining, Trainee
from paceline.train.control import LoopControl
from paceline.train.learner import GradientLearner
from paceline.train.runtime import resolve_device, session
from paceline.train.saving import Saver
from paceline.types import Cohort, Consumer, Record, Stateful

if TYPE_CHECKING:
    import torch

    from paceline.run.build import Job, Prepared


class Observer(Protocol):
    """Whoever shows progress."""

    def start(self, cohort: str, number: int, of: int, num_epochs: int, resumed_at: int) -> None: ...

    def record(self, record: Record) -> None: ...

    def end(self, cohort: str, skipped: bool) -> None: ...


class Silent:
    """The observer that shows nothing."""

    def start(self, cohort: str, number: int, of: int, num_epochs: int, resumed_at: int) -> None: ...

    def record(self, record: Record) -> None: ...

    def end(self, cohort: str, skipped: bool) -> None: ...


def execute(
    run: Run,
    prepared: Prepared,
    *,
    callbacks: Sequence[Consumer] = (),
    trackers: TrackerQueue | None = None,
    control: LoopControl | None = None,
    observer: Observer | None = None,
) -> None:
    """Train what is not trained yet and derive the run's files. Raises InterruptedRunError after a save."""
    control, observer, trackers = control or LoopControl(), observer or Silent(), trackers or TrackerQueue({})
    jobs = {job.member.id: job for job in prepared.jobs}
    status = "failed"
    try:
        device = resolve_device(prepared.plan.device)
        with session(prepared.config.numerics, prepared.plan.threads):
            for number, cohort in enumerate(prepared.plan.cohorts, start=1):
                (job,) = [jobs[member] for member in cohort.members]
                if _is_done(run, cohort):
                    observer.end(cohort.id, skipped=True)
                    continue
                worker = _Worker(run, cohort, job, callbacks, trackers, control, observer)
                worker.train(number, len(prepared.plan.cohorts), device)
        finish(run, prepared)
        trackers.artefact("summary.json", run.path / "summary.json")
        status = "finished"
    except InterruptedRunError:
        status = "interrupted"
        raise
    finally:
        trackers.close(status)


class _Worker:
    """Trains one cohort in this process."""

    def __init__(
        self,
        run: Run,
        cohort: Cohort,
        job: Job,
        callbacks: Sequence[Consumer],
        trackers: TrackerQueue,
        control: LoopControl,
        observer: Observer,
    ) -> None:
        self._run, self._cohort, self._job = run, cohort, job
        self._callbacks, self._trackers, self._control, self._observer = callbacks, trackers, control, observer

    def train(self, number: int, of: int, device: torch.device) -> None:
        """Restore, train, publish, mark as done. Raises InterruptedRunError when told to stop."""
        job, training = self._job, self._job.config.training
        with closing(Journal(self._run.path / "logs", self._cohort.id)) as journal:
            saver = Saver(self._store(), training.save, self._beside(journal), identity(job))
            learner = GradientLearner(
                task=job.task, build_model=job.build_model, device=device, saver=saver, control=self._control
            )
            feed = job.inputs.feed(job.member, training, device)
            passes = job.inputs.passes(training, device)
            if "test" in passes:
                passes["test"] = RecordedPass(passes["test"], partial(_record_test, self._run, job))
            trainees = [Trainee(member=job.member, training=training, passes=passes)]
            if not learner.prepare(feed, trainees):
                journal.restart()
            trained = learner.cohort
            assert trained is not None
            self._observer.start(self._cohort.id, number, of, training.num_epochs, trained.epoch(0))
            for record in learner.fit(feed, trainees):
                self._consume(record, journal)
            journal.state_dict()  # durable before the cohort counts as done
        self._publish(trained)
        if self._control.interrupted:
            raise InterruptedRunError("interrupted: the state is saved", hint=f"paceline resume {self._run.path}",
                              exit_code=self._control.interrupted)  # fmt: skip
        write_json(_done(self._run, self._cohort), _outcome(trained))
        self._observer.end(self._cohort.id, skipped=False)

    def _store(self) -> Store:
        return Store(self._run.path / "checkpoints" / self._cohort.id)

    def _beside(self, journal: Journal) -> dict[str, Stateful]:
        named = {f"callback-{i}": callback for i, callback in enumerate(self._callbacks)}
        return {"log": journal, **{name: c for name, c in named.items() if isinstance(c, Stateful)}}

    def _consume(self, record: Record, journal: Journal) -> None:
        journal.write(record)
        self._trackers.put(record)
        self._observer.record(record)
        for callback in self._callbacks:
            callback(record, self._control)

    def _publish(self, trained: CohortTraining) -> None:
        rows = list(read_journal(self._run.path / "logs" / f"{self._cohort.id}.jsonl"))
        for k, member in enumerate(trained.members):
            publish_member(self._run.member_folder(member), self._job, trained, k, rows)


def identity(job: Job) -> dict[str, str]:
    """Return what a checkpoint belongs to: config, data and split. A state of another is refused."""
    found = {"config": _digest({name: value for name, value in job.config.tree().items() if name != "members"})}
    if isinstance(job.inputs, InMemory):
        split = job.inputs.split
        found["data"] = split.fingerprint
        found["split"] = _digest([split.train.tolist(), split.val.tolist(), split.test.tolist()])
    return found


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _record_test(run: Run, job: Job) -> None:
    """Put an opening of the test data on record; a user's own loaders have no fingerprint to record."""
    if isinstance(job.inputs, InMemory):
        mark = part_fingerprint(job.inputs.dataset, job.inputs.split.test)
        record_opening(run, fingerprint=mark, by="train")


def _outcome(trained: CohortTraining) -> dict[str, Any]:
    members = zip(trained.members, trained.progress, trained.selectors, strict=True)
    return {
        "schema_version": 1,
        "members": [
            {"id": name, "status": str(p.status), "reason": p.reason, "selection": selector.record()}
            for name, p, selector in members
        ],
    }


def _done(run: Run, cohort: Cohort) -> Path:
    return run.path / "logs" / f"{cohort.id}.done"


def _is_done(run: Run, cohort: Cohort) -> bool:
    return _done(run, cohort).is_file()
