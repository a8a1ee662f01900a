"""The cohort engine: K members of equal shapes as one vectorised computation, each with the result it would have alone.

Parameters, buffers and moments are stacked; `torch.func` runs the model of one member over the stack. Batches arrive as
row numbers (K, B) of one table of samples and are gathered inside the step. One optimizer step is one function of
tensors (`stacked_step`), compiled whole where the plan says so.

A member whose training is over stays in its slot, untouched. When at least half of the slots are idle, the others move
to fewer slots (a power of two), and all members' rows wait in a second stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from paceline.data.rows import RowPass
from paceline.metrics.state import merge, on_host
from paceline.metrics.state import values as divide
from paceline.models.dropout import site_stream
from paceline.optim import stacked
from paceline.optim.build import build_optimizer
from paceline.optim.stacked import Stacked
from paceline.train.config import TrainingConfig
from paceline.train.member_function import MemberFunction
from paceline.train.runtime import autocast
from paceline.train.stacked_step import StackedStep
from paceline.train.stacking import Stack, clones, copy_into, hyper, stack_models, template
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
    ) -> None:
        self.parts = tuple(passes)
        self._device, self._members, self._passes = device, tuple(members), dict(passes)
        self._configs, self._config, self._compiled = tuple(configs), configs[0], compiled
        self._autocast = autocast(self._config.amp, device)
        self._function = MemberFunction(template(models, device), tasks[0], table, self._autocast)
        parameters, buffers = stack_models(models, device)
        zeros = torch.zeros(len(members), dtype=torch.float64, device=device)
        sums = {term: zeros.clone() for term in self._function.terms()}
        moments = stacked.init_state(self._config.optimizer, parameters)
        self._now = Stack(parameters, buffers, moments, zeros, sums, clones(sums))  # a row per slot
        self._all: Stack | None = None  # a row per member, once there are fewer slots
        self._best: tuple[Stacked, Stacked] | None = None  # a row per member
        self._best_in_use = False
        self._active = [True] * len(members)
        self._arrange(range(len(members)))

    def step(self, group: Sequence[Batch], rates: Sequence[float], step: int) -> None:
        """Make one optimizer step of every active member."""
        rows = [self._own(batch["rows"]) for batch in group]
        masks = [self._own(batch["sample_mask"]) for batch in group] if "sample_mask" in group[0] else None
        with self._autocast:
            self._step(rows, masks, rates if self._index is None else [rates[k] for k in self._slots], step)

    def flush(self, members: Sequence[int]) -> list[dict[str, float]]:
        """Return the members' mean training losses since their last flush; one synchronisation for all."""
        sums = {term: value.cpu() for term, value in self._now.sums.items()}
        weights = {term: value.cpu() for term, value in self._now.weights.items()}
        slots, found = [self._slots.index(member) for member in members], []
        for slot in slots:
            means = {term: float(sums[term][slot] / weights[term][slot]) for term in sums}
            terms = {f"loss_{term}": mean for term, mean in means.items()} if len(means) > 1 else {}
            found.append({"loss": sum(means.values())} | terms)
        flushed = torch.tensor(slots, device=self._device)
        for value in (*self._now.sums.values(), *self._now.weights.values()):
            value.index_fill_(0, flushed, 0)
        return found

    def evaluate(self, part: str, members: Sequence[int]) -> list[dict[str, Value]]:
        """Return loss and metrics of some members over their part."""
        sums: dict[str, Any] = {}
        weights: dict[str, Any] = {}
        states: Any = {}
        chosen, slots = self._in_use(members)
        for batch in self._passes[part].batches():
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
        size = self._passes[part].sizes[member]
        return {name: torch.cat(values)[:size].cpu().numpy() for name, values in kept.items()}

    def keep(self, member: int) -> None:
        """Take a member's current weights as its best."""
        if self._best is None:
            everyone = self._all or self._now
            self._best = (clones(everyone.parameters), clones(everyone.buffers))
        slot = self._slots.index(member)
        for best, live in zip(self._best, (self._now.parameters, self._now.buffers), strict=True):
            for path, value in best.items():
                value[member].copy_(live[path][slot])

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

        With `current` comes the optimizer's state, in torch's own layout.
        """
        self._spread()
        everyone = self._all or self._now
        parameters, buffers = self._best if which == "best" and self._best else (everyone.parameters, everyone.buffers)
        own = {path: value[member].detach().cpu().clone() for path, value in (parameters | buffers).items()}
        kept: dict[str, Any] = {"model": {path: own[path] for path in self._function.module.state_dict()}}
        return kept | ({"optimizer": self._optimizer_state(member, everyone)} if which == "current" else {})

    def state_dict(self) -> dict[str, Any]:
        best = None if self._best is None else {"parameters": self._best[0], "buffers": self._best[1]}
        self._spread()
        everyone = (self._all or self._now).state_dict()
        return everyone | {"active": list(self._active), "slots": list(self._slots), "best": best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        everyone = self._all or self._now
        everyone.load(state)
        self._active = list(state["active"])
        self._now, self._all = everyone, None
        self._arrange(state["slots"])
        if state["best"] is not None:
            self._best = (clones(everyone.parameters), clones(everyone.buffers))
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
            self._function, self._config, self._now, self._on, named, decay, clip, compiled=self._compiled
        )

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
        return (self._now.parameters, self._now.buffers), [self._slots.index(member) for member in members]

    def _optimizer_state(self, member: int, everyone: Stack) -> dict[str, Any]:
        config = self._config
        like = [nn.Parameter(torch.empty_like(value[member])) for value in everyone.parameters.values()]
        state = build_optimizer(
            config.optimizer, like, learning_rate=config.learning_rate, weight_decay=config.weight_decay,
            momentum=config.momentum, betas=config.betas,
        ).state_dict()  # fmt: skip
        names = {"mean": "exp_avg", "square": "exp_avg_sq", "momentum": "momentum_buffer"}
        for i, path in enumerate(everyone.parameters):
            own = {names[moment]: paths[path][member].cpu().clone() for moment, paths in everyone.moments.items()}
            step = {} if config.optimizer == "sgd" else {"step": everyone.updates[member].float().cpu().clone()}
            state["state"][i] = step | own
        return state
