"""Draws from a key: the distributions they claim, the same in both precisions, independent between purposes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from paceline.models.dropout import Dropout
from paceline.models.keyed import Keyed, below, hash_bits, noise_sites, normal, set_keys, signed32, subkey, uniform
from paceline.noise import key, stream

pytestmark = pytest.mark.fast

KEY = torch.tensor(signed32(key(stream(42, None, "test"), 3)), dtype=torch.int32)
SHAPE = (40, 50, 20)


class Noisy(Keyed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + normal(x.shape, self.key, x.dtype)


def test_uniform_numbers_are_uniform_and_equal_in_both_precisions() -> None:
    drawn = uniform(SHAPE, KEY, torch.float64)
    assert drawn.min() > 0 and drawn.max() < 1
    assert stats.kstest(drawn.flatten().numpy(), "uniform").pvalue > 1e-3
    assert torch.equal(uniform(SHAPE, KEY, torch.float32).double(), drawn)


def test_the_largest_uniform_number_is_below_one_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paceline.models.keyed.hash_bits", lambda *_: torch.tensor([-1, 0], dtype=torch.int32))
    drawn = uniform((2,), KEY, torch.float32)
    assert 0 < drawn[1] < drawn[0] < 1
    assert normal((2,), KEY, torch.float32).tolist() == pytest.approx([5.4, -5.4], abs=0.1)


def test_normal_numbers_are_normal() -> None:
    drawn = normal(SHAPE, KEY, torch.float64).flatten().numpy()
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    np.testing.assert_allclose(normal(SHAPE, KEY, torch.float32).flatten().numpy(), drawn, rtol=1e-4, atol=1e-6)


def test_integers_below_a_bound_are_uniform_and_the_bound_may_differ_by_element() -> None:
    drawn = below(torch.tensor(7), (20_000,), KEY)
    assert stats.chisquare(np.bincount(drawn, minlength=7)).pvalue > 1e-3
    bounds = torch.arange(1, 2001)
    each = below(bounds, (2000,), KEY)
    assert (each >= 0).all() and (each < bounds).all()
    assert each.double().div(bounds).mean() == pytest.approx(0.5, abs=0.03)


def test_the_draws_of_one_key_are_independent_between_purposes() -> None:
    rows = np.stack([normal((4000,), subkey(KEY, purpose), torch.float64).numpy() for purpose in range(15)])
    correlation = np.corrcoef(rows)[~np.eye(15, dtype=bool)]
    assert np.abs(correlation).max() * 4000**0.5 < 5
    assert not torch.equal(hash_bits((9,), subkey(KEY, 0)), hash_bits((9,), KEY))


def test_every_module_with_a_key_is_a_site_of_noise_and_saves_nothing() -> None:
    model = torch.nn.Sequential(Noisy(), Dropout(0.5), torch.nn.Linear(2, 2))
    assert [path for path, _ in noise_sites(model)] == ["0", "1"]
    assert set(model.state_dict()) == {"2.weight", "2.bias"}
    set_keys(model, seed=1, step=0)
    first, x = model[0].key.item(), torch.zeros(3)
    assert first != model[1].key.item()
    noise = model[0](x)
    set_keys(model, seed=1, step=1)
    assert not torch.equal(model[0](x), noise)
    set_keys(model, seed=1, step=0)
    assert torch.equal(model[0](x), noise)
