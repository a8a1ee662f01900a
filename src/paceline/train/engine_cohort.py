"""The cohort engine: K members of equal shapes as one vectorised computation, each with the result it would have alone.

Parameters, buffers and moments are stacked (K, ...); `torch.func` runs the model of one member over the stack. Batches
arrive as row numbers (K, B) of one table of samples and are gathered inside the step. One optimizer step (gather,
forward, backward, clipping, update, loss sums) is one function of tensors, compiled whole where the plan says so.

K members, C capacity (K rounded when members are dropped), B samples, S dropout sites.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from paceline import noise
from paceline.data.rows import RowPass
from paceline.metrics.state import merge, on_host
from paceline.metrics.state import values as divide
from paceline.models.dropout import Dropout, noise_sites, site_stream
from paceline.optim import stacked
from paceline.optim.build import build_optimizer
from paceline.optim.stacked import Stacked
from paceline.train.config import TrainingConfig
from paceline.train.runtime import autocast
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
        self._task, self._device, self._members = tasks[0], device, tuple(members)
        self._table, self._passes = dict(table), dict(passes)
        self._config = configs[0]
        self._autocast = autocast(self._config.amp, device)
        self._module = _template(models, device)
        self._parameters, self._buffers = _stack(models, device)
        self._moments = stacked.init_state(self._config.optimizer, self._parameters)
        self._decay, self._clip = _hyper(configs, next(iter(self._parameters.values())))
        count = len(members)
        self._updates = torch.zeros(count, dtype=torch.float64, device=device)
        self._active = torch.ones(count, dtype=torch.bool, device=device)
        self._sums = {term: torch.zeros(count, dtype=torch.float64, device=device) for term in self._terms()}
        self._weights = _clones(self._sums)
        self._plain: dict[int, dict[str, float] | None] = {}  # weights that are plain numbers, by batch size
        self._best: tuple[Stacked, Stacked] | None = None
        self._chosen: tuple[Stacked, Stacked] | None = None  # what evaluation looks at, once the best is in use
        self._sites = [path for path, _ in noise_sites(self._module)]
        self._streams = np.array(
            [[site_stream(path, seed=m.seed, fold=m.fold) for m in members] for path in self._sites], dtype=np.uint32
        ).reshape(len(self._sites), count)
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
        count = len(self._members)
        for batch in self._passes[part].batches():
            found, weight, state = self._look(batch)
            for term, value in found.items():
                sums[term] = sums.get(term, 0.0) + value.double()
                weights[term] = weights.get(term, 0.0) + weight[term]
            states = merge(states, state)
        host = {term: (sums[term] / weights[term]).expand(count).cpu() for term in sums}
        states = on_host(states)
        results = []
        for k in members:
            values: dict[str, Value] = {"loss": float(sum(value[k] for value in host.values()))}
            results.append(values | divide({name: type(s)(*(t[k] for t in s)) for name, s in states.items()}))
        return results

    def predict(self, part: str, member: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return one member's predictions over its part, in order."""
        kept: dict[str, list[Tensor]] = {}
        size = self._passes[part].sizes[member]
        for batch in self._passes[part].batches():
            found = self._map(lambda p, b, rows, mask: self._task.predict(self._outputs(p, b, rows, mask)), batch)
            for name, value in found.items():
                kept.setdefault(name, []).append(value[member])
        return {name: torch.cat(values)[:size].cpu().numpy() for name, values in kept.items()}

    def keep(self, member: int) -> None:
        """Take a member's current weights as its best."""
        if self._best is None:
            self._best = (_clones(self._parameters), _clones(self._buffers))
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
        kept: dict[str, Any] = {"model": {path: own[path] for path in self._module.state_dict()}}
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
        _copy(self._parameters, state["parameters"])
        _copy(self._buffers, state["buffers"])
        for moment, paths in self._moments.items():
            _copy(paths, state["moments"][moment])
        self._updates.copy_(state["updates"])
        self._active.copy_(state["active"])
        self._sums = {term: value.to(self._device) for term, value in state["sums"].items()}
        self._weights = {term: value.to(self._device) for term, value in state["weights"].items()}
        if state["best"] is not None:
            self._best = (_clones(self._parameters), _clones(self._buffers))
            _copy(self._best[0], state["best"]["parameters"])
            _copy(self._best[1], state["best"]["buffers"])

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
            weighed = [self._weigh(rows, None if masks is None else masks[i]) for i, rows in enumerate(groups)]
        gradients: Stacked = {}
        buffers = _clones(self._buffers)
        for micro, rows in enumerate(groups):
            mask = None if masks is None else masks[micro]
            over: Mapping[str, Any] = totals or {t: sum(w[t] for w in weighed or ()) for t in self._sums}
            found, sums = self._gradients(buffers, rows, mask, keys[micro], over)
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

    def _gradients(
        self, buffers: Stacked, rows: Tensor, mask: Tensor | None, keys: Tensor, totals: Mapping[str, Any]
    ) -> tuple[Stacked, dict[str, Tensor]]:
        """Return the gradients of one micro-batch of every member, and its loss sums (K,) per term."""
        plain = {t: total for t, total in totals.items() if not isinstance(total, Tensor)}

        def loss(parameters: Stacked, buffers: Stacked, rows: Tensor, mask: Any, keys: Tensor, own: Any) -> Any:
            own_keys = {f"{path}.key": keys[i] for i, path in enumerate(self._sites)}
            batch = self._batch(rows, mask)
            sums = dict(self._task.loss_sums(self._call(parameters, buffers | own_keys, batch), batch))
            return sum(value * _inverse(plain.get(t, own.get(t)), value) for t, value in sums.items()), sums

        tensors = {t: total for t, total in totals.items() if t not in plain}
        dims = (0, 0, 0, None if mask is None else 0, 1, 0)
        mapped = vmap(grad_and_value(loss, has_aux=True), in_dims=dims)
        gradients, (_, sums) = mapped(self._parameters, buffers, rows, mask, keys, tensors)
        return gradients, sums

    def _totals(self, groups: list[Tensor], masks: list[Tensor] | None) -> dict[str, float] | None:
        """Return the weight of each term over the group where it is the same plain number for all members."""
        if masks is not None:
            return None
        total: dict[str, float] = {}
        for rows in groups:
            size = rows.shape[1]
            if size not in self._plain:
                found = self._task.weights(self._batch(rows[0], None))
                numbers = {t: float(w) for t, w in found.items() if not isinstance(w, Tensor)}
                self._plain[size] = numbers if len(numbers) == len(found) else None
            weights = self._plain[size]
            if weights is None:
                return None
            total = {t: total.get(t, 0.0) + w for t, w in weights.items()}
        return total

    def _weigh(self, rows: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """Return the weight of each term (K,) in one micro-batch, from the data alone."""

        def weigh(rows: Tensor, mask: Tensor | None) -> Any:
            weights = self._task.weights(self._batch(rows, mask))
            return {term: torch.as_tensor(weight, dtype=torch.float64) for term, weight in weights.items()}

        found: dict[str, Tensor] = vmap(weigh, in_dims=(0, None if mask is None else 0))(rows, mask)
        return found

    def _batch(self, rows: Tensor, mask: Tensor | None) -> Batch:
        batch = {name: column[rows] for name, column in self._table.items()}
        if mask is None:
            return batch
        if "mask" in batch:
            batch["mask"] = batch["mask"] & mask.view(-1, *[1] * (batch["mask"].ndim - 1))
        return batch | {"sample_mask": mask}

    def _call(self, parameters: Stacked, buffers: Stacked, batch: Batch) -> Any:
        bound = cast(nn.Module, _Bound(self._module, parameters | buffers))
        return self._task.forward(bound, batch)

    def _terms(self) -> list[str]:
        """The names of the loss terms, from the data alone."""
        return list(self._task.weights(self._batch(torch.zeros(1, dtype=torch.int64, device=self._device), None)))

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

    # -- evaluation --------------------------------------------------------------------------------------------------

    def _look(self, batch: Batch) -> tuple[Any, Any, Any]:
        """Loss sums, weights and metric states of one batch, each with a leading member axis."""

        def look(parameters: Stacked, buffers: Stacked, rows: Tensor, mask: Tensor | None) -> Any:
            inputs = self._batch(rows, mask)
            outputs = self._call(parameters, buffers, inputs)
            weights = {t: torch.as_tensor(w, dtype=torch.float64) for t, w in self._task.weights(inputs).items()}
            return dict(self._task.loss_sums(outputs, inputs)), weights, dict(self._task.metric_sums(outputs, inputs))

        found: tuple[Any, Any, Any] = self._map(look, batch)
        return found

    def _outputs(self, parameters: Stacked, buffers: Stacked, rows: Tensor, mask: Tensor | None) -> Any:
        return self._call(parameters, buffers, self._batch(rows, mask))

    def _map(self, function: Any, batch: Batch) -> Any:
        """Map a function of one member over the weights in use and a batch's rows, in evaluation mode."""
        parameters, buffers = self._chosen or (self._parameters, self._buffers)
        mask = batch.get("sample_mask")
        dims = (0, 0, 0 if batch["rows"].ndim == 2 else None, None if mask is None else 0)
        self._module.eval()
        try:
            with torch.no_grad(), self._autocast:
                return vmap(function, in_dims=dims)(parameters, buffers, batch["rows"], mask)
        finally:
            self._module.train()

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
            shape = (BLOCK, micro_batches, len(self._sites), len(self._members))
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


class _Bound:
    """A module that is called with given parameters: what a task's `forward` sees of a member."""

    def __init__(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        self._module, self._tensors = module, dict(tensors)

    def __call__(self, *args: Any) -> Any:
        return functional_call(self._module, self._tensors, args)


def _template(models: Sequence[nn.Module], device: torch.device) -> nn.Module:
    """Return the module whose forward runs every member; dropout rates that differ become a stacked buffer."""
    template = copy.deepcopy(models[0]).to(device).train()
    for path, rates in _differing_rates(models).items():
        site = template.get_submodule(path)
        assert isinstance(site, Dropout)
        site.set_rate(torch.tensor(rates[0], dtype=torch.float64, device=device))
    return template


def _differing_rates(models: Sequence[nn.Module]) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {}
    for model in models:
        for path, site in noise_sites(model):
            rates.setdefault(path, []).append(float(site.p))
    return {path: values for path, values in rates.items() if len(set(values)) > 1}


def _stack(models: Sequence[nn.Module], device: torch.device) -> tuple[Stacked, Stacked]:
    """Stack what trains, and what does not (buffers, frozen parameters); dropout keys are set each step instead."""
    named = [dict(model.named_parameters()) for model in models]
    trained = [path for path, value in named[0].items() if value.requires_grad]
    fixed = [n | dict(m.named_buffers()) for n, m in zip(named, models, strict=True)]
    keys = {f"{path}.key" for path, _ in noise_sites(models[0])}
    others = [path for path in fixed[0] if path not in trained and path not in keys]
    parameters = {path: torch.stack([n[path].detach() for n in named]).to(device) for path in trained}
    buffers = {path: torch.stack([f[path].detach() for f in fixed]).to(device) for path in others}
    for path, rates in _differing_rates(models).items():
        buffers[f"{path}.p"] = torch.tensor(rates, dtype=torch.float64, device=device)
    return parameters, buffers


def _hyper(configs: Sequence[TrainingConfig], like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return weight decay (K,) and the bound of clipping (K,), None where no member clips."""
    decay = like.new_tensor([config.weight_decay for config in configs])
    bounds = [config.gradient_clip.value or math.inf for config in configs]
    return decay, None if all(math.isinf(bound) for bound in bounds) else like.new_tensor(bounds)


def _inverse(total: Any, like: Tensor) -> Any:
    """Return 1 / W, 0 for an empty batch."""
    if isinstance(total, Tensor):
        return torch.where(total > 0, 1 / total, 0.0).to(like.dtype)
    return 1 / total if total else 0.0


def _clones(tensors: Mapping[str, Tensor]) -> Stacked:
    return {path: value.clone() for path, value in tensors.items()}


def _copy(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor]) -> None:
    for path, value in targets.items():
        value.copy_(sources[path])
