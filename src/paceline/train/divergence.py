"""What becomes of a member whose training loss or gradient is not finite: `training.divergence`.

K members, leading; in the eager engine K is 1. Everything that is counted within a step stays on the device.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from paceline.optim.stacked import Stacked

if TYPE_CHECKING:
    from paceline.train.cohort import CohortTraining, Progress
    from paceline.types import Value

LOG = logging.getLogger("paceline")
SKIPPED, IN_A_ROW = "skipped_steps", "skipped_in_a_row"  # the second is not logged


def init_skips(members: int, device: torch.device) -> Stacked:
    """Return counters (K,) of steps left out since the last flush: all, the present row, the longest row."""
    return {name: torch.zeros(members, dtype=torch.int64, device=device) for name in ("count", "row", "longest")}


def note_skips(skips: Mapping[str, Tensor], active: Tensor, made: Tensor) -> None:
    """Count, in place, a step (K,) that active members made, or left out."""
    left_out = active & ~made
    skips["count"].add_(left_out)
    skips["row"].copy_(torch.where(active, torch.where(left_out, skips["row"] + 1, 0), skips["row"]))
    skips["longest"].copy_(torch.maximum(skips["longest"], skips["row"]))


def take_skips(skips: Mapping[str, Tensor], slots: Sequence[int]) -> list[dict[str, float]]:
    """Return some members' counts and begin the next interval; a row that goes on stays. One synchronisation."""
    if not skips:
        return [{} for _ in slots]
    counts, rows = skips["count"].tolist(), skips["longest"].tolist()
    flushed = torch.tensor(slots, device=skips["row"].device)
    skips["count"].index_fill_(0, flushed, 0)
    skips["longest"].index_copy_(0, flushed, skips["row"].index_select(0, flushed))
    return [{SKIPPED: counts[slot], IN_A_ROW: rows[slot]} for slot in slots]


def finite_rows(gradients: Mapping[str, Tensor]) -> Tensor:
    """Return which members' gradients (K, ...) are finite, bool (K,)."""
    return torch.stack([g.flatten(1).isfinite().all(dim=1) for g in gradients.values()]).all(dim=0)


class Guard:
    """Leaves out optimizer steps of one member whose gradient is not finite, as a gradient scaler does.

    The optimizer's own kernel does it (`found_inf`), so the host never looks. Moments, step counts and buffers stay
    as they are.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._buffers = list(model.buffers())
        self._kept: list[Tensor] = []
        self._optimizer: Any = optimizer
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.skips = init_skips(1, device)
        self._active = torch.ones(1, dtype=torch.bool, device=device)
        self._begin_momentum()

    def begin(self) -> None:
        """Remember the buffers: a forward pass changes statistics of normalisation."""
        self._kept = [buffer.clone() for buffer in self._buffers]

    def judge(self) -> Tensor:
        """Look at the gradients, unclipped, and tell the optimizer; return whether the step is made, bool ()."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        made = torch.stack([g.isfinite().all() for g in gradients]).all()
        self._optimizer.grad_scale, self._optimizer.found_inf = None, (~made).float()
        note_skips(self.skips, self._active, made.view(1))
        for buffer, kept in zip(self._buffers, self._kept, strict=True):
            buffer.copy_(torch.where(made, buffer, kept))
        return made

    @torch.no_grad()
    def _begin_momentum(self) -> None:
        """Make the momentum of SGD: its kernel would leave it unset where the very first step is left out."""
        for group in self._optimizer.param_groups:
            for p in group["params"] if group.get("momentum") else ():
                self._optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)


def counted_if(
    made: Tensor, sums: Mapping[str, Tensor], weights: Mapping[str, float | Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return loss sums and weights of a micro-batch, zeros where the step () is not made."""
    return {t: torch.where(made, v, 0) for t, v in sums.items()}, {t: made * w for t, w in weights.items()}


def copied(tree: Any) -> Any:
    """Return a state that shares no tensor with the one given."""
    return copy.deepcopy(tree)


def judge(cohort: CohortTraining, k: int, train: dict[str, float], values: Mapping[str, Value]) -> str:
    """Act on what an interval's training loss says about a member; return why it fails, or nothing.

    What is not to be logged is taken out of `train`.
    """
    config, epoch = cohort.trainees[k].training.divergence, cohort.epoch(k)
    finite = math.isfinite(train["loss"])
    what = f"the training loss was not finite in epoch {epoch}"
    if config.policy == "abort":
        return "" if finite else what
    last = not finite and cohort.selectors[k].never_finite and epoch >= cohort.trainees[k].training.num_epochs
    if config.policy == "skip":
        return _skipped(cohort, k, train) or (what if last else "")
    train["rollbacks"] = before = len(cohort.progress[k].rollbacks)
    if finite:
        if math.isfinite(float(values["loss"])):  # type: ignore[arg-type]  # a number, as every loss
            cohort.engine.mark(k)
        return ""
    if last or before >= config.max_rollbacks:
        return f"{what}, after {before} returns to an earlier state" if before else what
    train["rollbacks"] += 1
    _roll_back(cohort, k, what)
    return ""


def _skipped(cohort: CohortTraining, k: int, train: dict[str, float]) -> str:
    config, in_a_row = cohort.trainees[k].training.divergence, int(train.pop(IN_A_ROW))
    before = cohort.progress[k]
    if train[SKIPPED]:
        cohort.progress[k] = replace(before, skipped=before.skipped + int(train[SKIPPED]))
        if not before.skipped:
            LOG.warning("%s: %d steps of epoch %d were left out, as their gradient was not finite",
                        cohort.members[k], train[SKIPPED], cohort.epoch(k))  # fmt: skip
    if in_a_row < config.max_skips:
        return ""
    return f"the gradient was not finite in {in_a_row} steps in a row, up to epoch {cohort.epoch(k)}"


def _roll_back(cohort: CohortTraining, k: int, what: str) -> None:
    before, factor = cohort.progress[k], cohort.trainees[k].training.divergence.factor
    cohort.progress[k] = replace(before, rollbacks=(*before.rollbacks, cohort.epoch(k)))
    cohort.engine.roll_back(k)
    LOG.warning("%s: %s: back to its last finite state, learning rate x %g", cohort.members[k], what,
                factor ** len(cohort.progress[k].rollbacks))  # fmt: skip


def notes(progress: Progress, factor: float) -> str:
    """Return what is to be known of a member besides how it ended, for its reason; empty where there is nothing."""
    found = []
    if progress.skipped:
        found.append(f"{progress.skipped} steps with a gradient that was not finite were left out")
    if progress.rollbacks:
        epochs = ", ".join(map(str, progress.rollbacks))
        found.append(f"went back to an earlier state after epoch {epochs}, at last with its learning rate x "
                     f"{factor ** len(progress.rollbacks):g}")  # fmt: skip
    return "".join(f"; {text}" for text in found)
