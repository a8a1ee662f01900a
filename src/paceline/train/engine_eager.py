"""The eager engine: any model, one member, one optimizer step at a time.

K members (here 1), B samples. Batches arrive as (1, B, ...); the member axis is dropped as a view.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from paceline.evaluate import passes
from paceline.optim.average import ema_share
from paceline.optim.build import build_optimizer, clip_gradients
from paceline.optim.fused import FusedStep
from paceline.train.augment import Augment
from paceline.train.averaged import Averaged
from paceline.train.config import TrainingConfig
from paceline.train.control import LoopControl, checked
from paceline.train.divergence import Guard, copied, counted_if, take_skips
from paceline.train.fitting import check_eager
from paceline.train.meter import Meter
from paceline.train.micro import IN_AN_EVALUATION, MicroBatches, Statistics, enough_memory, out_of_memory, release
from paceline.train.runtime import Noise, amp_enabled, autocast
from paceline.train.stacking import copy_into

if TYPE_CHECKING:
    from paceline.types import Batch, Member, Task, Value


class EagerEngine:
    """Optimisation steps, evaluation and state of one member."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        config: TrainingConfig,
        member: Member,
        passes: Mapping[str, Iterable[Batch]],
        device: torch.device,
        *,
        augment: Augment | None = None,
        micro: MicroBatches | None = None,
    ) -> None:
        self.parts, self._passes = tuple(passes), dict(passes)
        self._meter = Meter(device)
        self._model = model.to(device).train()
        self._task, self._config, self._device = task, config, device
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = build_optimizer(
            config.optimizer, self._parameters, learning_rate=config.learning_rate,
            weight_decay=config.weight_decay, momentum=config.momentum, betas=config.betas,
        )  # fmt: skip
        self._stepper = FusedStep(self._optimizer, self._parameters)
        self._augment, self._measured = augment, config.logs_grad_norm
        self._noise = Noise(model, member, device, augmented=augment is not None)
        self._autocast = autocast(config.amp, device)
        self._scaled = amp_enabled(config.amp, device) and config.amp.dtype == "float16"
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._scaled)
        self._inverses: dict[tuple[float, torch.dtype], Tensor] = {}
        self._rate = config.learning_rate
        self._micro, self._statistics = micro or MicroBatches(), Statistics(self._model)
        self._average = Averaged(self._model, device) if config.weight_average.name != "none" else None
        self._shown = self._model if self._average is None else self._average.model  # evaluated, selected, published
        policy = config.divergence.policy
        self._guard = Guard(model, self._optimizer, device) if policy == "skip" else None
        self._marked = copied(self._restorable()) if policy == "rollback" else None
        self._best: dict[str, Any] | None = None
        self._last: dict[str, Tensor] | None = None  # what was shown before the best state was loaded over it

    def step(self, group: Sequence[Batch], rates: Sequence[float], step: int) -> None:
        """Make one optimizer step over an accumulation group.

        The gradient is that of sum over terms of sum / W, with W the term's weight over the whole group.
        """
        batches = [{name: column[0] for name, column in batch.items()} for batch in group]
        if self._guard is not None:
            self._guard.begin()
        self._statistics.remember()
        counted, weights = self._accumulate(batches, step)
        made = None if self._guard is None else self._guard.judge()
        for found, weight in zip(counted, weights, strict=True):
            self._meter.add(*(found, weight) if made is None else counted_if(made, found, weight))
        self._update(rates[0], made)
        if self._average is not None and self._config.weight_average.name == "ema":
            self._average.update(ema_share(step, self._config.weight_average.decay))

    def _accumulate(self, batches: list[Batch], step: int) -> tuple[list[dict[str, Tensor]], list[dict[str, Any]]]:
        """Differentiate over a group; return loss sums and weights of its micro-batches.

        Where memory runs out, from this step on in micro-batches of half the size. Raises DeviceMemoryError where one
        sample is too many.
        """
        while True:
            pieces = self._micro.pieces(batches, step)
            try:
                return self._differentiated(pieces, step)
            except (RuntimeError, MemoryError) as error:
                reason = out_of_memory(error)
                if reason is None:
                    raise
            for parameter in self._parameters:  # out of the `except`, whose error holds what the pass had made
                parameter.grad = None
            self._statistics.restore()
            release(self._device)
            self._micro.halve(pieces, step, reason)

    def _differentiated(self, pieces: list[Batch], step: int) -> tuple[list[dict[str, Tensor]], list[dict[str, Any]]]:
        weights = [dict(self._task.weights(batch)) for batch in pieces]
        totals = weights[0] if len(weights) == 1 else {t: sum(w[t] for w in weights) for t in weights[0]}
        counted = []
        for micro, batch in enumerate(pieces):
            self._noise.set(step, micro)
            if self._augment is not None:
                batch = self._augment(batch, self._noise.samples)
            with self._autocast:
                sums = self._task.loss_sums(self._task.forward(self._model, batch), batch)
            self._backward(sums, totals)
            counted.append({term: value.detach() for term, value in sums.items()})
        return counted, weights

    def average(self, members: Sequence[int], shares: Sequence[float]) -> None:
        """Move the average by share x (weights - average)."""
        assert list(members) == [0] and self._average is not None
        self._average.update(shares[0])

    def flush(self, members: Sequence[int]) -> list[dict[str, float]]:
        """Return the mean training loss since the last flush."""
        skips = take_skips({} if self._guard is None else self._guard.skips, members)
        return [self._meter.flush() | own for own in skips]

    def evaluate(self, part: str, members: Sequence[int], control: LoopControl | None = None) -> list[dict[str, Value]]:
        """Return loss and metrics of the weights in use over a part."""
        assert list(members) == [0]
        with enough_memory(f"an evaluation on {part}", IN_AN_EVALUATION):
            return [passes.evaluate(self._shown, self._task, checked(self._passes[part], control), self._autocast)]

    def predict(self, part: str, member: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return the predictions of the weights in use over a part."""
        assert member == 0
        return passes.predict(self._shown, self._task, self._passes[part], self._autocast)

    def keep(self, member: int) -> None:
        """Take the current state as the member's best: real copies, which later steps cannot touch."""
        assert member == 0
        with torch.no_grad():
            live = self._shown.state_dict()
            if self._best is None:
                self._best = {"model": {name: value.detach().clone() for name, value in live.items()}}
            else:
                for name, value in self._best["model"].items():
                    value.copy_(live[name])
        if self._config.selection.keep_optimizer:
            self._best["optimizer"] = copy.deepcopy(self._optimizer.state_dict())

    def mark(self, member: int) -> None:
        """Take the current state as the one to go back to."""
        assert member == 0
        self._marked = copied(self._restorable())

    def roll_back(self, member: int) -> None:
        """Return to the marked state."""
        assert member == 0 and self._marked is not None
        self._restore(copied(self._marked))

    def retire(self, member: int) -> None:
        """Nothing to do: with its only member the cohort ends."""
        assert member == 0

    def compact(self, steps_left: int) -> None:
        """Nothing to do, likewise."""

    def use_best(self) -> None:
        """Load the best state; training does not go on from here. `weights` still knows the current one."""
        assert self._best is not None
        self._last = {name: value.detach().clone() for name, value in self._shown.state_dict().items()}
        self._shown.load_state_dict(self._best["model"])

    def weights(self, member: int, which: str) -> dict[str, Any]:
        """Return `best` or `current` weights (and the optimizer's state where kept), on the CPU.

        With `current` comes their average, where there is one.
        """
        assert member == 0
        if which == "best" and self._best is not None:
            kept = self._best
        else:
            shown, optimizer = self._last or self._shown.state_dict(), self._optimizer.state_dict()
            kept = {"model": shown, "optimizer": optimizer}
            if self._average is not None:
                kept |= {"model": self._model.state_dict(), "average": shown}
        return {name: to_cpu(value) for name, value in kept.items()}

    def state_dict(self) -> dict[str, Any]:
        return self._restorable() | {
            "scaler": self._scaler.state_dict(),
            "best": self._best,
            "marked": self._marked,
            "skips": None if self._guard is None else self._guard.skips,
            "meter": self._meter.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_eager(state, self.state_dict(), self._config, self._parameters)
        self._restore(state)
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        if self._guard is not None:
            copy_into(self._guard.skips, state["skips"])
        self._meter.load_state_dict(state["meter"])
        self._best, self._marked = (to_device(state[name], self._device) for name in ("best", "marked"))

    def _restorable(self) -> dict[str, Any]:
        """Return what a rollback returns to; the tensors are the live ones."""
        return {
            "model": dict(self._model.state_dict()),
            "average": None if self._average is None else dict(self._average.model.state_dict()),
            "optimizer": self._optimizer.state_dict(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._model.load_state_dict(state["model"])
        if self._average is not None:
            self._average.model.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._stepper.forget()
        self._rate = self._optimizer.param_groups[0]["lr"]

    def _backward(self, sums: Mapping[str, Tensor], totals: Mapping[str, float | Tensor]) -> None:
        """Differentiate by passing 1/W in as the gradient of each sum: no division enters the graph."""
        inverses = [self._inverse(totals[term], value) for term, value in sums.items()]
        if self._scaled:
            inverses = [self._scaler.scale(inverse) for inverse in inverses]
        torch.autograd.backward(list(sums.values()), inverses)

    def _inverse(self, total: float | Tensor, like: Tensor) -> Tensor:
        if isinstance(total, Tensor):
            total = total.to(like.dtype)  # first: the inverse of a count would be a float32
            return torch.where(total > 0, 1 / total, torch.zeros_like(total))
        key = (total, like.dtype)
        if key not in self._inverses:
            self._inverses[key] = torch.full_like(like, 1 / total if total else 0.0, requires_grad=False)
        return self._inverses[key]

    def _update(self, rate: float, made: Tensor | None) -> None:
        """Clip and update; the norm of the gradients is told to the meter where a step is `made` (None: always)."""
        if rate != self._rate:
            for parameters in self._optimizer.param_groups:
                parameters["lr"] = rate
            self._rate = rate
        if self._scaled:
            self._scaler.unscale_(self._optimizer)
        norm = clip_gradients(self._parameters, self._config.gradient_clip, measured=self._measured)
        if norm is not None and self._measured:
            self._meter.add_norm(norm, norm.isfinite() if self._scaled else made)
        if self._scaled:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        else:
            self._stepper.step()
        for parameter in self._parameters:
            parameter.grad = None


def to_cpu(tree: Any) -> Any:
    """Return a nested structure with its tensors on the CPU."""
    return to_device(tree, torch.device("cpu"))


def to_device(tree: Any, device: torch.device) -> Any:
    """Return a nested structure with its tensors on the device, detached."""
    if isinstance(tree, Tensor):
        return tree.detach().to(device)
    if isinstance(tree, Mapping):
        return {name: to_device(value, device) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(to_device(value, device) for value in tree)
    return tree
