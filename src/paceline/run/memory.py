"""How much memory a cohort needs, estimated before it is made, so that more members than fit become several cohorts.

The estimate errs on the high side (a test measures it). The limit is a fixed share of the memory that is there, not of
what happens to be free, so that the same machine gives the same plan.

Shapes: B batch, T time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from paceline.evaluate.passes import evaluate
from paceline.models.vectorise import RECURRENT
from paceline.run.inputs import InMemory

if TYPE_CHECKING:
    from paceline.run.job import Job
    from paceline.train.config import TrainingConfig
    from paceline.types import Batch

SHARE = 0.5  # of the device's memory that all cohorts side by side may take
COPIES = 16  # of the weights: the models, the stack, gradients, moments, best, a save, what a step holds on its way
AVERAGED = 3  # more of them where weights are averaged: the averages, a save, what an update holds
KEPT = 6.0  # tensors of the size of a module's output that one output costs until the backward pass is over
LOOKED = 5.0  # tensors of the size of the largest output that an evaluation holds at once
GATES = 4.0  # a recurrent layer keeps so many times its output: gates, states, what the cell needs
COMPILER_BYTES = 600e6  # what torch and its compiler take in a worker


@dataclass(frozen=True, kw_only=True)
class Need:
    """Bytes: of every member, and of a process whatever the members."""

    member: float
    process: float

    def fits(self, budget_bytes: float) -> int:
        """How many members fit, at least one."""
        return max(1, int((budget_bytes - self.process) // self.member))


def budget(training: TrainingConfig, device: torch.device, processes: int) -> float:
    """Return the bytes that one of `processes` cohorts side by side may take."""
    if training.memory_gb != "auto":
        return training.memory_gb * 1e9 / processes
    if device.type == "cuda":
        total = float(torch.cuda.get_device_properties(device).total_memory)
    else:
        total = float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    return SHARE * total / processes


def need(jobs: Sequence[Job], model: nn.Module) -> Need:
    """Estimate what a cohort of these jobs takes. `model` is one member's."""
    job, training = jobs[0], jobs[0].config.training
    sizes, wide = output_sizes(job, model)
    copies = COPIES + (0 if training.weight_average.name == "none" else AVERAGED)
    state = sum(p.numel() * p.element_size() for p in (*model.parameters(), *model.buffers()))
    micro = training.batch_size * sum(sizes) * KEPT
    inputs = {id(j.inputs): j.inputs for j in jobs if isinstance(j.inputs, InMemory)}
    largest = max(len(getattr(own.split, part)) for own in inputs.values() for part in own.parts)
    looked = min(training.evaluate.batch_size, largest) * max(sizes) * LOOKED
    table = sum(column.nbytes for own in inputs.values() for column in own.dataset.columns.values())
    return Need(member=copies * state + wide * max(micro, looked), process=COMPILER_BYTES + 2.0 * table)


def output_sizes(job: Job, model: nn.Module) -> tuple[list[float], int]:
    """Return the numbers that each module's output has per sample, and the bytes of one; from two samples."""
    sizes: list[float] = []
    wide = [4]

    def seen(module: nn.Module, args: Any, output: Any) -> None:
        tensors = [output] if isinstance(output, Tensor) else [o for o in _flat(output) if isinstance(o, Tensor)]
        more = GATES if isinstance(module, RECURRENT) else 1.0
        sizes.extend(more * o.numel() / samples for o in tensors)
        wide.extend(o.element_size() for o in tensors)

    batch = _two(job)
    samples = len(next(iter(batch.values())))
    hooks = [m.register_forward_hook(seen) for m in model.modules() if not list(m.children())]
    try:
        evaluate(model, job.task, [batch], nullcontext())
    finally:
        for hook in hooks:
            hook.remove()
    sizes.append(sum(column.numel() for column in batch.values()) / samples)
    return sizes, max(wide)


def _two(job: Job) -> Batch:
    assert isinstance(job.inputs, InMemory)
    return {name: torch.from_numpy(column) for name, column in job.inputs.columns(job.inputs.split.train[:2]).items()}


def _flat(value: Any) -> list[Any]:
    return [one for each in value for one in _flat(each)] if isinstance(value, (tuple, list)) else [value]
