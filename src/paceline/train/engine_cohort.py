"""The cohort engine: K members of equal shapes as one vectorised computation, each with the result it would have alone.

Parameters, buffers and moments are stacked (K, ...); `torch.func` runs the model of one member over the stack. Batches
arrive as row numbers (K, B) of one table of samples and are gathered inside the step. One optimizer step (gather,
forward, backward, clipping, update, loss sums) is one function of tensors, compiled whole where the plan says so.

K members, B samples, G micro-batches of an accumulation group, S dropout sites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from paceline import noise
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
from paceline.train.stacking import clones, copy_into, hyper, stack, template
from paceline.train.whole_step import WholeStep
from paceline.types import Member

if TYPE_CHECKING:
    from paceline.types import Batch, Task, Value

BLOCK = 512  # dropout keys are made for this many steps at once


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
        self._device, self._members = device, tuple(members)
        self._passes = dict(passes)
        self._config = configs[0]
        self._autocast = autocast(self._config.amp, device)
        self._function = MemberFunction(template(models, device), tasks[0], table, self._autocast)
        self._parameters, self._buffers = stack(models, device)
        self._moments = stacked.init_state(self._config.optimizer, self._parameters)
        self._decay, self._clip = hyper(configs, next(iter(self._parameters.values())))
        count = len(members)
        self._updates = torch.zeros(count, dtype=torch.float64, device=device)
        self._active = torch.ones(count, dtype=torch.bool, device=device)
        self._sums = {term: torch.zeros(count, dtype=torch.float64, device=device) for term in self._function.terms()}
        self._weights = clones(self._sums)
        self._plain: dict[int, dict[str, float] | None] = {}  # weights that are plain numbers, by batch size
        self._best: tuple[Stacked, Stacked] | None = None
        self._chosen: tuple[Stacked, Stacked] | None = None  # what evaluation looks at, once the best is in use
        self._streams = np.array(
            [[site_stream(path, seed=m.seed, fold=m.fold) for m in members] for path in self._function.sites],
            dtype=np.uint32,
        ).reshape(len(self._function.sites), count)
        self._block_first, self._block = 0, list[tuple[Tensor, Tensor]]()
        self._rate_cache: tuple[tuple[float, ...], Tensor] = ((), torch.empty(0))
        self._whole = WholeStep(self._step, compiled=compiled)

    def step(self, group: Sequence[Batch], rates: Sequence[float], step: int) -> None:
        """Make one optimizer step of every active member."""
        rows = [batch["rows"] for batch in group]
        masks = [batch["sample_mask"] for batch in group] if "sample_mask" in group[0] else None
        with self._autocast:
            self._whole(rows, masks, self._totals(rows, masks), *self._drawn(step, len(group)), self._rates(rates))

    def flush(self, members: Sequence[int]) -> list[dict[str, float]]:
        """Return the members' mean training losses since their last flush; one synchronisation for all."""
        sums = {term: value.cpu() for term, value in self._sums.items()}
        weights = {term: value.cpu() for term, value in self._weights.items()}
        found = []
        for k in members:
            means = {term: float(sums[term][k] / weights[term][k]) for term in sums}
            terms = {f"loss_{term}": mean for term, mean in means.items()} if len(means) > 1 else {}
            found.append({"loss": sum(means.values())} | terms)
        chosen = torch.tensor(list(members), device=self._device)
        for value in (*self._sums.values(), *self._weights.values()):
            value.index_fill_(0, chosen, 0)
        return found

    def evaluate(self, part: str, members: Sequence[int]) -> list[dict[str, Value]]:
        """Return loss and metrics of some members over their part."""
        sums: dict[str, Any] = {}
        weights: dict[str, Any] = {}
        states: Any = {}
        chosen = self._chosen or (self._parameters, self._buffers)
        for batch in self._passes[part].batches():
            found, weight, state = self._function.look(chosen, batch)
            for term, value in found.items():
                sums[term] = sums.get(term, 0.0) + value.double()
                weights[term] = weights.get(term, 0.0) + weight[term]
            states = merge(states, state)
        host = {term: (sums[term] / weights[term]).expand(len(self._members)).cpu() for term in sums}
        states = on_host(states)
        results = []
        for k in members:
            values: dict[str, Value] = {"loss": float(sum(value[k] for value in host.values()))}
            results.append(values | divide({name: type(s)(*(t[k] for t in s)) for name, s in states.items()}))
        return results

    def predict(self, part: str, member: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return one member's predictions over its part, in order."""
        kept: dict[str, list[Tensor]] = {}
        size, chosen = self._passes[part].sizes[member], self._chosen or (self._parameters, self._buffers)
        for batch in self._passes[part].batches():
            for name, value in self._function.predict(chosen, batch).items():
                kept.setdefault(name, []).append(value[member])
        return {name: torch.cat(values)[:size].cpu().numpy() for name, values in kept.items()}

    def keep(self, member: int) -> None:
        """Take a member's current weights as its best."""
        if self._best is None:
            self._best = (clones(self._parameters), clones(self._buffers))
        for best, live in zip(self._best, (self._parameters, self._buffers), strict=True):
            for path, value in best.items():
                value[member].copy_(live[path][member])

    def retire(self, member: int) -> None:
        """A member's training is over: it keeps every bit from here on."""
        self._active[member] = False

    def use_best(self) -> None:
        """Evaluate and predict with the best weights from here on."""
        assert self._best is not None
        self._chosen = self._best

    def weights(self, member: int, which: str) -> dict[str, Any]:
        """Return one member's `best` or `current` weights under the names of its state_dict, on the CPU.

        With `current` comes the optimizer's state, in torch's own layout.
        """
        parameters, buffers = self._best if which == "best" and self._best else (self._parameters, self._buffers)
        own = {path: value[member].detach().cpu().clone() for path, value in (parameters | buffers).items()}
        kept: dict[str, Any] = {"model": {path: own[path] for path in self._function.module.state_dict()}}
        return kept | ({"optimizer": self._optimizer_state(member)} if which == "current" else {})

    def state_dict(self) -> dict[str, Any]:
        best = None if self._best is None else {"parameters": self._best[0], "buffers": self._best[1]}
        return {
            "parameters": self._parameters,
            "buffers": self._buffers,
            "moments": self._moments,
            "updates": self._updates,
            "active": self._active,
            "sums": self._sums,
            "weights": self._weights,
            "best": best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        copy_into(self._parameters, state["parameters"])
        copy_into(self._buffers, state["buffers"])
        for moment, paths in self._moments.items():
            copy_into(paths, state["moments"][moment])
        self._updates.copy_(state["updates"])
        self._active.copy_(state["active"])
        self._sums = {term: value.to(self._device) for term, value in state["sums"].items()}
        self._weights = {term: value.to(self._device) for term, value in state["weights"].items()}
        if state["best"] is not None:
            self._best = (clones(self._parameters), clones(self._buffers))
            copy_into(self._best[0], state["best"]["parameters"])
            copy_into(self._best[1], state["best"]["buffers"])

    # -- the step, as one function of tensors ------------------------------------------------------------------------

    def _step(
        self,
        groups: list[Tensor],
        masks: list[Tensor] | None,
        totals: Mapping[str, float] | None,
        keys: Tensor,
        corrections: Tensor,
        rate: Tensor,
    ) -> None:
        """The whole step. `totals` are the terms' weights over the group where they are plain numbers, else None."""
        weighed = None
        if totals is None:
            weighed = [self._function.weigh(rows, None if masks is None else masks[i]) for i, rows in enumerate(groups)]
        gradients: Stacked = {}
        buffers = clones(self._buffers)
        for micro, rows in enumerate(groups):
            mask = None if masks is None else masks[micro]
            over: Mapping[str, Any] = totals or {t: sum(w[t] for w in weighed or ()) for t in self._sums}
            found, sums = self._function.gradients(self._parameters, buffers, rows, mask, keys[micro], over)
            gradients = found if not gradients else {path: gradients[path] + g for path, g in found.items()}
            for term, value in sums.items():
                self._sums[term].add_(torch.where(self._active, value, 0))
        for term, total in self._weights.items():
            over_term = totals[term] if totals is not None else sum(w[term] for w in weighed or ())
            total.add_(self._active * over_term)
        self._apply(gradients, buffers, corrections, rate)

    def _apply(self, gradients: Stacked, buffers: Stacked, corrections: Tensor, rate: Tensor) -> None:
        """Clip, update, and take over the buffers of active members."""
        if self._clip is not None:
            gradients = stacked.clip(gradients, self._clip, self._config.gradient_clip.mode)
        self._updates.add_(self._active)
        stacked.update(
            self._config.optimizer, self._parameters, gradients, self._moments, corrections, rate,
            self._decay, self._active, betas=self._config.betas, momentum=self._config.momentum,
        )  # fmt: skip
        for path, value in self._buffers.items():
            on = self._active.view(-1, *[1] * (value.ndim - 1))
            value.copy_(torch.where(on, buffers[path], value))

    def _totals(self, groups: list[Tensor], masks: list[Tensor] | None) -> dict[str, float] | None:
        """Return the weight of each term over the group where it is the same plain number for all members."""
        if masks is not None:
            return None
        total: dict[str, float] = {}
        for rows in groups:
            size = rows.shape[1]
            if size not in self._plain:
                self._plain[size] = self._function.plain_weights(rows[0])
            weights = self._plain[size]
            if weights is None:
                return None
            total = {t: total.get(t, 0.0) + w for t, w in weights.items()}
        return total

    def _optimizer_state(self, member: int) -> dict[str, Any]:
        config = self._config
        like = [nn.Parameter(torch.empty_like(value[member])) for value in self._parameters.values()]
        state = build_optimizer(
            config.optimizer, like, learning_rate=config.learning_rate, weight_decay=config.weight_decay,
            momentum=config.momentum, betas=config.betas,
        ).state_dict()  # fmt: skip
        names = {"mean": "exp_avg", "square": "exp_avg_sq", "momentum": "momentum_buffer"}
        for i, path in enumerate(self._parameters):
            own = {names[moment]: paths[path][member].cpu().clone() for moment, paths in self._moments.items()}
            step = {} if config.optimizer == "sgd" else {"step": self._updates[member].float().cpu().clone()}
            state["state"][i] = step | own
        return state

    # -- small host-side things --------------------------------------------------------------------------------------

    def _drawn(self, step: int, micro_batches: int) -> tuple[Tensor, Tensor]:
        """Return a step's dropout keys (G, S, K) and corrections (2,), made in blocks.

        The key of micro-batch j is `noise.key(noise.key(stream, step), j)`. A member that trains has made as many
        updates as the cohort, so the corrections are those of the step.
        """
        at = step - self._block_first
        if not 0 <= at < len(self._block) or len(self._block[at][0]) != micro_batches:
            self._block_first, at = step, 0
            steps = np.arange(step, step + BLOCK, dtype=np.uint32)[:, None, None]
            by_step = noise.keys(self._streams[None], steps)
            drawn = np.concatenate([noise.keys(by_step, micro) for micro in range(micro_batches)], axis=1)
            shape = (BLOCK, micro_batches, len(self._function.sites), len(self._members))
            keys = torch.from_numpy(drawn.view(np.int32).reshape(shape)).to(self._device)
            corrections = stacked.corrections(step + 1, BLOCK, self._config.betas).to(self._decay)
            self._block = list(zip(keys.unbind(0), corrections.unbind(0), strict=True))
        return self._block[at]

    def _rates(self, rates: Sequence[float]) -> Tensor:
        known = tuple(rates)
        if known != self._rate_cache[0]:
            like = next(iter(self._parameters.values()))
            self._rate_cache = (known, torch.tensor(known, dtype=like.dtype, device=self._device))
        return self._rate_cache[1]
