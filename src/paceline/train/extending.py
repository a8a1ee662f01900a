"""Training on where all epochs were done: a run resumed with a larger `training.num_epochs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def extended(state: Mapping[str, Any], num_epochs: Sequence[int], steps_per_epoch: Sequence[int]) -> dict[str, Any]:
    """Return the state of a cohort in which members that had finished all their epochs train on, where they have more.

    Only those that ended at the cohort's last step: the others would have to make steps that are over.
    """
    step, progress = state["step"], list(state["progress"])
    again = [
        k for k, own in enumerate(progress)
        if own["status"] == "finished" and own["at"] == step and step // steps_per_epoch[k] < num_epochs[k]
    ]  # fmt: skip
    if not again:
        return dict(state)
    for k in again:
        progress[k] = {**progress[k], "status": "training", "reason": "", "at": None}
    engine = dict(state["engine"])
    if "active" in engine:  # of a cohort engine
        engine["active"] = [on or k in again for k, on in enumerate(engine["active"])]
    return {**state, "progress": progress, "engine": engine}
