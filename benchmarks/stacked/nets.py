"""Thousands of tiny real networks at once: a tanh MLP, full batch, Adam, every network with its own data and start.

Shapes: K networks, N samples, F features, H hidden units. Everything is drawn from a torch generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

F, H = 6, 8
STEPS, LEARNING_RATE, WEIGHT_DECAY = 30, 0.05, 1e-3
CHUNK = 1_000  # networks at once: they fit the cache
LEFT, RIGHT = slice(0, 3), slice(3, 6)  # two halves of the features that tell equally much about the class


class Scores(NamedTuple):
    """Whether each sample was right, bool (K, N), and the probability of class 1, (K, N)."""

    right_KN: Tensor
    probability_KN: Tensor

    @property
    def accuracy_K(self) -> Tensor:
        return self.right_KN.double().mean(dim=1)

    def log_loss_K(self, y_KN: Tensor) -> Tensor:
        p = torch.where(y_KN > 0, self.probability_KN, 1 - self.probability_KN).double()
        return -p.clamp(min=1e-12).log().mean(dim=1)


def draw(n_sets: int, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return fresh data: x (n_sets, n, F) normal, y (n_sets, n) 0 or 1 by a logit that is symmetric in both halves."""
    x = torch.randn(n_sets, n, F, generator=generator)
    logit = sum(1.8 * h[..., 0] + 1.35 * h[..., 1] * h[..., 2] for h in (x[..., LEFT], x[..., RIGHT]))
    return x, (torch.rand(n_sets, n, generator=generator) < torch.sigmoid(logit)).float()


def train(x_KNF: Tensor, y_KN: Tensor, generator: torch.Generator, steps: int = STEPS) -> list[Tensor]:
    """Train K networks, each from its own random start; returns the stacked parameters."""
    k, _, f = x_KNF.shape
    shapes, scales = [(k, f, H), (k, 1, H), (k, H, 1), (k, 1, 1)], [f**-0.5, 0.0, H**-0.5, 0.0]
    starts = [torch.randn(s, generator=generator) * scale for s, scale in zip(shapes, scales, strict=True)]
    params = [start.requires_grad_() for start in starts]
    optimizer = torch.optim.AdamW(params, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, foreach=False, fused=True)
    for _ in range(steps):
        optimizer.zero_grad()
        # Summed over networks: each network's gradient is that of its own mean loss.
        loss = torch.nn.functional.binary_cross_entropy_with_logits(forward(params, x_KNF), y_KN, reduction="none")
        loss.mean(dim=1).sum().backward()
        optimizer.step()
    return [param.detach() for param in params]


def forward(params: list[Tensor], x_KNF: Tensor) -> Tensor:
    """Return logits (K, N)."""
    w1, b1, w2, b2 = params
    return torch.baddbmm(b2, torch.tanh(torch.baddbmm(b1, x_KNF, w1)), w2).squeeze(-1)


def scores(params: list[Tensor], x_KNF: Tensor, y_KN: Tensor) -> Scores:
    """Measure K networks, each on its own samples."""
    with torch.no_grad():
        probability = torch.sigmoid(forward(params, x_KNF))
    return Scores((probability > 0.5) == (y_KN > 0.5), probability)


def chunks(total: int, size: int = CHUNK) -> Iterator[int]:
    """Yield the sizes of the chunks that make up `total`."""
    for start in range(0, total, size):
        yield min(size, total - start)


def redrawn_folds(n: int, n_folds: int, repeats: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return `repeats` random divisions into folds: indices (repeats * n_folds, n_train) and (..., n_test)."""
    orders = torch.argsort(torch.rand(repeats, n, generator=generator), dim=1)
    size = n // n_folds
    test = orders[:, : size * n_folds].reshape(repeats, n_folds, size)
    train = torch.stack(
        [torch.cat([orders[:, : k * size], orders[:, (k + 1) * size :]], dim=1) for k in range(n_folds)], 1
    )
    return train.flatten(0, 1), test.flatten(0, 1)
