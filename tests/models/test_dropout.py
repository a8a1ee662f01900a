"""What the mask must be: the documented hash, unbiased, independent, and the same whatever the padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from paceline.errors import ModelError
from paceline.models import keyed as module
from paceline.models.dropout import Dropout, dropout, keep_mask
from paceline.models.keyed import AXES, hash_bits, index_hash, noise_sites, set_keys, signed32, site_stream
from paceline.noise import key, mix32, stream

pytestmark = pytest.mark.fast

SHAPE = (64, 29, 32)


def int32(value: int) -> torch.Tensor:
    return torch.tensor(signed32(value), dtype=torch.int32)


def masks(keys: list[int], shape: tuple[int, ...] = SHAPE, p: float = 0.5) -> np.ndarray:
    return np.stack([keep_mask(shape, int32(k), p).numpy().ravel() for k in keys])


def largest_correlation(rows: np.ndarray) -> float:
    """The largest correlation between any two rows, in standard errors."""
    correlation = np.corrcoef(rows)
    return float(np.abs(correlation[~np.eye(len(rows), dtype=bool)]).max() * rows.shape[1] ** 0.5)


def largest_shifted_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """The largest correlation of a with b rolled by any amount, in standard errors."""
    a, b = (x - x.mean() for x in (a.astype(float), b.astype(float)))
    product = np.fft.irfft(np.fft.rfft(a) * np.conj(np.fft.rfft(b)), len(a))
    return float(np.abs(product).max() / (a.std() * b.std() * len(a) ** 0.5))


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_a_mask_is_the_documented_hash_of_position_and_key(p: float) -> None:
    member_key = key(stream(42, 0, "dropout:head"), 7)
    kept = keep_mask((3, 5, 4), int32(member_key), p)
    for b, t, f in np.ndindex(3, 5, 4):
        position = mix32((f * AXES[0] + t * AXES[1] + b * AXES[2]) % 2**32)
        bits = mix32(position ^ member_key)
        bits ^= bits >> 16  # the last shift is left out
        assert kept[b, t, f] == ((bits + 2**31) % 2**32 >= round(p * 2**32))


@pytest.mark.parametrize("p", [0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_elements_are_kept_with_probability_1_minus_p(p: float) -> None:
    kept = masks([key(stream(1, None, "rate"), step) for step in range(4)], p=p)
    error = (kept.sum() - kept.size * (1 - p)) / (kept.size * p * (1 - p)) ** 0.5
    assert abs(error) < 4


def test_hashes_are_uniform() -> None:
    bits = hash_bits((128, 64, 16), int32(12345)).numpy().view(np.uint32)
    for shift in (0, 8, 16, 24):
        counts = np.bincount((bits.ravel() >> shift) & 0xFF, minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-4


def test_an_element_is_kept_independently_over_steps() -> None:
    kept = masks([key(stream(3, 1, "dropout:a"), step) for step in range(256)], (16, 8, 8), p=0.3)
    counts = np.bincount(kept.sum(0), minlength=257)
    expected = stats.binom.pmf(np.arange(257), 256, 0.7) * kept.shape[1]
    usual = expected > 5
    observed = np.append(counts[usual], counts[~usual].sum())
    assert stats.chisquare(observed, np.append(expected[usual], expected[~usual].sum())).pvalue > 1e-4


def test_neighbouring_elements_are_uncorrelated_along_every_axis() -> None:
    kept = masks([7])[0].reshape(SHAPE).astype(float) - 0.5
    for axis in range(3):
        for lag in range(1, 9):
            a = np.delete(kept, np.s_[:lag], axis)
            b = np.delete(kept, np.s_[SHAPE[axis] - lag :], axis)
            assert abs((a * b).mean() / 0.25) * a.size**0.5 < 4.5


def test_steps_members_folds_and_sites_have_uncorrelated_masks() -> None:
    streams = [stream(s, f, p) for s in (1, 2, 42) for f in (None, 0, 1) for p in ("dropout:a", "dropout:b")]
    assert largest_correlation(masks([key(s, step) for s in streams for step in (0, 1, 2)])) < 5


def test_masks_of_two_keys_are_no_shifted_copies() -> None:
    keys = [key(stream(5, None, "dropout:x"), step) for step in range(4)]
    rows = masks(keys, (2**14,))
    assert max(largest_shifted_correlation(rows[0], row) for row in rows[1:]) < 6
    # The test sees what it is for: a hash that only adds the key to a counter shifts the mask by the key.
    counter = [[mix32((i + k) & 0xFFFFFFFF) >= 2**31 for i in range(2**12)] for k in (0, 100)]
    assert largest_shifted_correlation(*np.array(counter)) > 50


@pytest.mark.parametrize("shape", [(64, 160, 64), (8, 64, 1000), (100_000, 3), (3, 20_000), (9, 8, 7, 6, 5, 4)])
def test_no_two_positions_share_an_index(shape: tuple[int, ...]) -> None:
    index = index_hash(shape, torch.device("cpu"))  # mixing is one to one, so equal hashes are equal indices
    assert index.unique().numel() == index.numel()


def test_trailing_padding_of_any_axis_changes_no_mask() -> None:
    small, large = keep_mask((5, 7, 3), int32(99), 0.4), keep_mask((8, 14, 6), int32(99), 0.4)
    assert torch.equal(small, large[:5, :7, :3])


def test_the_gradient_passes_where_the_value_does() -> None:
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    y = dropout(x, int32(3), 0.3)
    y.sum().backward()
    kept = keep_mask((6, 5), int32(3), 0.3).double()
    torch.testing.assert_close(x.grad, kept / 0.7, rtol=1e-15, atol=0)
    torch.testing.assert_close(y, x * kept / 0.7, rtol=1e-15, atol=0)
    assert torch.autograd.gradcheck(lambda x: dropout(x, int32(3), 0.3), x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_precision_keeps_the_same_elements_and_scales_them_rightly(dtype: torch.dtype) -> None:
    x = torch.randn(50, 40).to(dtype)
    y = dropout(x, int32(8), 0.3)
    kept = keep_mask(x.shape, int32(8), 0.3)
    assert y.dtype == dtype
    assert torch.equal(y != 0, kept)
    torch.testing.assert_close(y.double(), x.double() * kept / 0.7, rtol=torch.finfo(dtype).eps, atol=0)


def test_evaluation_mode_and_rate_zero_return_the_input_itself() -> None:
    x = torch.randn(3, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_a_tensor_rate_gives_the_mask_of_a_number_even_at_zero() -> None:
    x = torch.randn(40, 50)
    for p in (0.0, 0.3, 0.999999):
        assert torch.equal(dropout(x, int32(5), torch.tensor(p, dtype=torch.float64)), dropout(x, int32(5), p))


@pytest.mark.parametrize("p", [1.0, -0.1, float("nan"), float("inf")])
def test_a_rate_outside_0_to_1_is_refused(p: float) -> None:
    with pytest.raises(ModelError, match="dropout rate"):
        Dropout(p)


def test_too_many_axes_are_refused() -> None:
    with pytest.raises(ModelError, match="at most 6 axes"):
        Dropout(0.5)(torch.ones(1, 1, 1, 1, 1, 1, 1))


def test_the_key_is_not_saved_and_a_rate_can_become_a_tensor_and_back() -> None:
    site = Dropout(0.5)
    assert site.state_dict() == {}
    site.set_rate(torch.tensor(0.25))
    assert set(dict(site.named_buffers())) == {"key", "p"} and site.state_dict() == {}
    site.set_rate(0.5)
    assert set(dict(site.named_buffers())) == {"key"} and site.p == 0.5


def test_a_key_comes_from_seed_fold_path_step_and_micro_batch() -> None:
    model = torch.nn.Sequential(Dropout(0.5), torch.nn.Sequential(Dropout(0.5)), torch.nn.Dropout(0.5))
    assert [path for path, _ in noise_sites(model)] == ["0", "1.0"]
    set_keys(model, seed=1, fold=2, step=3)
    first, second = (site.key.item() for _, site in noise_sites(model))
    assert first == signed32(key(key(site_stream("0", seed=1, fold=2), 3), 0)) and first != second
    set_keys(model, seed=1, fold=2, step=4)
    assert model[0].key.item() != first
    set_keys(model, seed=1, fold=2, step=3, micro_batch=1)
    assert model[0].key.item() != first


def test_signed32_keeps_the_bits() -> None:
    assert [signed32(v) for v in (0, 2**31 - 1, 2**31, 2**32 - 1)] == [0, 2**31 - 1, -(2**31), -1]


def test_the_cache_of_index_hashes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_ELEMENTS", 100)
    monkeypatch.setattr(module, "_cache", {})
    for size in (30, 40, 20, 50, 99, 101):
        expected = index_hash((size,), torch.device("cpu"))
        assert torch.equal(index_hash((size,), torch.device("cpu")), expected)
        assert sum(kept.numel() for kept in module._cache.values()) <= 100
