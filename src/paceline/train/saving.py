"""When a cohort is saved, and what a saved state holds besides the cohort."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from paceline.errors import CheckpointError
from paceline.train.config import SaveConfig
from paceline.types import Stateful

if TYPE_CHECKING:
    from paceline.checkpoint.store import Store
    from paceline.train.cohort import CohortTraining
    from paceline.train.control import LoopControl

SCHEMA_VERSION = 1


class Saver:
    """Saves by time, steps or epochs. `beside` are the other owners of state: the log's offsets, callbacks."""

    def __init__(
        self, store: Store, config: SaveConfig, beside: Mapping[str, Stateful], identity: Mapping[str, str]
    ) -> None:
        self._store, self._config = store, config
        self._beside, self._identity = dict(beside), dict(identity)
        self._last = time.monotonic()

    def due(self, cohort: CohortTraining, control: LoopControl) -> bool:
        """Whether to save at this step. Asked once a step, so it costs a clock reading."""
        if control.take_save():
            return True
        config, at = self._config, cohort.at
        if at == 0:
            return False
        if config.every_seconds is not None and time.monotonic() - self._last >= config.every_seconds:
            return True
        if config.every_steps is not None and at % config.every_steps == 0:
            return True
        steps = cohort.feed.steps_per_epoch
        return config.every_epochs is not None and any(at % (n * config.every_epochs) == 0 for n in steps)

    def save(self, cohort: CohortTraining) -> None:
        """Write one checkpoint of everything that can affect the next step."""
        state = {
            "schema_version": SCHEMA_VERSION,
            "identity": self._identity,
            "cohort": cohort.state_dict(),
            "beside": {name: owner.state_dict() for name, owner in self._beside.items()},
        }
        self._store.save(cohort.at, state, keep_last=self._config.keep_last)
        self._last = time.monotonic()

    def restore(self, cohort: CohortTraining) -> bool:
        """Load the latest checkpoint that verifies; False when there is none."""
        found = self._store.latest()
        if found is None:
            return False
        _, state = found
        if state["schema_version"] != SCHEMA_VERSION:
            raise CheckpointError("the checkpoint was written by another version", got=state["schema_version"])
        changed = [name for name, value in self._identity.items() if state["identity"].get(name) != value]
        if changed:
            got = state["identity"].get(changed[0])
            raise CheckpointError(f"the checkpoint belongs to another {changed[0]}", got=got)
        for name, owner in self._beside.items():
            owner.load_state_dict(state["beside"][name])
        cohort.load_state_dict(state["cohort"])
        return True
