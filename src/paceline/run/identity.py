"""What a checkpoint belongs to: the config, data and split that its run was made with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paceline.run.folder import Run, overlay
from paceline.run.inputs import InMemory
from paceline.run.lineage import config_made_with, data_made_with

if TYPE_CHECKING:
    from paceline.run.job import Job


def identity(run: Run, jobs: Sequence[Job]) -> dict[str, str]:
    """Return what a checkpoint of these members belongs to, as digests. A state of another is refused.

    The config is the text that the run was made with, not what is read from it: a later version may know more keys, or
    other defaults, and the run's states stay its own. Changes on record (`lineage.json`) are none of it.
    """
    config = {name: value for name, value in config_made_with(run).items() if name != "members"}
    found = {"config": _digest([overlay(config, run.member_overrides(job.member.id)) for job in jobs])}
    splits = [job.inputs.split for job in jobs if isinstance(job.inputs, InMemory)]
    if splits:
        found["data"] = data_made_with(run) or splits[0].fingerprint
        found["split"] = _digest([[s.train.tolist(), s.val.tolist(), s.test.tolist()] for s in splits])
    return found


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
