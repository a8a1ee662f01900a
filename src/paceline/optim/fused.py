"""The step of torch's fused Adam and AdamW without the wrapper around it: the same kernel on the same state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

KERNELS = {torch.optim.AdamW: "_fused_adamw_", torch.optim.Adam: "_fused_adam_"}


class FusedStep:
    """Steps an optimizer of one parameter group.

    `Optimizer.step` spends a third of a small model's step on bookkeeping: profiler hooks, re-grouping of the tensors,
    checks of flags that never change. Here the lists are made once and the kernel is called on them. Where that is not
    possible (another optimizer, several dtypes, a parameter without a gradient), `Optimizer.step` does it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
        self._optimizer, self._parameters = optimizer, list(parameters)
        self._kernel: Any = getattr(torch, KERNELS.get(type(optimizer), ""), None)
        if len({(p.device, p.dtype) for p in parameters}) != 1 or len(optimizer.param_groups) != 1:
            self._kernel = None
        self._state: tuple[list[Tensor], list[Tensor], list[Tensor]] | None = None

    def step(self) -> None:
        """Make one step with the gradients of the parameters, at the group's learning rate."""
        gradients = [p.grad for p in self._parameters]
        if self._kernel is None or any(g is None for g in gradients):
            self._optimizer.step()
            return
        if self._state is None:
            self._optimizer.step()  # makes the moments, or finds those just loaded
            states = [self._optimizer.state[p] for p in self._parameters]
            self._state = (
                [s["exp_avg"] for s in states],
                [s["exp_avg_sq"] for s in states],
                [s["step"] for s in states],
            )
            return
        means, squares, steps = self._state
        group = self._optimizer.param_groups[0]
        left_out = getattr(self._optimizer, "found_inf", None)  # 1 where this step is not to be made
        torch._foreach_add_(steps, 1)
        beta1, beta2 = group["betas"]
        self._kernel(
            self._parameters, gradients, means, squares, [], steps, lr=group["lr"], beta1=beta1, beta2=beta2,
            weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False, maximize=False, found_inf=left_out,
        )  # fmt: skip
        if left_out is not None:
            torch._foreach_sub_(steps, [left_out] * len(steps))

    def forget(self) -> None:
        """Take the moments anew from the optimizer: it has loaded a state."""
        self._state = None
