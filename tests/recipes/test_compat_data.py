"""`set_seed` and `create_dataloaders`: seeds, the split and its indices, what the loaders give."""

from __future__ import annotations

import inspect
import logging
import os
import random

import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from paceline.errors import ConfigError, DataError
from paceline.recipes.pain.compat import create_dataloaders, set_seed

pytestmark = pytest.mark.fast

N, STEPS, CHANNELS = 131, 5, 3
Y = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [101, 19, 11]))
X = np.arange(N * STEPS * CHANNELS, dtype=np.float64).reshape(N, STEPS, CHANNELS) / 1000


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


@pytest.mark.usefixtures("seeds_put_back")
def test_a_seed_repeats_the_draws_of_python_numpy_and_torch(monkeypatch):
    """A33."""
    assert inspect.signature(set_seed).parameters["s"].default == 42
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    set_seed()
    first = draws()
    assert draws() != first
    set_seed(42)
    assert draws() == first
    set_seed(43)
    assert all(a != b for a, b in zip(draws(), first, strict=True))
    assert list(dict.fromkeys(seeded)) == [42, 43]  # every CUDA device


@pytest.mark.usefixtures("seeds_put_back")
def test_a_seed_asks_for_repeatable_kernels():
    """A34."""
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
    set_seed(7)
    assert os.environ["PYTHONHASHSEED"] == "7"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.backends.cudnn.deterministic is True
    assert torch.backends.cudnn.benchmark is False
    assert "processes that this one starts" in inspect.getdoc(set_seed)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
    set_seed(7)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_the_loaders_have_the_guide_s_signature():
    """A36."""
    parameters = inspect.signature(create_dataloaders).parameters
    assert list(parameters)[:2] == ["X", "y"]
    assert {name: p.default for name, p in list(parameters.items())[2:]} == {
        "valid_size": 0.1, "batch_size": 64, "seed": 42, "num_workers": 4, "pin_memory": True
    }  # fmt: skip


def test_loaders_arrays_and_indices_come_back_in_the_guide_s_order():
    """A37."""
    train, valid, arrays, indices = create_dataloaders(X, Y)
    assert isinstance(train, DataLoader) and isinstance(valid, DataLoader)
    assert [type(array) for array in (*arrays, *indices)] == [np.ndarray] * 6
    assert [len(array) for array in arrays] == [117, 117, 14, 14]
    assert len(indices) == 2


def test_the_split_is_stratified_and_that_of_scikit_learn_for_the_same_seed():
    """A38: class shares within one sample; the same samples as `train_test_split`."""
    for seed in (42, 7):
        _, _, (_, y_tr, _, y_val), (tr_idx, val_idx) = create_dataloaders(X, Y, valid_size=0.2, seed=seed)
        for part in (y_tr, y_val):
            assert np.abs(np.bincount(part) - np.bincount(Y) * len(part) / N).max() <= 1
        old_train, old_val = train_test_split(np.arange(N), test_size=0.2, random_state=seed, stratify=Y)
        assert tr_idx.tolist() == sorted(old_train.tolist())
        assert val_idx.tolist() == sorted(old_val.tolist())
    again = create_dataloaders(X, Y, valid_size=0.2, seed=7)[3]
    assert again[0].tolist() == tr_idx.tolist() and again[1].tolist() == val_idx.tolist()


def test_the_indices_are_those_of_the_arrays_and_divide_everything():
    """A39."""
    _, _, arrays, (tr_idx, val_idx) = create_dataloaders(X, Y)
    for array, expected in zip(arrays, (X[tr_idx], Y[tr_idx], X[val_idx], Y[val_idx]), strict=True):
        assert np.array_equal(array, expected)
    assert sorted([*tr_idx, *val_idx]) == list(range(N))


def test_batches_are_float32_inputs_and_int64_labels():
    """A40: whatever the arrays are."""
    for inputs, labels in ((X, Y), (X.astype(np.float32), Y.astype(np.int32)), (X.tolist(), Y.tolist())):
        x, y = next(iter(create_dataloaders(inputs, labels)[0]))
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_two_runs_shuffle_alike_whatever_was_drawn_before():
    """A41."""
    orders = []
    for _ in range(2):
        torch.rand(len(orders) + 1)
        loader = create_dataloaders(X, Y, batch_size=16)[0]
        orders.append([[x[0, 0].item() for x in batch[0]] for epoch in range(2) for batch in loader])
    assert orders[0] == orders[1]
    epochs = len(orders[0]) // 2
    assert orders[0][:epochs] != orders[0][epochs:]  # each epoch has an order of its own
    assert isinstance(loader.sampler, RandomSampler)


def test_validation_keeps_its_order_and_no_batch_is_dropped():
    """A42."""
    train, valid, (_, y_tr, x_val, _), _ = create_dataloaders(X, Y, batch_size=32)
    assert isinstance(valid.sampler, SequentialSampler)
    assert np.array_equal(torch.cat([x for x, _ in valid]).numpy(), x_val.astype(np.float32))
    assert [len(x) for x, _ in train] == [32, 32, 32, 21]
    assert sum(len(x) for x, _ in train) == len(y_tr)


@pytest.mark.parametrize("num_workers", [0, 4])
def test_no_worker_outlives_an_epoch_where_there_are_none(num_workers):
    """A43."""
    train, valid, _, _ = create_dataloaders(X, Y, num_workers=num_workers)
    assert (train.num_workers, train.persistent_workers) == (0, False)
    assert (valid.num_workers, valid.persistent_workers) == (0, False)
    assert len(next(iter(train))) == 2


def test_data_in_memory_is_fed_without_workers_and_a_line_says_so(caplog):
    """A44."""
    with caplog.at_level(logging.INFO, "paceline"):
        assert create_dataloaders(X, Y, num_workers=0)[0].num_workers == 0
        assert caplog.messages == []
        assert create_dataloaders(X, Y)[0].num_workers == 0
    assert caplog.messages == ["the data is in memory: num_workers 4 -> 0"]


def test_pinned_memory_needs_cuda_and_gives_no_warning_without():
    """A26: warnings are errors here."""
    train, valid, _, _ = create_dataloaders(X, Y, pin_memory=True)
    assert train.pin_memory is valid.pin_memory is torch.cuda.is_available()
    next(iter(train))


def test_a_class_of_one_sample_is_named():
    """A45."""
    with pytest.raises(DataError, match="class '3' has 1") as caught:
        create_dataloaders(X, np.append(Y[:-1], 3))
    assert len(str(caught.value).splitlines()) <= 4


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((X, Y[:-1]), DataError, "131"),
        ((X, Y / 2), DataError, "y must be class indices"),
        ((X, Y - 1), DataError, "y must be class indices"),
        ((np.where(X == 1, np.nan, X), Y), DataError, "sample"),
        ((X, Y, 1.0), ConfigError, "val_fraction"),
        ((X, Y, 0.005), DataError, "cannot hold 3 classes"),
    ],
    ids=["lengths", "floats", "negative", "NaN", "all of it", "too little of it"],
)
def test_data_that_cannot_be_split_is_refused(arguments, kind, message):
    with pytest.raises(kind, match=message):
        create_dataloaders(*arguments)
