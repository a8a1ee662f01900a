"""Replaying tensor operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from paceline.train.replay import Replay

pytestmark = pytest.mark.fast


def test_a_replay_gives_every_bit_and_runs_no_python() -> None:
    calls = []

    def function(weights: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
        calls.append(x.shape)
        return {"out": torch.tanh(x @ weights["w"]).sum(1), "n": torch.as_tensor(len(x), dtype=torch.float64)}

    replay = Replay()
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        weights = {"w": torch.randn(5, 3, generator=generator)}
        for rows in (7, 2):
            x = torch.randn(rows, 5, generator=generator)
            found = replay(rows, function, weights, x)
            before = len(calls)
            wanted = function(weights, x)
            assert torch.equal(found["out"], wanted["out"]) and torch.equal(found["n"], wanted["n"])
            assert len(calls) == before + 1
    assert len(calls) == 2 * 2 + 8, "a call and a recording per shape, and the eight of this test"


def test_what_reads_a_number_on_the_host_is_called_as_it_is() -> None:
    def function(x: Tensor) -> Tensor:
        return x * 2 if float(x.sum()) > 0 else -x

    replay = Replay()
    for value in (1.0, -1.0, 3.0):
        assert torch.equal(
            replay("one", function, torch.full((2,), value)), torch.full((2,), 2 * value if value > 0 else -value)
        )


def test_an_error_of_the_function_is_raised_as_it_is() -> None:
    def function(x: Tensor) -> Tensor:
        raise ValueError("no such output")

    with pytest.raises(ValueError, match="no such output"):
        Replay()("one", function, torch.ones(1))
