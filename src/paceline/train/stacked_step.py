"""One optimizer step of stacked members as a function of tensors: gather, forward, backward, clipping, update, sums.

K members (or slots), B samples, G micro-batches of an accumulation group, S sites of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from paceline import noise
from paceline.optim import stacked
from paceline.optim.average import blend, ema_share
from paceline.optim.stacked import Stacked
from paceline.train.config import TrainingConfig
from paceline.train.divergence import finite_rows, note_skips
from paceline.train.member_function import MemberFunction
from paceline.train.stacking import Stack, clones
from paceline.train.whole_step import WholeStep

BLOCK = 512  # dropout keys are made for this many steps at once


class StackedStep:
    """Changes a stack in place; rows whose member is not active keep every bit.

    streams: names of the sites' noise, uint32 (S, K). decay, clip: hyper-parameters (K,), clip None where off.
    measured: sum the gradients' norms. uncompiled: called with the reason where the step cannot be compiled.
    """

    def __init__(
        self,
        function: MemberFunction,
        config: TrainingConfig,
        stack: Stack,
        active: Tensor,
        streams: np.ndarray[Any, Any],
        decay: Tensor,
        clip: Tensor | None,
        *,
        measured: bool = False,
        compiled: bool,
        uncompiled: Callable[[str], None],
    ) -> None:
        self._function, self._config, self._stack, self._active = function, config, stack, active
        self._streams, self._decay, self._clip, self._measured = streams, decay, clip, measured
        self._plain: dict[int, dict[str, float] | None] = {}  # weights that are plain numbers, by batch size
        self._block_first, self._block = 0, list[tuple[Tensor, Tensor, Tensor]]()
        self._rate_cache: tuple[tuple[float, ...], Tensor] = ((), torch.empty(0))
        self._whole = WholeStep(cast(MethodType, self._step), compiled=compiled, failed=uncompiled)

    def __call__(
        self,
        rows: list[Tensor],
        masks: list[Tensor] | None,
        ends: list[int] | None,
        rates: Sequence[float],
        step: int,
    ) -> None:
        """Make the step.

        rows: int64 (K, B) per micro-batch. masks: bool (K, B), None where nothing is padded. ends: where sequences are
        cut, None for their whole length; a compiled step never cuts, as every length would be another graph.
        """
        totals = self._totals(rows, masks)
        shape = (tuple(r.shape[1] for r in rows), masks is None, None if totals is None else tuple(totals.items()))
        ends = None if self._whole.compiled else ends
        self._whole(shape, rows, masks, ends, totals, *self._drawn(step, len(rows)), self._rates(rates))

    def _step(
        self,
        groups: list[Tensor],
        masks: list[Tensor] | None,
        ends: list[int] | None,
        totals: Mapping[str, float] | None,
        keys: Tensor,
        corrections: Tensor,
        share: Tensor,
        rate: Tensor,
    ) -> None:
        """The whole step. `totals` are the terms' weights over the group where they are plain numbers, else None."""
        stack, weighed = self._stack, None
        if totals is None:
            weigh = self._function.weigh
            weighed = [
                weigh(rows, None if masks is None else masks[i], None if ends is None else ends[i])
                for i, rows in enumerate(groups)
            ]
        gradients: Stacked = {}
        counted: list[dict[str, Tensor]] = []
        buffers = clones(stack.buffers)
        for micro, rows in enumerate(groups):
            mask = None if masks is None else masks[micro]
            over: Mapping[str, Any] = totals or {t: sum(w[t] for w in weighed or ()) for t in stack.sums}
            end = None if ends is None else ends[micro]
            found, sums = self._function.gradients(stack.parameters, buffers, rows, mask, keys[micro], over, end)
            gradients = found if not gradients else {path: gradients[path] + g for path, g in found.items()}
            counted.append(sums)
        made = self._active
        if stack.skips:
            made = made & finite_rows(gradients)
            note_skips(stack.skips, self._active, made)
        for sums in counted:
            for term, value in sums.items():
                stack.sums[term].add_(torch.where(made, value, 0))
        for term, total in stack.weights.items():
            over_term = totals[term] if totals is not None else sum(w[term] for w in weighed or ())
            total.add_(made * over_term)
        self._apply(gradients, buffers, corrections, rate, made)
        if self._config.weight_average.name == "ema":
            blend(stack.averages["parameters"], stack.parameters, share, self._active)
            blend(stack.averages["buffers"], stack.buffers, share, self._active, constants=True)

    def _apply(self, gradients: Stacked, buffers: Stacked, corrections: Tensor, rate: Tensor, made: Tensor) -> None:
        """Clip, update, and take over the buffers of members that make the step."""
        stack, config = self._stack, self._config
        if self._measured or (self._clip is not None and config.gradient_clip.mode == "norm"):
            norm = stacked.global_norm(gradients)
            if self._measured:
                stack.norms["sum"].add_(torch.where(made, norm, 0))
                stack.norms["steps"].add_(made)
        if self._clip is not None and config.gradient_clip.mode == "norm":
            gradients = stacked.clip_norm(gradients, norm, self._clip)
        elif self._clip is not None:
            gradients = stacked.clip_value(gradients, self._clip)
        stack.updates.add_(made)
        if config.divergence.policy != "abort":  # members may have made fewer updates than the cohort
            corrections = stacked.corrections_of(stack.updates.clamp(min=1), config.betas)
        stacked.update(
            config.optimizer, stack.parameters, gradients, stack.moments, corrections, rate, self._decay, made,
            betas=config.betas, momentum=config.momentum,
        )  # fmt: skip
        for path, value in stack.buffers.items():
            on = made.view(-1, *[1] * (value.ndim - 1))
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

    def _drawn(self, step: int, micro_batches: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return a step's dropout keys (G, S, K), corrections (2,) and share of the EMA (), made in blocks.

        The key of micro-batch j is `noise.key(noise.key(stream, step), j)`. A member that trains has made as many
        updates as the cohort, so the others are those of the step.
        """
        at = step - self._block_first
        if not 0 <= at < len(self._block) or len(self._block[at][0]) != micro_batches:
            self._block_first, at = step, 0
            steps = np.arange(step, step + BLOCK, dtype=np.uint32)[:, None, None]
            by_step = noise.keys(self._streams[None], steps)
            drawn = np.concatenate([noise.keys(by_step, micro) for micro in range(micro_batches)], axis=1)
            shape = (BLOCK, micro_batches, *self._streams.shape)
            keys = torch.from_numpy(drawn.view(np.int32).reshape(shape)).to(self._decay.device)
            corrections = stacked.corrections(step + 1, BLOCK, self._config.betas).to(self._decay)
            decay = self._config.weight_average.decay
            shares = self._decay.new_tensor([ema_share(n, decay) for n in range(step, step + BLOCK)])
            with torch.no_grad():  # as in a feed: of a thousand views none has to know where it comes from
                self._block = list(zip(keys.unbind(0), corrections.unbind(0), shares.unbind(0), strict=True))
        return self._block[at]

    def _rates(self, rates: Sequence[float]) -> Tensor:
        if rates != self._rate_cache[0]:
            self._rate_cache = (tuple(rates), self._decay.new_tensor(rates))
        return self._rate_cache[1]
