"""AdamW, Adam and SGD on stacked parameters: K members in one update, every hyper-parameter a tensor of shape (K,).

The formulas are torch's own (`torch.optim`), so that a member's update is the one it would have had alone. All of it
can be compiled into the training step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Stacked = dict[str, Tensor]
EPS = 1e-8  # torch's default for Adam and AdamW


def init_state(name: str, parameters: Mapping[str, Tensor]) -> dict[str, Stacked]:
    """Return zero moments for stacked parameters."""
    moments = {"adamw": ("mean", "square"), "adam": ("mean", "square"), "sgd": ("momentum",)}[name]
    return {moment: {path: torch.zeros_like(p) for path, p in parameters.items()} for moment in moments}


def global_norm(gradients: Stacked) -> Tensor:
    """Return each member's global 2-norm (K,)."""
    norm: Tensor = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
    return norm


def clip_norm(gradients: Stacked, norm: Tensor, bound: Tensor) -> Stacked:
    """Clip each member's gradients by their global 2-norm (K,), as `clip_grad_norm_`."""
    factor = (bound / (norm + 1e-6)).clamp(max=1.0)
    return {path: g * _wide(factor, g) for path, g in gradients.items()}


def clip_value(gradients: Stacked, bound: Tensor) -> Stacked:
    """Clip each element of each member's gradients."""
    return {path: torch.minimum(torch.maximum(g, -_wide(bound, g)), _wide(bound, g)) for path, g in gradients.items()}


def corrections(first: int, count: int, betas: tuple[float, float]) -> Tensor:
    """Return 1 - beta1^t and sqrt(1 - beta2^t) for `count` updates from the `first` (counted from 1), (count, 2)."""
    return corrections_of(torch.arange(first, first + count, dtype=torch.float64), betas, dim=1)


def corrections_of(updates: Tensor, betas: tuple[float, float], *, dim: int = 0) -> Tensor:
    """Return the same for these updates (K,), stacked in a new axis: (2, K)."""
    return torch.stack([1 - betas[0] ** updates, (1 - betas[1] ** updates).sqrt()], dim=dim)


def update(
    name: str,
    parameters: Stacked,
    gradients: Stacked,
    state: Mapping[str, Stacked],
    corrections: Tensor,
    rate: Tensor,
    weight_decay: Tensor,
    active: Tensor,
    *,
    betas: tuple[float, float],
    momentum: float,
) -> None:
    """Update parameters and moments in place; members that are not active keep every bit.

    corrections: those of Adam's moments for this update, (2,), see `corrections`; asked for outside the compiled step,
    where a power would be taken for every element. (2, K) where members have made different numbers of updates. rate,
    weight_decay: (K,). active: (K,) bool.
    """
    for path, p in parameters.items():
        g, on = gradients[path], active.view(-1, *[1] * (p.ndim - 1))
        if name == "sgd":
            new = _sgd(p, g, state["momentum"][path], _wide(rate, p), _wide(weight_decay, p), momentum)
        else:
            new = _adam(
                p, g, state["mean"][path], state["square"][path], _wide(rate, p), _wide(weight_decay, p),
                [_wide(c, p) if c.ndim else c for c in corrections.to(p.dtype).unbind(0)], betas,
                decoupled=name == "adamw",
            )  # fmt: skip
        for target, value in new:
            target.copy_(torch.where(on, value, target))


def _adam(
    p: Tensor, g: Tensor, mean: Tensor, square: Tensor, rate: Tensor, decay: Tensor,
    corrections: Sequence[Tensor], betas: tuple[float, float], *, decoupled: bool,
) -> list[tuple[Tensor, Tensor]]:  # fmt: skip
    """Adam (Kingma & Ba 2015), decay coupled, or AdamW (Loshchilov & Hutter 2019), decay decoupled."""
    if decoupled:
        old = p * (1 - rate * decay)
    else:
        old, g = p, g + decay * p
    new_mean = mean + (g - mean) * (1 - betas[0])
    new_square = square * betas[1] + g * g * (1 - betas[1])
    step = rate / corrections[0] * new_mean / (new_square.sqrt() / corrections[1] + EPS)
    return [(mean, new_mean), (square, new_square), (p, old - step)]


def _sgd(
    p: Tensor, g: Tensor, buffer: Tensor, rate: Tensor, decay: Tensor, momentum: float
) -> list[tuple[Tensor, Tensor]]:
    """SGD with coupled decay and Nesterov momentum (torch's form)."""
    g = g + decay * p
    if not momentum:
        return [(p, p - rate * g)]
    new_buffer = buffer * momentum + g
    return [(buffer, new_buffer), (p, p - rate * (g + momentum * new_buffer))]


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """View (K,) so that it broadcasts against (K, ...)."""
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 1))
