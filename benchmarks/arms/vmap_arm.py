"""What an expert writes by hand for many members: the whole step of all of them in one compiled graph, nothing else.

Gather, `vmap(grad_and_value)`, counter-based dropout and AdamW are inside the graph and update in place. There is no
validation, no metric and no checkpoint. torch's own dropout with `vmap(randomness="different")` was 1.5 times slower.

Shapes: K members, B batch, N rows, S steps of an epoch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import mse_loss

from arms.workload import BATCH_SIZE, LEARNING_RATE, N_FEATURES, N_TRAIN, WEIGHT_DECAY, Workload
from paceline.models.dropout import Dropout

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # torch's defaults
SITE = 2  # the place of dropout in `network`
Stacked = dict[str, Tensor]


class Trained(NamedTuple):
    done: float  # time.time() after the last step
    epoch_seconds: float  # after the first epoch, in which the step is compiled
    val_losses: list[float]  # mean squared error of each member; measured after `done`


def network(dropout: float) -> nn.Sequential:
    """The MLP of the workload, (B, F) -> (B, 1)."""
    return nn.Sequential(
        nn.Linear(N_FEATURES, 64), nn.ReLU(), Dropout(dropout), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
    )


def initial(dropout: float, seeds: Sequence[int]) -> Stacked:
    """Stacked parameters (K, ...), each member's drawn from its own seed."""
    members = []
    for seed in seeds:
        torch.manual_seed(seed)
        members.append({name: value.detach() for name, value in network(dropout).named_parameters()})
    return {name: torch.stack([member[name] for member in members]) for name in members[0]}


def train(work: Workload, seeds: Sequence[int]) -> Trained:
    """Train one member per seed for the epochs of `work`."""
    net, params = network(work.dropout).train(), initial(work.dropout, seeds)
    mean, square = ({name: torch.zeros_like(p) for name, p in params.items()} for _ in range(2))
    (x, y), losses = work.train, torch.zeros(len(seeds))

    def loss(params: Stacked, rows: Tensor, key: Tensor) -> Tensor:
        return mse_loss(functional_call(net, (params, {f"{SITE}.key": key}), (x[rows],)).squeeze(-1), y[rows])

    def step(rows_KB: Tensor, keys_K: Tensor, corrections: Tensor) -> None:
        gradients, found = vmap(grad_and_value(loss))(params, rows_KB, keys_K)
        losses.add_(found)
        rate, root = corrections[0], corrections[1]
        for name, p in params.items():
            g = gradients[name]
            m, v = mean[name].lerp_(g, 1 - BETA1), square[name].mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
            p.mul_(1 - LEARNING_RATE * WEIGHT_DECAY).sub_(rate * m / (v.sqrt() / root + EPS))

    compiled, times = torch.compile(step, fullgraph=True, dynamic=False), []
    generator = torch.Generator().manual_seed(seeds[0])
    for number in range(work.epochs):
        losses.zero_()
        for arguments in zip(*epoch(len(seeds), number, generator), strict=True):
            compiled(*arguments)
        losses.tolist()
        times.append(time.perf_counter())
    return Trained(time.time(), (times[-1] - times[0]) / max(1, len(times) - 1), validate(net, params, work))


def epoch(members: int, number: int, generator: torch.Generator) -> list[tuple[Tensor, ...]]:
    """Return, per step of an epoch, the rows (K, B) in each member's own order, dropout keys (K,), corrections (2,).

    Inside the graph the powers of Adam's corrections would be taken for every element.
    """
    steps = N_TRAIN // BATCH_SIZE
    orders = [torch.randperm(N_TRAIN, generator=generator).view(steps, BATCH_SIZE) for _ in range(members)]
    keys = torch.randint(-(2**31), 2**31, (steps, members), dtype=torch.int32, generator=generator)
    made = torch.arange(1, steps + 1, dtype=torch.float64) + number * steps
    corrections = torch.stack([LEARNING_RATE / (1 - BETA1**made), (1 - BETA2**made).sqrt()], 1).float()
    return [torch.stack(orders, 1).unbind(0), keys.unbind(0), corrections.unbind(0)]


def validate(net: nn.Module, params: Stacked, work: Workload) -> list[float]:
    x, y = work.val
    net.eval()
    with torch.no_grad():
        outputs = vmap(lambda p: functional_call(net, p, (x,)).squeeze(-1))(params)
    return (outputs - y).square().mean(1).tolist()
