"""Sliding windows against hand values and a loop over samples; 25 steps, 15 apart, are the documented ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call, vmap

from paceline.errors import ConfigError
from paceline.models.config import WindowsConfig
from paceline.models.keyed import set_keys, signed32
from paceline.models.pooling import masked_max, masked_mean
from paceline.models.windows import Windowed, aggregate, cut, random_starts, starts

pytestmark = pytest.mark.fast


class Seen(nn.Module):
    """Shows what it is called with: mean and maximum over the valid steps, and their number."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        counted = torch.full((len(x),), float(x.shape[1])) if mask is None else mask.sum(1)
        return torch.stack([masked_mean(x, mask)[:, 0], masked_max(x, mask)[:, 0], counted.to(x.dtype)], 1)


def ramp(*lengths: int, steps: int) -> tuple[Tensor, Tensor]:
    """One channel that counts the steps, not a number on padding."""
    mask = torch.arange(steps) < torch.tensor(lengths)[:, None]
    x = torch.arange(steps, dtype=torch.float64).expand(len(lengths), -1)[:, :, None]
    return x.masked_fill(~mask[:, :, None], float("nan")), mask


def places(length: int, steps: int, size: int, stride: int) -> list[int]:
    found, exists = starts(torch.tensor([length]), steps, size, stride)
    return found[exists].tolist()


def test_windows_of_25_steps_start_every_15_and_the_last_ends_with_the_sequence() -> None:
    """A101."""
    assert places(160, 160, 25, 15) == [0, 15, 30, 45, 60, 75, 90, 105, 120, 135]
    assert places(161, 161, 25, 15) == [0, 15, 30, 45, 60, 75, 90, 105, 120, 135, 136]
    assert places(174, 174, 25, 15) == [0, 15, 30, 45, 60, 75, 90, 105, 120, 135, 149]
    assert places(26, 160, 25, 15) == [0, 1]
    assert places(25, 160, 25, 15) == [0]
    assert places(3, 160, 25, 15) == [0]
    assert places(7, 7, 2, 2) == [0, 2, 4, 5]
    assert places(5, 5, 1, 1) == [0, 1, 2, 3, 4]


def test_all_windows_are_aggregated_at_evaluation_as_by_hand() -> None:
    """A101."""
    logits = torch.tensor([[[1.0, -2.0], [3.0, 0.0], [5.0, 8.0]], [[1.0, 4.0], [9.0, 9.0], [9.0, 9.0]]])
    exists = torch.tensor([[True, True, True], [True, False, False]])
    assert aggregate(logits, exists, "mean").tolist() == [[3, 2], [1, 4]]
    assert aggregate(logits, exists, "max").tolist() == [[5, 8], [1, 4]]
    by_hand = [[math.log(sum(map(math.exp, column))) for column in ([1, 3, 5], [-2, 0, 8])], [1, 4]]
    np.testing.assert_allclose(aggregate(logits, exists, "logsumexp"), by_hand, rtol=1e-6)
    assert aggregate(logits.bfloat16(), exists, "mean").dtype == torch.float32


@pytest.mark.parametrize("how", ["mean", "max", "logsumexp"])
def test_evaluation_is_a_loop_over_the_windows_of_each_sample(how: str) -> None:
    x, mask = ramp(11, 4, 6, 2, steps=11)
    logits = Windowed(Seen(), size=4, stride=3, aggregate=how).eval()(x, mask)
    for b, length in enumerate([11, 4, 6, 2]):
        rows = []
        for start in places(length, length, 4, 3):
            own = range(start, min(start + 4, length))
            rows.append([np.mean(own), max(own), len(own)])
        by = {"mean": np.mean, "max": np.max, "logsumexp": lambda r, axis: np.log(np.exp(r).sum(axis))}[how]
        np.testing.assert_allclose(logits[b], by(np.array(rows), axis=0), rtol=1e-12)


def test_a_window_as_long_as_the_sequences_changes_nothing_at_evaluation() -> None:
    x, mask = ramp(9, 5, steps=9)
    for how in ("mean", "max", "logsumexp"):
        windowed = Windowed(Seen(), size=9, stride=5, aggregate=how).eval()
        torch.testing.assert_close(windowed(x, mask), Seen()(x, mask), rtol=1e-12, atol=0)


def test_training_sees_one_random_window_inside_each_sample() -> None:
    """A101."""
    model, size = Windowed(Seen(), size=4, stride=2, aggregate="mean").train(), 4
    lengths = torch.tensor([12, 5, 4, 2])
    x, mask = ramp(*lengths.tolist(), steps=12)
    firsts = []
    for step in range(300):
        set_keys(model, seed=1, step=step)
        seen = model(x, mask)
        assert torch.equal(seen[:, 2], torch.minimum(lengths, torch.tensor(size)).double())
        firsts.append(seen[:, 1] - seen[:, 2] + 1)
    found = torch.stack(firsts).long()
    assert set(found[:, 1].tolist()) == {0, 1}
    assert set(found[:, 2].tolist()) == set(found[:, 3].tolist()) == {0}
    assert stats.chisquare(torch.bincount(found[:, 0], minlength=9)).pvalue > 1e-3
    without = Windowed(Seen(), size=4, stride=2, aggregate="mean").train()(x[:1], None)
    assert without[0, 2] == 4


def test_the_window_of_a_sample_does_not_depend_on_padding_or_on_the_samples_after_it() -> None:
    key = torch.tensor(signed32(123456789), dtype=torch.int32)
    lengths = torch.tensor([30, 12, 18])
    assert torch.equal(random_starts(lengths, 5, key), random_starts(torch.tensor([30, 12, 18, 7, 0]), 5, key)[:3])
    model = Windowed(Seen(), size=5, stride=3, aggregate="mean")
    model.key.copy_(key)
    short, long = ramp(30, 12, 18, steps=30), ramp(30, 12, 18, steps=77)
    for mode in (True, False):
        assert torch.equal(model.train(mode)(*short), model(*long))


def test_members_under_vmap_draw_the_windows_that_they_draw_alone() -> None:
    model = Windowed(Seen(), size=3, stride=2, aggregate="max").train()
    keys = torch.tensor([5, -77, 2**31 - 1], dtype=torch.int32)
    x, mask = ramp(14, 9, 3, steps=14)

    def run(key: Tensor) -> Tensor:
        return functional_call(model, {"key": key}, (x, mask))

    together = vmap(run)(keys)
    assert not torch.equal(together[0], together[1])
    assert torch.equal(together, torch.stack([run(key) for key in keys]))


def test_windows_are_cut_where_they_begin() -> None:
    x = torch.arange(24.0).reshape(2, 6, 2)
    found = cut(x, torch.tensor([[0, 3], [1, 2]]), 2)
    assert found.shape == (2, 2, 2, 2)
    assert found[1, 0].tolist() == [[14, 15], [16, 17]]
    assert found[0, 1].tolist() == [[6, 7], [8, 9]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "greater than or equal to 1"),
        ({"size": 5, "stride": 0}, "greater than or equal to 1"),
        ({"size": 5, "stride": 6}, "leaves out steps between windows"),
        ({"stride": 3}, "needs a size"),
        ({"size": 5, "aggregate": "median"}, "'mean', 'max' or 'logsumexp'"),
    ],
)
def test_windows_that_cannot_be_meant_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WindowsConfig.model_validate(values)


def test_the_default_stride_is_three_fifths_and_windows_fit_the_longest_sequence() -> None:
    wrapped = WindowsConfig(size=25).wrap(Seen(), 160)
    assert (wrapped.size, wrapped.stride, wrapped.aggregate) == (25, 15, "mean")
    assert WindowsConfig(size=1).wrap(Seen(), 160).stride == 1
    assert WindowsConfig(size=160).wrap(Seen(), 160).size == 160
    plain = Seen()
    assert WindowsConfig().wrap(plain, 160) is plain
    with pytest.raises(ConfigError, match="longer than the longest sequence") as caught:
        WindowsConfig(size=161).wrap(Seen(), 160)
    assert caught.value.where == "model.windows.size"
    assert caught.value.hint == "at most 160"
