"""Gradient training as a learner: builds the engine for one cohort, restores it, and runs the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from paceline.train.cohort import CohortTraining, Trainee
from paceline.train.engine_eager import EagerEngine
from paceline.train.loop import loop
from paceline.train.meter import Meter
from paceline.train.runtime import initialisation

if TYPE_CHECKING:
    import torch
    from torch import nn

    from paceline.data.loader import Feed
    from paceline.train.control import LoopControl
    from paceline.train.saving import Saver
    from paceline.types import Member, Record, Task

ModelFactory = Callable[[], "nn.Module"]


class GradientLearner:
    """Trains one cohort. After `fit` is exhausted, `cohort` holds the trained state."""

    def __init__(
        self, *, task: Task, build_model: ModelFactory, device: torch.device, saver: Saver, control: LoopControl
    ) -> None:
        self._task, self._build_model, self._device = task, build_model, device
        self._saver, self._control = saver, control
        self.cohort: CohortTraining | None = None

    def prepare(self, data: Feed, members: Sequence[Trainee]) -> bool:
        """Build the cohort and restore its latest checkpoint; return whether there was one."""
        (trainee,) = members  # the eager engine is the case K = 1
        model = seeded_model(self._build_model, trainee.member)
        engine = EagerEngine(model, self._task, trainee.training, trainee.member, self._device)
        self.cohort = CohortTraining(engine, data, Meter(len(members), self._device), members)
        return self._saver.restore(self.cohort)

    def fit(self, data: Feed, members: Sequence[Trainee]) -> Iterator[Record]:
        """Train; yield records in the loop's order."""
        if self.cohort is None:
            self.prepare(data, members)
        assert self.cohort is not None
        yield from loop(self.cohort, self._saver, self._control)


def seeded_model(build: ModelFactory, member: Member) -> nn.Module:
    """Build a model whose initial weights are those of the member, whatever was drawn before."""
    with initialisation(member):
        return build()
