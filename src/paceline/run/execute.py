"""Training a run: one cohort after another, every record to the journal first, then to whoever listens."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from paceline.checkpoint.store import Store
from paceline.data.fingerprint import part_fingerprint
from paceline.errors import InterruptedRunError
from paceline.launch.workers import Event, Worker, died, explain, how_it_died, run_workers
from paceline.run.assemble import assemble
from paceline.run.fitted import ENGINE, fit_jobs, isolated, most_rounds, publish_fitted
from paceline.run.folder import Run
from paceline.run.identity import identity
from paceline.run.inputs import InMemory
from paceline.run.openings import record_opening
from paceline.run.outcome import is_done, note_death, note_end
from paceline.run.plan import change_plan, changed_cohort
from paceline.run.publish import publish_improved, publish_member
from paceline.run.shared import shared_data
from paceline.run.summary import finish
from paceline.track.journal import Journal, from_row, read_journal
from paceline.track.queue import TrackerQueue
from paceline.train.cohort import CohortTraining, Trainee
from paceline.train.control import LoopControl, Stopped
from paceline.train.learner import GradientLearner
from paceline.train.micro import DeviceMemoryError
from paceline.train.runtime import resolve_device, session
from paceline.train.saving import Saver, saved_where_full
from paceline.train.witness import Witness
from paceline.types import Cohort, Consumer, Record, Stateful

if TYPE_CHECKING:
    from paceline.run.build import Prepared
    from paceline.run.job import Job


LOG = logging.getLogger("paceline")
SAVED = "interrupted: the state is saved"
IDLE = "interrupted, where there was nothing to save"
UNSAVED = "interrupted, and the last save failed: a resume goes on from the one before"


class Observer(Protocol):
    """Whoever shows progress. Cohorts may train side by side."""

    def start(self, cohort: Cohort, number: int, of: int, num_epochs: int, resumed_at: int) -> None: ...

    def record(self, cohort: str, record: Record) -> None: ...

    def end(self, cohort: str, skipped: bool) -> None: ...


class Silent:
    """The observer that shows nothing."""

    def start(self, cohort: Cohort, number: int, of: int, num_epochs: int, resumed_at: int) -> None: ...

    def record(self, cohort: str, record: Record) -> None: ...

    def end(self, cohort: str, skipped: bool) -> None: ...


def execute(
    run: Run,
    prepared: Prepared,
    *,
    use: Sequence[Path] = (),
    callbacks: Sequence[Consumer] = (),
    trackers: TrackerQueue | None = None,
    control: LoopControl | None = None,
    observer: Observer | None = None,
) -> None:
    """Train what is not trained yet and derive the run's files. Raises InterruptedRunError after a save.

    Cohorts train in worker processes where the plan has several, and in this one where callbacks have to see every
    record before training goes on. The trackers are left open.
    """
    control, observer, trackers = control or LoopControl(), observer or Silent(), trackers or TrackerQueue({})
    try:
        plan = prepared.plan
        left = [cohort for cohort in plan.cohorts if not is_done(run, cohort)]
        for cohort in plan.cohorts:
            if cohort not in left:
                observer.end(cohort.id, skipped=True)
        side_by_side = plan.processes > 1 and len(left) > 1
        if (side_by_side or isolated(prepared.jobs, left)) and not callbacks:
            _in_workers(run, prepared, left, use, trackers, control, observer)
        else:
            with session(prepared.config.numerics, plan.threads):
                for cohort in left:
                    _Worker(run, prepared, cohort, callbacks, trackers, control, observer,
                            partial(change_plan, run)).train()  # fmt: skip
        finish(run, prepared)
        trackers.artefact("summary.json", run.path / "summary.json")
    except InterruptedRunError as error:
        raise _interrupted(run, control, use, error.what) from None
    except Stopped:
        raise _interrupted(run, control, use, IDLE) from None


def train_cohort(
    run: Run,
    prepared: Prepared,
    cohort_id: str,
    *,
    control: LoopControl,
    observer: Observer,
    changed: Callable[[Mapping[str, Any]], None],
) -> None:
    """Train one cohort of a run in this process: what a worker does. `changed` is told of a change of the plan."""
    (cohort,) = [cohort for cohort in prepared.plan.cohorts if cohort.id == cohort_id]
    if is_done(run, cohort):
        observer.end(cohort.id, skipped=True)
        return
    with session(prepared.config.numerics, prepared.plan.threads):
        _Worker(run, prepared, cohort, (), TrackerQueue({}), control, observer, changed).train()


def _in_workers(
    run: Run,
    prepared: Prepared,
    left: Sequence[Cohort],
    use: Sequence[Path],
    trackers: TrackerQueue,
    control: LoopControl,
    observer: Observer,
) -> None:
    """Train cohorts in worker processes and pass on what they report. One that dies twice costs its members only."""
    plan = prepared.plan
    cohorts = {cohort.id: (number, cohort) for number, cohort in enumerate(plan.cohorts, start=1)}
    options = [text for path in use for text in ("--use", str(path))]
    options += [] if trackers.any else ["--thin"]
    command = [sys.executable, "-m", "paceline.worker", str(run.path)]
    workers = [Worker(cohort.id, [*command, cohort.id, *options]) for cohort in left]

    def handle(name: str, event: Event) -> None:
        number, cohort = cohorts[name]
        if event["event"] == "start":
            observer.start(cohort, number, len(plan.cohorts), event["num_epochs"], event["resumed_at"])
        elif event["event"] == "records":
            for row in event["records"]:
                trackers.put(from_row(row))
                observer.record(name, from_row(row))
        elif event["event"] == "changed":
            change_plan(run, event["change"])
        elif event["event"] == "warning":
            LOG.warning("%s", event["text"])
        else:
            observer.end(name, event["skipped"])

    with shared_data(run, prepared):
        failed = run_workers(workers, plan.processes, handle, control)
    if control.interrupted:
        raise _interrupted(run, control)
    refused = [worker for worker in failed if not died(worker)]
    if refused or len(failed) == len(plan.cohorts):
        raise explain((refused or failed)[0])
    for worker in failed:
        note_death(run, prepared, cohorts[worker.name][1], how_it_died(worker))
        observer.end(worker.name, skipped=False)


class _Worker:
    """Trains one cohort in this process."""

    def __init__(
        self,
        run: Run,
        prepared: Prepared,
        cohort: Cohort,
        callbacks: Sequence[Consumer],
        trackers: TrackerQueue,
        control: LoopControl,
        observer: Observer,
        changed: Callable[[Mapping[str, Any]], None],
    ) -> None:
        jobs = {job.member.id: job for job in prepared.jobs}
        self._run, self._plan, self._cohort = run, prepared.plan, cohort
        self._changed = changed  # told of a change of the plan
        self._jobs = tuple(jobs[member] for member in cohort.members)
        self._callbacks, self._trackers, self._control, self._observer = callbacks, trackers, control, observer

    def train(self) -> None:
        """Restore, train, publish, mark as done. Raises InterruptedRunError when told to stop."""
        try:
            if self._cohort.engine == ENGINE:
                self._fit()
            else:
                self._train()
        except DeviceMemoryError as error:
            self._on_the_cpu(error)
        finally:
            self._control.attended = False

    def _train(self) -> None:
        training, device = self._jobs[0].config.training, resolve_device(self._cohort.device or self._plan.device)
        with closing(Journal(self._run.path / "logs", self._cohort.id)) as journal:
            belongs_to = identity(self._run, self._jobs)
            saver = Saver(self._store(), training.save, self._beside(journal), belongs_to, journal.sync)
            learner = GradientLearner(saver=saver, control=self._control)
            opened = partial(_record_test, self._run, self._jobs[0])
            data = assemble(self._cohort, self._jobs, device, opened, self._changed)
            if training.log_batches:
                path = self._run.path / "logs" / f"{self._cohort.id}.batches"
                data = replace(data, feed=Witness(data.feed, path))
            trainees = [Trainee(member=job.member, training=job.config.training) for job in self._jobs]
            if not learner.prepare(data, trainees):
                journal.restart()
            trained = learner.cohort
            assert trained is not None
            self._begin(training.num_epochs, resumed_at=trained.epoch(0))
            with closing(learner.fit(data, trainees)) as records, saved_where_full(saver, trained):
                for record in records:
                    if training.save.best_at_once:
                        publish_improved(self._run, self._jobs, trained, record)
                    self._consume(record, journal)
            journal.finish()  # before the cohort counts as done
        if saver.failure is not None:
            LOG.warning("the last save of %s failed: %s", self._cohort.id, saver.failure.in_short)
        self._publish(trained)
        if self._control.interrupted:
            raise _interrupted(self._run, self._control, what=SAVED if saver.failure is None else UNSAVED)
        note_end(self._run, self._cohort, trained)
        self._observer.end(self._cohort.id, skipped=False)

    def _fit(self) -> None:
        """Fit estimators from the start: there is nothing to restore."""
        with closing(Journal(self._run.path / "logs", self._cohort.id)) as journal:
            journal.restart()
            learner, records = fit_jobs(self._jobs, self._control, partial(_record_test, self._run, self._jobs[0]))
            self._begin(most_rounds(self._jobs), resumed_at=0)
            for record in records:
                self._consume(record, journal)
            journal.finish()
        if self._control.interrupted:
            raise Stopped(self._control.interrupted)
        rows = list(read_journal(self._run.path / "logs" / f"{self._cohort.id}.jsonl"))
        for k, job in enumerate(self._jobs):
            publish_fitted(self._run.member_folder(job.member.id), job, learner, k, rows)
        note_end(self._run, self._cohort, learner)
        self._observer.end(self._cohort.id, skipped=False)

    def _begin(self, num_epochs: int, resumed_at: int) -> None:
        ids = [cohort.id for cohort in self._plan.cohorts]
        self._observer.start(self._cohort, ids.index(self._cohort.id) + 1, len(ids), num_epochs, resumed_at)

    def _on_the_cpu(self, error: DeviceMemoryError) -> None:
        """Train on from the state that was saved when not even one sample fitted into the device's memory."""
        if (self._cohort.device or self._plan.device).startswith("cpu"):
            raise error
        change = {"cohort": self._cohort.id, "step": error.step, "device": "cpu", "reason": error.got}
        self._changed(change)
        self._cohort = changed_cohort(self._cohort, change)
        self.train()

    def _store(self) -> Store:
        return Store(self._run.path / "checkpoints" / self._cohort.id)

    def _beside(self, journal: Journal) -> dict[str, Stateful]:
        named = {f"callback-{i}": callback for i, callback in enumerate(self._callbacks)}
        return {"log": journal, **{name: c for name, c in named.items() if isinstance(c, Stateful)}}

    def _consume(self, record: Record, journal: Journal) -> None:
        journal.write(record)
        self._trackers.put(record)
        self._observer.record(self._cohort.id, record)
        for callback in self._callbacks:
            callback(record, self._control)

    def _publish(self, trained: CohortTraining) -> None:
        rows = list(read_journal(self._run.path / "logs" / f"{self._cohort.id}.jsonl"))
        if self._control.interrupted:  # predictions come when the final evaluation is whole
            rows = [row for row in rows if row["split"] in ("train", "val")]
        for k, job in enumerate(self._jobs):
            publish_member(self._run.member_folder(job.member.id), job, trained, k, rows)


def _interrupted(run: Run, control: LoopControl, use: Sequence[Path] = (), what: str = SAVED) -> InterruptedRunError:
    command = ["paceline", "resume", str(run.path), *(word for path in use for word in ("--use", str(path)))]
    return InterruptedRunError(what, hint=shlex.join(command), exit_code=control.interrupted)


def _record_test(run: Run, job: Job) -> None:
    """Put an opening of the test data on record; a user's own loaders have no fingerprint to record."""
    if isinstance(job.inputs, InMemory):
        mark = part_fingerprint(job.inputs.dataset, job.inputs.split.test)
        record_opening(run, fingerprint=mark, by="train")
