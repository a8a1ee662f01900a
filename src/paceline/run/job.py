"""One member with everything that its training needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paceline.run.config import RunConfig
from paceline.run.inputs import Inputs
from paceline.train.learner import ModelFactory
from paceline.types import Estimator, Member, Task

if TYPE_CHECKING:
    from paceline.run.initial import Initial


@dataclass(frozen=True, kw_only=True)
class Job:
    """One member, ready to train: a network that `build_model` builds, or an `estimator`.

    initial: the weights that the network begins with, None for those that it draws.
    """

    member: Member
    config: RunConfig
    inputs: Inputs = field(repr=False)
    task: Task = field(repr=False)
    build_model: ModelFactory = field(repr=False)
    estimator: Estimator | None = field(default=None, repr=False)
    initial: Initial | None = None
