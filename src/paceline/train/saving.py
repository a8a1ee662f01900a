"""When and how a cohort is saved, and what a saved state holds besides the cohort."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from paceline.checkpoint import tree
from paceline.checkpoint.snapshot import Background, Snapshots
from paceline.errors import CheckpointCorruptError, CheckpointError, CheckpointMismatchError, CheckpointWriteError
from paceline.train.config import SaveConfig
from paceline.train.fitting import Misfits
from paceline.train.micro import DeviceMemoryError
from paceline.train.migrations import SCHEMA_VERSION, migrate
from paceline.types import Stateful

if TYPE_CHECKING:
    from paceline.checkpoint.store import Store
    from paceline.train.cohort import CohortTraining

LOG = logging.getLogger("paceline")
COPIED_BYTES = 2**30  # `asynchronous: auto` copies states of at most so many bytes
PARTS = ("schema_version", "identity", "cohort", "beside")


class Saver:
    """Saves by time, steps or epochs, where asked from a copy in a thread while training goes on.

    beside: the other owners of state: the log's lengths, callbacks. identity: what a checkpoint belongs to. sync: makes
    durable what the log's lengths count; called before a checkpoint is published, perhaps in the thread.
    `failure` is why the last save failed, None where it did not.
    """

    def __init__(
        self,
        store: Store,
        config: SaveConfig,
        beside: Mapping[str, Stateful],
        identity: Mapping[str, str],
        sync: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._config, self._sync = store, config, sync
        self._beside, self._identity = dict(beside), dict(identity)
        self._last = time.monotonic()
        self._snapshots, self._background = Snapshots(), Background()
        self._flying = False  # whether there is a save whose outcome is not known yet
        self._reserved = False  # whether the memory of the copies has been asked for
        self._warned = False
        self.failure: CheckpointError | None = None

    def due(self, cohort: CohortTraining) -> bool:
        """Whether to save at this step. Asked once a step, so it costs a clock reading.

        Raises what a save that has just ended in the background raised.
        """
        if self._flying and not self._background.busy:
            self._land()
        config, at = self._config, cohort.at
        if at == 0:
            return False
        waited = time.monotonic() - self._last
        if not self._reserved:
            self._reserve(cohort, waited)
        if config.every_seconds is not None and waited >= config.every_seconds and not self._flying:
            return True
        if any(every is not None and at % every == 0 for every in (config.every_steps, config.keep_every)):
            return True
        steps = cohort.feed.steps_per_epoch
        return config.every_epochs is not None and any(at % (n * config.every_epochs) == 0 for n in steps)

    def save(self, cohort: CohortTraining, *, awaited: bool = False) -> None:
        """Save everything that can affect the next step; one save at a time. `awaited`: return when it is durable.

        Raises CheckpointError when this save fails or the one before it has, unless `on_error` says to go on.
        """
        self._land()
        self._last = time.monotonic()
        try:
            state = {
                "schema_version": SCHEMA_VERSION,
                "identity": self._identity,
                "cohort": cohort.state_dict(),
                "beside": {name: owner.state_dict() for name, owner in self._beside.items()},
            }
            tree.check(state)
            copied = not awaited and self._copies(state)
            job = self._job(cohort.at, self._snapshots.take(state) if copied else state)
        except CheckpointWriteError as error:  # the log could not be written
            self._judge(error)
            return
        self._flying = True
        if copied:
            self._background.start(job)
        else:
            self._background.run(job)
            self._land()

    def close(self) -> None:
        """Wait for a save that is under way. One that fails is a warning: something else ends the training."""
        self._background.wait()
        error = self._background.take_error()
        self._flying = False
        if error is not None:
            LOG.warning("the last save failed: %s", error.in_short if isinstance(error, CheckpointError) else error)

    def restore(self, cohort: CohortTraining) -> bool:
        """Load the latest checkpoint that verifies, damaged ones are set aside; False when there is none.

        Raises CheckpointMismatchError, with names, where it is of another run or lacks something; CheckpointError for
        one that cannot be read now.
        """
        found = self._store.recover()
        if found is None:
            return False
        try:  # whatever a state of another form makes its owners raise
            state = migrate(found[1])
            self._check(state)
            cohort.load_state_dict(state["cohort"])
            for name, owner in self._beside.items():
                owner.load_state_dict(state["beside"][name])
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise CheckpointMismatchError("the checkpoint does not fit the run", where=str(self._store.folder),
                                          changed=[f"{type(error).__name__}: {error}"]) from error  # fmt: skip
        return True

    def _reserve(self, cohort: CohortTraining, waited: float) -> None:
        """Provide memory for copies some time before the first one, where one is to come."""
        config = self._config
        counted = any(every is not None for every in (config.every_steps, config.keep_every, config.every_epochs))
        if counted or (config.every_seconds is not None and waited >= config.every_seconds / 2):
            self._reserved = True
            state = {"cohort": cohort.state_dict()}  # as `save` has it; what is beside it holds no tensors to speak of
            if self._copies(state):
                self._snapshots.reserve(state)

    def _copies(self, state: Mapping[str, Any]) -> bool:
        wanted = self._config.asynchronous
        return tree.count_bytes(state) <= COPIED_BYTES if wanted == "auto" else wanted

    def _job(self, step: int, state: Mapping[str, Any]) -> Callable[[], None]:
        def job() -> None:
            self._sync()
            self._store.save(step, state, keep_last=self._config.keep_last, keep_every=self._config.keep_every)

        return job

    def _land(self) -> None:
        """Wait for the save under way, if there is one, and judge how it ended."""
        if self._flying:
            self._background.wait()
            self._flying = False
            self._judge(self._background.take_error())

    def _judge(self, error: BaseException | None) -> None:
        """Raise what a save raised, or go on without it where that was asked for."""
        self.failure = None
        if error is None:
            return
        if self._config.on_error == "stop" or not isinstance(error, CheckpointWriteError | CheckpointCorruptError):
            raise error
        self.failure = error
        if not self._warned:
            self._warned = True
            LOG.warning("a save failed, and training goes on: %s", error.in_short)

    def _check(self, state: Mapping[str, Any]) -> None:
        misfits = Misfits()
        misfits.names(state, PARTS)
        known, given = self._identity, state["identity"]
        misfits.names(given, known)
        changed = [name for name in known if given.get(name, known[name]) not in (known[name], None)]
        if changed:
            raise CheckpointMismatchError(f"the checkpoint belongs to another {changed[0]}", changed=changed)
        misfits.refuse()
        misfits.names(state["beside"], self._beside)
        misfits.refuse(hint="the callbacks that it was saved with, in their order")


@contextmanager
def saved_where_full(saver: Saver, cohort: CohortTraining) -> Iterator[None]:
    """Save before a DeviceMemoryError goes on: whoever catches it restores the state elsewhere."""
    try:
        yield
    except DeviceMemoryError:
        saver.save(cohort, awaited=True)
        raise
