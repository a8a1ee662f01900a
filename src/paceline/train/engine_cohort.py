"""The cohort engine: K members of equal shapes as one vectorised computation, each with the result it would have alone.

Parameters, buffers and moments are stacked; `torch.func` runs the model of one member over the stack. Batches arrive as
row numbers (K, B) of one table of samples and are gathered inside the step. One optimizer step is one function of
tensors (`stacked_step`), compiled whole where the plan says so.

A member whose training is over stays in its slot, untouched. When at least half of the slots are idle, the others move
to fewer slots (a power of two), and all members' rows wait in a second stack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from paceline.data.rows import RowPass
from paceline.metrics.state import merge, on_host
from paceline.metrics.state import values as divide
from paceline.models.keyed import site_stream
from paceline.optim import stacked
from paceline.optim.average import blend
from paceline.optim.stacked import Stacked
from paceline.train.augment import Augment
from paceline.train.config import TrainingConfig
from paceline.train.control import LoopControl, checked
from paceline.train.divergence import init_skips, take_skips
from paceline.train.fitting import check_cohort
from paceline.train.member_function import MemberFunction
from paceline.train.micro import IN_A_COHORT, enough_memory
from paceline.train.runtime import autocast
from paceline.train.stacked_step import StackedStep
from paceline.train.stacking import (
    Stack,
    clones,
    copy_into,
    flushed_means,
    hyper,
    init_averages,
    init_norms,
    optimizer_state,
    stack_models,
    template,
)
from paceline.types import Member

if TYPE_CHECKING:
    from paceline.types import Batch, Task, Value

COMPACTION_STEPS = 50_000  # fewer steps left do not pay for compiling the step of a smaller stack


class CohortEngine:
    """Optimisation steps, evaluation and state of K members."""

    def __init__(
        self,
        models: Sequence[nn.Module],
        tasks: Sequence[Task],
        configs: Sequence[TrainingConfig],
        members: Sequence[Member],
        table: Mapping[str, Tensor],
        passes: Mapping[str, RowPass],
        device: torch.device,
        *,
        compiled: bool,
        augment: Augment | None = None,
        uncompiled: Callable[[int, str], None] = lambda step, reason: None,
    ) -> None:
        self.parts = tuple(passes)
        self._device, self._members, self._passes = device, tuple(members), dict(passes)
        self._configs, self._config, self._compiled = tuple(configs), configs[0], compiled
        self._uncompiled, self._at = uncompiled, 0  # the step in the making
        self._autocast = autocast(self._config.amp, device)
        self._function = MemberFunction(
            template(models, device), tasks[0], table, self._autocast, augment, replayed=compiled
        )
        parameters, buffers = stack_models(models, device)
        zeros = torch.zeros(len(members), dtype=torch.float64, device=device)
        sums = {term: zeros.clone() for term in self._function.terms()}
        moments = stacked.init_state(self._config.optimizer, parameters)
        averaged = self._config.weight_average.name != "none"
        averages = init_averages(parameters, buffers, models[0]) if averaged else {}
        policy = self._config.divergence.policy
        skips = init_skips(len(members), device) if policy == "skip" else {}
        norms = init_norms(len(members), device)
        self._now = Stack(parameters, buffers, moments, zeros, sums, clones(sums), averages, skips, norms)  # per slot
        everyone = torch.arange(len(members), device=device)
        self._marked = self._now.take(everyone) if policy == "rollback" else None  # a row per member
        self._all: Stack | None = None  # a row per member, once there are fewer slots
        self._best: tuple[Stacked, Stacked] | None = None  # a row per member
        self._best_in_use = False
        self._active = [True] * len(members)
        self._arrange(range(len(members)))

    def step(self, group: Sequence[Batch], rates: Sequence[float], step: int) -> None:
        """Make one optimizer step of every active member."""
        self._at = step
        rows = [self._own(batch["rows"]) for batch in group]
        masks = [self._own(batch["sample_mask"]) for batch in group] if "sample_mask" in group[0] else None
        ends = [int(batch["steps"]) for batch in group] if "steps" in group[0] else None
        with self._autocast, enough_memory(f"step {step} of {len(self._slots)} members together", IN_A_COHORT):
            self._step(rows, masks, ends, rates if self._index is None else [rates[k] for k in self._slots], step)

    def average(self, members: Sequence[int], shares: Sequence[float]) -> None:
        """Move the averages of some members by share x (weights - average)."""
        own = dict(zip(members, shares, strict=True))
        share = next(iter(self._now.parameters.values())).new_tensor([own.get(member, 0.0) for member in self._slots])
        on = torch.tensor([member in own for member in self._slots], device=self._device)
        for part, live in (("parameters", self._now.parameters), ("buffers", self._now.buffers)):
            blend(self._now.averages[part], live, share, on, constants=part == "buffers")

    def flush(self, members: Sequence[int]) -> list[dict[str, float]]:
        """Return the members' mean training losses since their last flush; one synchronisation for all."""
        slots = [self._slots.index(member) for member in members]
        found = flushed_means(self._now, slots, [self._configs[member].logs_grad_norm for member in members])
        skips = take_skips(self._now.skips, slots)
        return [losses | own for losses, own in zip(found, skips, strict=True)]

    def evaluate(self, part: str, members: Sequence[int], control: LoopControl | None = None) -> list[dict[str, Value]]:
        """Return loss and metrics of some members over their part."""
        sums: dict[str, Any] = {}
        weights: dict[str, Any] = {}
        states: Any = {}
        chosen, slots = self._in_use(members)
        for batch in checked(self._passes[part].batches(), control):
            own = {name: self._own(rows) if rows.ndim == 2 else rows for name, rows in batch.items()}
            found, weight, state = self._function.look(chosen, batch if self._best_in_use else own)
            for term, value in found.items():
                sums[term] = sums.get(term, 0.0) + value.double()
                weights[term] = weights.get(term, 0.0) + weight[term]
            states = merge(states, state)
        host = {term: (sums[term] / weights[term]).cpu() for term in sums}
        states = on_host(states)
        results = []
        for slot in slots:
            values: dict[str, Value] = {"loss": float(sum(value[slot] for value in host.values()))}
            results.append(values | divide({name: type(s)(*(t[slot] for t in s)) for name, s in states.items()}))
        return results

    def predict(self, part: str, member: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return one member's predictions over its part, in order."""
        kept: dict[str, list[Tensor]] = {}
        chosen, (slot,) = self._in_use([member])
        one = [{path: value[slot : slot + 1] for path, value in tensors.items()} for tensors in chosen]
        for batch in self._passes[part].batches():
            own = {name: rows[member : member + 1] if rows.ndim == 2 else rows for name, rows in batch.items()}
            for name, value in self._function.predict((one[0], one[1]), own).items():
                kept.setdefault(name, []).append(value[0])
        in_order = self._passes[part].in_order
        return {name: in_order(member, torch.cat(values)).cpu().numpy() for name, values in kept.items()}

    def keep(self, member: int) -> None:
        """Take a member's current weights as its best."""
        if self._best is None:
            parameters, buffers = (self._all or self._now).shown
            self._best = (clones(parameters), clones(buffers))
        slot = self._slots.index(member)
        for best, live in zip(self._best, self._now.shown, strict=True):
            for path, value in best.items():
                value[member].copy_(live[path][slot])

    def mark(self, member: int) -> None:
        """Take a member's current state as the one to go back to."""
        assert self._marked is not None
        self._marked.copy_row(member, self._now, self._slots.index(member))

    def roll_back(self, member: int) -> None:
        """Return a member to its marked state."""
        assert self._marked is not None
        self._now.copy_row(self._slots.index(member), self._marked, member)

    def retire(self, member: int) -> None:
        """A member's training is over: it keeps every bit from here on."""
        self._active[member] = False
        self._on[self._slots.index(member)] = False

    def compact(self, steps_left: int) -> None:
        """Move the active members to fewer slots where at least half are idle and it pays."""
        active = [member for member, on in enumerate(self._active) if on]
        slots = 1 << max(0, len(active) - 1).bit_length()
        if not active or slots > len(self._slots) // 2 or (self._compiled and steps_left < COMPACTION_STEPS):
            return
        self._spread()
        idle = [member for member, on in enumerate(self._active) if not on]
        self._arrange([*active, *idle[: slots - len(active)]])

    def use_best(self) -> None:
        """Evaluate with the best weights from here on."""
        assert self._best is not None
        self._best_in_use = True

    def weights(self, member: int, which: str) -> dict[str, Any]:
        """Return one member's `best` or `current` weights under the names of its state_dict, on the CPU.

        With `current` comes the optimizer's state, in torch's own layout, and the average where there is one.
        """
        self._spread()
        everyone = self._all or self._now
        if which == "best":
            return {"model": self._model_state(member, self._best or everyone.shown)}
        kept = {"model": self._model_state(member, (everyone.parameters, everyone.buffers)),
                "optimizer": optimizer_state(self._configs[member], everyone, member)}  # fmt: skip
        return kept | ({"average": self._model_state(member, everyone.shown)} if everyone.averages else {})

    def state_dict(self) -> dict[str, Any]:
        best = None if self._best is None else {"parameters": self._best[0], "buffers": self._best[1]}
        self._spread()
        everyone = (self._all or self._now).state_dict()
        marked = None if self._marked is None else self._marked.state_dict()
        rest = {"active": list(self._active), "slots": list(self._slots), "best": best, "marked": marked}
        return everyone | rest

    def load_state_dict(self, state: dict[str, Any]) -> None:
        everyone = self._all or self._now
        check_cohort(state, self.state_dict(), everyone.shown)
        everyone.load(state)
        if self._marked is not None:
            self._marked.load(state["marked"])
        self._active = list(state["active"])
        self._now, self._all = everyone, None
        self._arrange(state["slots"])
        if state["best"] is not None:
            parameters, buffers = everyone.shown
            self._best = (clones(parameters), clones(buffers))
            copy_into(self._best[0], state["best"]["parameters"])
            copy_into(self._best[1], state["best"]["buffers"])

    def _arrange(self, slots: Sequence[int]) -> None:
        """Give the slots to some members, from a stack that has a row per member."""
        self._slots = list(slots)
        everyone = self._all or self._now
        self._index = None
        if len(self._slots) < len(self._members):
            self._all = everyone
            self._index = torch.tensor(self._slots, device=self._device)
            self._now = everyone.take(self._index)
        self._on = torch.tensor([self._active[k] for k in self._slots], device=self._device)
        decay, clip = hyper([self._configs[k] for k in self._slots], next(iter(self._now.parameters.values())))
        members = [self._members[k] for k in self._slots]
        sites = self._function.sites
        streams = [[site_stream(path, seed=m.seed, fold=m.fold) for m in members] for path in sites]
        named = np.array(streams, dtype=np.uint32).reshape(len(sites), len(members))
        self._step = StackedStep(
            self._function,
            self._config,
            self._now,
            self._on,
            named,
            decay,
            clip,
            measured=any(config.logs_grad_norm for config in self._configs),
            compiled=self._compiled,
            uncompiled=self._give_up_compiling,
        )

    def _give_up_compiling(self, reason: str) -> None:
        self._compiled = False
        self._uncompiled(self._at, reason)

    def _spread(self) -> None:
        """Bring the stack of all members up to date."""
        if self._all is not None and self._index is not None:
            self._all.put(self._index, self._now)

    def _own(self, rows: Tensor) -> Tensor:
        """Return the rows (K, B) of the members that have slots."""
        return rows if self._index is None else rows.index_select(0, self._index)

    def _in_use(self, members: Sequence[int]) -> tuple[tuple[Stacked, Stacked], list[int]]:
        """Return the weights to look at, and in which of their rows the members are."""
        if self._best_in_use:
            assert self._best is not None
            return self._best, list(members)
        if not set(members) <= set(self._slots):  # at the end: everyone has a slot again
            self._spread()
            assert self._all is not None
            self._now, self._all = self._all, None
            self._arrange(range(len(self._members)))
        return self._now.shown, [self._slots.index(member) for member in members]

    def _model_state(self, member: int, weights: tuple[Stacked, Stacked]) -> dict[str, Tensor]:
        """Return one row of stacked parameters and buffers as a model's state_dict, on the CPU."""
        stacks = weights[0] | weights[1]
        return {path: stacks[path][member].detach().cpu().clone() for path in self._function.module.state_dict()}
