"""What a step costs, as a deterministic estimate from static facts: the ground on which `auto` chooses.

The constants were measured on one core (`x.py bench costs` prints them anew); they are committed, so that the same run
gets the same plan everywhere. They only have to rank the choices, not to predict a machine.
"""

from __future__ import annotations

from dataclasses import dataclass

EAGER_US = 190.0  # bookkeeping of one eager step of a small model
EAGER_RECURRENT_US = 45.0  # per time step of a recurrent layer, forward and backward
PLAIN_US = 1900.0  # one vectorised, uncompiled step, shared by its members
PLAIN_RECURRENT_US = 90.0  # per time step, shared by the members
COMPILED_US = 60.0  # one compiled step, shared by its members
COMPILED_MEMBER_US = 8.0  # and what each member adds besides its arithmetic
FLOPS_PER_US = 2.0e4  # of small matrices on one core
RECURRENT_FLOPS_PER_US = 3.0e4
COMPILE_SECONDS = 15.0  # a cold compilation
WORKER_SECONDS = 4.0  # a process that starts, imports and loads


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a cohort before its first step."""

    parameters: int
    positions: int  # samples x time steps of a batch
    time_steps: int  # 0 for a model without recurrence
    members: int
    steps: int  # optimizer steps of one member

    @property
    def work_us(self) -> float:
        """Arithmetic of one member-step: six operations per parameter and position (forward 2, backward 4)."""
        rate = RECURRENT_FLOPS_PER_US if self.time_steps else FLOPS_PER_US
        return 6.0 * self.parameters * self.positions / rate


def eager_seconds(facts: Facts, processes: int = 1) -> float:
    """All members one after another, in `processes` workers side by side."""
    step = EAGER_US + EAGER_RECURRENT_US * facts.time_steps + facts.work_us
    each = step * facts.steps / 1e6
    return each * facts.members if processes == 1 else -(-facts.members // processes) * (each + WORKER_SECONDS)


def cohort_seconds(facts: Facts, cohorts: int, processes: int, *, compiled: bool) -> float:
    """All members in `cohorts` of equal size, `processes` of them side by side; start-up and compilation included."""
    width = -(-facts.members // cohorts)
    if compiled:
        step = COMPILED_US + width * (COMPILED_MEMBER_US + facts.work_us)
    else:
        step = PLAIN_US + PLAIN_RECURRENT_US * facts.time_steps + width * facts.work_us
    start = (COMPILE_SECONDS if compiled else 0.0) + (WORKER_SECONDS if processes > 1 else 0.0)
    return -(-cohorts // processes) * (start + step * facts.steps / 1e6)
