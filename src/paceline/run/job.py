"""One member with everything that its training needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from paceline.run.config import RunConfig
from paceline.run.inputs import Inputs
from paceline.train.learner import ModelFactory
from paceline.types import Member, Task


@dataclass(frozen=True, kw_only=True)
class Job:
    """One member, ready to train."""

    member: Member
    config: RunConfig
    inputs: Inputs = field(repr=False)
    task: Task = field(repr=False)
    build_model: ModelFactory = field(repr=False)
