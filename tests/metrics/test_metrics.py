"""Metrics against scikit-learn's, for any cut into batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torch.func import vmap

from paceline.metrics import Confusion, Mean, merge, on_host, values
from paceline.metrics.functional import confusion, confusion_counts, mean, regression
from paceline.metrics.state import merge_state

pytestmark = pytest.mark.fast

C = 5


def cuts(n: int, seed: int) -> Iterator[slice]:
    """Cut 0..n at random places."""
    places = np.sort(np.random.default_rng(seed).choice(np.arange(1, n), 6, replace=False))
    return (slice(a, b) for a, b in zip([0, *places], [*places, n], strict=True))


def predictions(n: int = 97) -> tuple[Tensor, Tensor]:
    """Logits and labels; class 3 is never predicted, class 4 never true."""
    torch.manual_seed(1)
    logits = torch.randn(n, C)
    logits[:, 3] -= 100
    return logits, torch.randint(4, (n,))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_classification_metrics_are_scikit_learns_for_any_batches(seed: int) -> None:
    logits, y = predictions()
    states: dict = {}
    for part in cuts(len(y), seed):
        states = merge(states, {"": confusion(logits[part], y[part])})
    got = values(on_host(states))
    guess, options = logits.argmax(1), {"labels": range(C), "zero_division": 0}
    assert got["confusion"] == sk.confusion_matrix(y, guess, labels=range(C)).tolist()
    assert got["accuracy"] == sk.accuracy_score(y, guess)
    for name, function in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
        assert got[f"{name}_macro"] == pytest.approx(function(y, guess, average="macro", **options), abs=1e-15)
        assert got[f"{name}_class"] == pytest.approx(function(y, guess, average=None, **options).tolist(), abs=1e-15)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_regression_metrics_are_scikit_learns_for_any_batches_even_far_from_zero(seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(offset, 1, 300)
    guess = y + rng.normal(0, 0.3, 300)
    state = None
    for part in cuts(300, seed):
        new = regression(torch.from_numpy(guess[part]), torch.from_numpy(y[part]))
        state = new if state is None else merge_state(state, new)
    got = state.values("")
    assert got["mse"] == pytest.approx(sk.mean_squared_error(y, guess), rel=1e-12)
    assert got["rmse"] == pytest.approx(sk.root_mean_squared_error(y, guess), rel=1e-12)
    assert got["mae"] == pytest.approx(sk.mean_absolute_error(y, guess), rel=1e-12)
    assert got["r2"] == pytest.approx(sk.r2_score(y, guess), rel=1e-10)
    assert got["mape"] == pytest.approx(100 * sk.mean_absolute_percentage_error(y, guess), rel=1e-12)
    assert got["max_ae"] == sk.max_error(y, guess)


def test_several_outputs_are_averaged_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(0)
    y, guess = rng.normal(size=(50, 3)) * [1, 10, 100], rng.normal(size=(50, 3))
    got = regression(torch.from_numpy(guess), torch.from_numpy(y)).values("")
    assert got["r2"] == pytest.approx(sk.r2_score(y, guess), rel=1e-12)
    assert got["mse"] == pytest.approx(sk.mean_squared_error(y, guess), rel=1e-12)
    assert got["mape"] == pytest.approx(100 * sk.mean_absolute_percentage_error(y, guess), rel=1e-12)
    assert got["max_ae"] == np.abs(y - guess).max()


def test_the_guides_example_has_these_metrics() -> None:
    """C46, C47: worked by hand; errors of .01 each, squares 1e-4, spread .005."""
    y, guess = torch.tensor([0.95, 0.90, 0.85]).double(), torch.tensor([0.94, 0.91, 0.86]).double()
    got = regression(guess, y).values("")
    assert set(got) == {"rmse", "mae", "mape", "r2", "max_ae", "mse"}
    expected = {"rmse": 0.01, "mae": 0.01, "r2": 0.94, "max_ae": 0.01, "mse": 1e-4}
    assert {name: got[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert got["mape"] == pytest.approx((1 / 0.95 + 1 / 0.90 + 1 / 0.85) / 3, rel=1e-5)
    assert round(got["mape"], 2) == 1.11


def test_a_target_of_zero_has_a_defined_error_in_percent() -> None:
    """C49: scikit-learn's, finite and huge; where it is met exactly, 0."""
    y, guess = torch.tensor([0.0, 1.0]).double(), torch.tensor([0.1, 1.1]).double()
    expected = 100 * sk.mean_absolute_percentage_error(y, guess)
    assert regression(guess, y).values("")["mape"] == pytest.approx(expected, rel=1e-12) and math.isfinite(expected)
    assert regression(y, y).values("")["mape"] == 0


def test_predictions_of_another_shape_are_refused_and_nan_is_not_hidden() -> None:
    """C49."""
    with pytest.raises(AssertionError):
        regression(torch.zeros(3), torch.zeros(4))
    got = regression(torch.tensor([1.0, math.nan]), torch.tensor([1.0, 2.0])).values("")
    assert all(math.isnan(got[name]) for name in ("mse", "rmse", "mae", "mape", "max_ae", "r2"))


def test_r2_of_constant_targets_is_scikit_learns() -> None:
    """C49."""
    y = torch.full((4,), 2.0)
    for guess in (y, y + 1):
        assert regression(guess, y).values("")["r2"] == sk.r2_score(y, guess)
    assert math.isnan(regression(y[:1], y[:1]).values("")["r2"])


def test_masked_samples_have_no_part_in_any_metric() -> None:
    logits, y = predictions(20)
    keep = torch.rand(20) < 0.5
    bad = torch.where(keep[:, None], logits, float("nan")), torch.where(keep, y, -1)
    assert confusion(*bad, keep).values("") == confusion(logits[keep], y[keep]).values("")
    a, b = torch.randn(20).double(), torch.randn(20).double()
    got = regression(torch.where(keep, a, float("nan")), b, keep).values("")
    assert got == pytest.approx(regression(a[keep], b[keep]).values(""), rel=1e-13)
    assert mean(torch.where(keep, a, float("nan")), keep).values("m")["m"] == pytest.approx(float(a[keep].mean()))


def test_a_batch_without_samples_changes_nothing() -> None:
    a, b = torch.randn(5), torch.randn(5)
    state, nothing = regression(a, b), regression(a, b, torch.zeros(5, dtype=torch.bool))
    for merged in (merge_state(state, nothing), merge_state(nothing, state)):
        assert merged.values("") == pytest.approx(state.values(""))
    assert all(math.isnan(v) for v in nothing.values("").values())
    assert math.isnan(Confusion(torch.zeros(2, 2, dtype=torch.int64)).values("")["accuracy"])
    assert math.isnan(Mean(torch.tensor(0.0), torch.tensor(0.0)).values("m")["m"])


def test_all_states_have_a_member_axis_under_vmap() -> None:
    logits, y = torch.randn(3, 30, C), torch.randint(C, (3, 30))
    keep = torch.rand(3, 30) < 0.7
    for mask in (None, keep):
        together = vmap(lambda z, y, k: (confusion(z, y, k), mean(z[:, 0], k), regression(z[:, 0], z[:, 1], k)),
                        in_dims=(0, 0, None if mask is None else 0))(logits, y, mask)  # fmt: skip
        for k in range(3):
            own = None if mask is None else mask[k]
            alone = (confusion(logits[k], y[k], own), mean(logits[k, :, 0], own),
                     regression(logits[k, :, 0], logits[k, :, 1], own))  # fmt: skip
            for states, state in zip(together, alone, strict=True):
                for stacked, single in zip(states, state, strict=True):
                    torch.testing.assert_close(stacked[k], single)


def test_counts_are_exact_integers_even_for_one_full_cell() -> None:
    y = torch.full((70_000,), 1)  # float32 or bfloat16 counting would fail far below
    counts = confusion_counts(y, y, 2).counts
    total = merge_state(Confusion(counts * 10**9), Confusion(counts)).counts
    assert counts.dtype == torch.int64 and total[1, 1] == 70_000 * 10**9 + 70_000


def test_names_take_the_states_key_as_prefix() -> None:
    logits, y = predictions(10)
    names = values({"": confusion(logits, y), "aux": confusion(logits, y), "log_loss": mean(logits[:, 0])})
    assert {"accuracy", "aux_accuracy", "aux_f1_class", "log_loss"} <= set(names)


def test_a_state_of_ones_own_needs_only_tensors_that_add_up() -> None:
    class Largest(NamedTuple):
        hits: Tensor

        def values(self, name: str) -> dict[str, float]:
            return {name: float(self.hits)}

    a, b = {"own": Largest(torch.tensor(2.0))}, {"own": Largest(torch.tensor(3.0))}
    assert values(on_host(merge(merge({}, a), b))) == {"own": 5.0}
