"""A line for whoever watches a training whose loss does not fall: said while there is time to stop it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paceline.train.cohort import CohortTraining

LOG = logging.getLogger("paceline")
EVALUATIONS = 10  # the first ones, in which a training loss has to fall
LEAST_FALL = 0.01  # of the first loss


class Watch:
    """Says once in a cohort that a member's training loss hardly falls. No result depends on it, so no state has it.

    A training that goes on from a checkpoint is not watched, nor one that begins with given weights: its loss may be
    low already.
    """

    def __init__(self, cohort: CohortTraining) -> None:
        fresh = cohort.at == 0 and all(t.training.init_from is None for t in cohort.trainees)
        self._losses: dict[int, list[float]] | None = {} if fresh else None

    def notice(self, cohort: CohortTraining, due: Sequence[int], values: Sequence[Mapping[str, float]]) -> None:
        """Take in the training losses of the members just evaluated."""
        if self._losses is None:
            return
        for k, train in zip(due, values, strict=True):
            seen = self._losses.setdefault(k, [])
            seen.append(train["loss"])
            schedule = cohort.trainees[k].training.schedule
            if len(seen) == EVALUATIONS + schedule.warmup_epochs and is_flat(seen):
                LOG.warning(hint(cohort.members[k], seen))
                self._losses = None
                return


def is_flat(losses: Sequence[float]) -> bool:
    """Whether no later loss is below the first one by LEAST_FALL of it."""
    return all(map(math.isfinite, losses)) and min(losses[1:]) >= losses[0] - LEAST_FALL * abs(losses[0])


def hint(member: str, losses: Sequence[float]) -> str:
    """Return the line: what was seen, and what to try."""
    return (
        f"{member}: the training loss has hardly fallen in {len(losses)} evaluations ({losses[0]:.4g} to "
        f"{losses[-1]:.4g}): try another training.learning_rate (paceline lr-find shows one), look at the data, or "
        "give the model more capacity"
    )
