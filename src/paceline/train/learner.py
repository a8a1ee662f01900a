"""Gradient training as a learner: restores one cohort and runs the loop."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paceline.models.building import within_memory
from paceline.train.cohort import CohortTraining, Engine, Trainee
from paceline.train.loop import loop
from paceline.train.runtime import initialisation

if TYPE_CHECKING:
    from torch import nn

    from paceline.data.loader import Feed
    from paceline.train.control import LoopControl
    from paceline.train.saving import Saver
    from paceline.types import Member, Record

ModelFactory = Callable[[], "nn.Module"]


@dataclass(frozen=True)
class EngineAndFeed:
    """What a cohort trains with: the engine holds model, task and parts; the feed has the training batches."""

    engine: Engine
    feed: Feed


class GradientLearner:
    """Trains one cohort. After `fit` is exhausted, `cohort` holds the trained state."""

    def __init__(self, *, saver: Saver, control: LoopControl) -> None:
        self._saver, self._control = saver, control
        self.cohort: CohortTraining | None = None

    def prepare(self, data: EngineAndFeed, members: Sequence[Trainee]) -> bool:
        """Restore the cohort's latest checkpoint; return whether there was one."""
        self.cohort = CohortTraining(data.engine, data.feed, members)
        return self._saver.restore(self.cohort)

    def fit(self, data: EngineAndFeed, members: Sequence[Trainee]) -> Generator[Record, None, None]:
        """Train; yield records in the loop's order. At the end, and when closed, no save is under way."""
        if self.cohort is None:
            self.prepare(data, members)
        assert self.cohort is not None
        try:
            yield from loop(self.cohort, self._saver, self._control)
        finally:
            self._saver.close()


def seeded_model(build: ModelFactory, member: Member) -> nn.Module:
    """Build a model whose initial weights are those of the member, whatever was drawn before.

    Raises ModelError where there is not enough memory.
    """
    with initialisation(member), within_memory(f"model of {member.id}"):
        return build()
