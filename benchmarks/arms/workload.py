"""What every arm of the step benchmark shares: data, model, optimizer, clock. Shapes: N rows, F = 20 features."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

N_TRAIN, N_VAL, N_FEATURES = 8_000, 2_000, 20
BATCH_SIZE, EVAL_BATCH_SIZE = 32, 500
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.01
SEED = 42


class Mlp(nn.Module):
    """20-64-32-1 with ReLU, and torch's dropout after the first one if its rate is not 0: x (N, F) -> (N,)."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        noise = [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(
            nn.Linear(N_FEATURES, 64), nn.ReLU(), *noise, nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(-1)


def synthetic(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of a smooth function of 20 normal features, plus noise of variance .25. Returns x (N, F) and y (N,)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N_TRAIN + N_VAL, N_FEATURES, generator=generator)
    directions = torch.randn(N_FEATURES, 3, generator=generator) / N_FEATURES**0.5
    a, b, c = (x @ directions).unbind(1)
    return x, a + torch.sin(b) + 0.5 * c.tanh() + 0.5 * torch.randn(len(x), generator=generator)


class Workload:
    """The same data, initial weights and optimizer for every arm."""

    def __init__(self, *, epochs: int, seed: int = SEED, dropout: float = 0.0) -> None:
        x, y = synthetic()
        self.epochs, self.seed, self.dropout = epochs, seed, dropout
        self.train = x[:N_TRAIN].clone(), y[:N_TRAIN].clone()
        self.val = x[N_TRAIN:].clone(), y[N_TRAIN:].clone()

    def model(self) -> Mlp:
        torch.manual_seed(self.seed)
        return Mlp(self.dropout)

    def optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def train_loader(self) -> DataLoader:
        return DataLoader(TensorDataset(*self.train), batch_size=BATCH_SIZE, shuffle=True)

    def val_loader(self) -> DataLoader:
        return DataLoader(TensorDataset(*self.val), batch_size=EVAL_BATCH_SIZE)


class Clock:
    """Runs from the first forward pass of the model that trains until `stop`."""

    def __init__(self) -> None:
        self.save_seconds: float | None = None
        self._started: tuple[float, float] | None = None
        self._stopped: tuple[float, float] | None = None

    def watch(self, model: nn.Module) -> None:
        """Start at the model's next forward pass. The hook removes itself, so later passes do not pay for it.

        A copy of the model starts the clock anew at its own first pass: a library may try a batch on a copy, or train
        a copy.
        """

        def start(module: nn.Module, inputs: object) -> None:
            module._forward_pre_hooks.pop(handle.id)
            if self._stopped is None:
                self._started = self._now()

        handle = model.register_forward_pre_hook(start)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Time one save apart; it stays part of the whole."""
        started = time.perf_counter()
        yield
        self.save_seconds = time.perf_counter() - started

    def stop(self) -> None:
        self._stopped = self._now()

    @property
    def wall_seconds(self) -> float:
        return self._elapsed(0)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all threads of this process: less disturbed by other programs than wall time."""
        return self._elapsed(1)

    def _elapsed(self, which: int) -> float:
        assert self._started is not None, "no forward pass of the watched model was seen"
        assert self._stopped is not None, "the arm did not stop the clock"
        return self._stopped[which] - self._started[which]

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


class Outcome(NamedTuple):
    """What an arm reports itself: optimizer steps made, and validation MSE after the last epoch."""

    steps: int
    val_loss: float


class Arm(Protocol):
    """The interface of a module in this package."""

    def run(self, work: Workload, clock: Clock, folder: Path) -> Outcome:
        """Train once. `clock` is told the model, the final save where it can be told apart, and the end."""
        ...


class SavesApart(Protocol):
    """An arm whose final save cannot be told apart from outside repeats it after the run."""

    def save_seconds(self, folder: Path) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One timed run of one arm; what a worker writes as JSON."""

    arm: str
    steps: int
    us_per_step: float
    cpu_us_per_step: float
    around_ms: float  # of the library's call, but before the first step or after the last save
    save_ms: float | None
    val_loss: float
    threads: int


def warm_up() -> None:
    """Pay for torch's own one-time start-up (lazy imports, autograd's threads) before any clock runs."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    data = TensorDataset(torch.zeros(8, 4), torch.zeros(8, 1))
    for x, y in DataLoader(data, batch_size=4, shuffle=True):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    with torch.inference_mode():
        model(data.tensors[0])
