"""States of earlier versions, brought to today's form. A state says by which version it was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from paceline.errors import CheckpointError, CheckpointMismatchError

State = dict[str, Any]
SCHEMA_VERSION = 3


def migrate(state: Mapping[str, Any]) -> State:
    """Return a state in today's form; the one given is left as it is.

    Raises CheckpointMismatchError where it is not a state of a training, CheckpointError for one of a later version.
    """
    version, cohort = state.get("schema_version"), state.get("cohort")
    dicts = {name: state.get(name) for name in ("identity", "cohort", "beside")}
    dicts["cohort.engine"] = cohort.get("engine") if isinstance(cohort, dict) else None
    missing = [] if type(version) is int else ["schema_version"]
    missing += [name for name, part in dicts.items() if not isinstance(part, dict)]
    if missing:
        raise CheckpointMismatchError("the checkpoint is not of a training", missing=missing)
    assert isinstance(version, int)
    if version not in (*MIGRATIONS, SCHEMA_VERSION):
        raise CheckpointError("the checkpoint was written by another version of paceline", where="schema_version",
                              got=version, hint="that version, or a new run")  # fmt: skip
    migrated = dict(state)
    while version < SCHEMA_VERSION:
        try:
            migrated = {**MIGRATIONS[version](migrated), "schema_version": version + 1}
        except (KeyError, TypeError) as error:  # no version wrote such a state
            raise CheckpointMismatchError("the checkpoint is not of a training", missing=[str(error)]) from error
        version += 1
    return migrated


def _without_averages(state: State) -> State:
    """1 -> 2: engines may average weights, leave out steps and go back; a state of before has none of it.

    What it says of its config counts keys that were known then and cannot be compared; the run's files are, key by key.
    """
    engine = state["cohort"]["engine"]
    new: State = {"average": None, "skips": None} if "optimizer" in engine else {"averages": {}, "skips": {}}
    progress = [{"skipped": 0, "rollbacks": [], **own} for own in state["cohort"]["progress"]]
    cohort = {**state["cohort"], "progress": progress, "engine": {**new, "marked": None, **engine}}
    return {**state, "identity": {**state["identity"], "config": None}, "cohort": cohort}


def _without_norms(state: State) -> State:
    """2 -> 3: the norms of gradients are summed."""
    engine = state["cohort"]["engine"]
    if "optimizer" in engine:
        norms = {"sum": torch.zeros(1, dtype=torch.float64), "steps": 0.0}
        engine = {**engine, "meter": {**engine["meter"], "norms": norms}}
    else:
        engine = {**engine, "norms": {name: torch.zeros_like(engine["updates"]) for name in ("sum", "steps")}}
    cohort = {**state["cohort"], "engine": engine}
    return {**state, "cohort": cohort}


MIGRATIONS: Mapping[int, Callable[[State], State]] = {1: _without_averages, 2: _without_norms}
