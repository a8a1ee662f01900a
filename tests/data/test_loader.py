"""The in-memory loader's own matters. What every feed owes: `contracts/test_feeds.py`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paceline.data import loader
from paceline.data.loader import ArrayFeed, ArrayPass, take
from tests.contracts.tiny import CPU, MEMBER

pytestmark = pytest.mark.fast


def test_a_pass_keeps_the_order_and_drops_nothing():
    """A42."""
    columns = {"x": torch.arange(11), "y": torch.arange(11) * 2}
    batches = list(ArrayPass(columns, 4))
    assert [len(batch["x"]) for batch in batches] == [4, 4, 3]
    assert torch.cat([batch["x"] for batch in batches]).tolist() == list(range(11))
    assert torch.cat([batch["y"] for batch in batches]).tolist() == list(range(0, 22, 2))


def test_the_batches_of_a_pass_are_views():
    columns = {"x": torch.arange(11)}
    for batch in ArrayPass(columns, 4):
        assert batch["x"].untyped_storage().data_ptr() == columns["x"].untyped_storage().data_ptr()


def test_one_gather_serves_all_batches_of_a_block(monkeypatch):
    monkeypatch.setattr(loader, "BLOCK_BYTES", 2 * 4 * 8)  # two batches of four int64
    feed = ArrayFeed({"x": torch.arange(19)}, MEMBER, 4)
    storages = [feed.group(step)[0]["x"].untyped_storage() for step in range(5)]
    addresses = [storage.data_ptr() for storage in storages]  # all held, so that none is used twice
    assert addresses[0] == addresses[1] != addresses[2] == addresses[3] != addresses[4]


def test_a_block_holds_at_least_one_batch(monkeypatch):
    monkeypatch.setattr(loader, "BLOCK_BYTES", 1)
    feed = ArrayFeed({"x": torch.arange(10)}, MEMBER, 4)
    found = torch.cat([feed.group(step)[0]["x"][0] for step in range(3)])
    assert sorted(found.tolist()) == list(range(10))


def test_rows_are_taken_with_their_types_and_without_touching_the_source():
    """A40."""
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    x.flags.writeable = False
    found = take({"x": x, "y": np.array([3, 2, 1, 0]), "mask": np.ones((4, 2), dtype=bool)}, [2, 0], CPU)
    assert found["x"].tolist() == [[6, 7, 8], [0, 1, 2]]
    assert (found["x"].dtype, found["y"].dtype, found["mask"].dtype) == (torch.float32, torch.int64, torch.bool)
    found["x"].zero_()
    assert x[2, 0] == 6
