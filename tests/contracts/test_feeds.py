"""What every feed of training batches owes: each sample once an epoch, batches by position, order from the member."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from paceline.data import loader
from paceline.data.foreign import ForeignFeed
from paceline.data.loader import ArrayFeed
from paceline.data.rows import RowFeed, Rows
from paceline.types import Member
from tests.contracts.tiny import CPU, MEMBER

pytestmark = pytest.mark.fast

N, BATCH = 11, 3  # batches of 3, 3, 3, 2
LENGTHS = np.array([5, 1, 4, 2, 5, 3, 1, 4, 5, 2, 3])


def array_feed(member: Member = MEMBER, accumulation: int = 1) -> ArrayFeed:
    return ArrayFeed({"x": torch.arange(N), "y": torch.arange(N) % 2}, member, BATCH, accumulation)


def small_blocks(member: Member = MEMBER, accumulation: int = 1) -> ArrayFeed:
    """A feed whose data is larger than one block: a block holds two batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "BLOCK_BYTES", 2 * BATCH * 16)
        return array_feed(member, accumulation)


def by_length(member: Member = MEMBER, accumulation: int = 1) -> ArrayFeed:
    mask = torch.from_numpy(np.arange(5) < LENGTHS[:, None])
    columns = {"x": torch.arange(N), "y": torch.arange(N) % 2, "mask": mask}
    return ArrayFeed(columns, member, BATCH, accumulation, LENGTHS, by_length=True)


def cut_short(member: Member = MEMBER, accumulation: int = 1) -> ArrayFeed:
    mask = torch.from_numpy(np.arange(5) < LENGTHS[:, None])
    columns = {"x": torch.arange(N), "y": torch.arange(N) % 2, "mask": mask}
    return ArrayFeed(columns, member, BATCH, accumulation, LENGTHS)


def loader_feed(member: Member = MEMBER, accumulation: int = 1, **options: Any) -> ForeignFeed:
    data = TensorDataset(torch.arange(N), torch.arange(N) % 2)
    return ForeignFeed(DataLoader(data, batch_size=BATCH, shuffle=True, **options), member, CPU, accumulation)


def generator_feed(member: Member = MEMBER, accumulation: int = 1) -> ForeignFeed:
    return loader_feed(member, accumulation, generator=torch.Generator().manual_seed(5))


class Gathered:
    """The rows of a cohort's feed, gathered for its second member as the engine does."""

    lengths: np.ndarray | None = None

    def __init__(self, member: Member = MEMBER, accumulation: int = 1) -> None:
        members = [Rows(member=m, rows=np.arange(N)) for m in (Member(seed=7), member)]
        self._feed = RowFeed(members, BATCH, accumulation, CPU, lengths=self.lengths, by_length=True)
        self._columns = {"x": torch.arange(N), "y": torch.arange(N) % 2}

    @property
    def steps_per_epoch(self) -> tuple[int, ...]:
        return self._feed.steps_per_epoch[1:]

    def group(self, step: int) -> list[dict[str, torch.Tensor]]:
        rows = [batch["rows"][1:] for batch in self._feed.group(step)]
        return [{name: column[own] for name, column in self._columns.items()} for own in rows]


class GatheredByLength(Gathered):
    lengths = LENGTHS


FEEDS = {
    "arrays": array_feed,
    "arrays by length": by_length,
    "arrays cut": cut_short,
    "small blocks": small_blocks,
    "rows": Gathered,
    "rows by length": GatheredByLength,
    "loader": loader_feed,
    "loader with generator": generator_feed,
}


@pytest.fixture(params=FEEDS.values(), ids=FEEDS)
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.param


def samples(feed: Any, step: int) -> list[list[int]]:
    return [batch["x"][0].tolist() for batch in feed.group(step)]


def epoch(feed: Any, number: int) -> list[int]:
    (steps,) = feed.steps_per_epoch
    return [i for step in range(number * steps, (number + 1) * steps) for batch in samples(feed, step) for i in batch]


@pytest.mark.parametrize(
    ("accumulation", "sizes"),
    [(1, [[3], [3], [3], [2]]), (2, [[3, 3], [3, 2]]), (3, [[3, 3, 3], [2]]), (9, [[3, 3, 3, 2]])],
)
def test_groups_hold_whole_batches_and_the_last_may_be_smaller(make, accumulation, sizes):
    """A42: nothing is dropped."""
    feed = make(accumulation=accumulation)
    assert feed.steps_per_epoch == (len(sizes),)
    for step in range(2 * len(sizes)):
        assert [len(batch) for batch in samples(feed, step)] == sizes[step % len(sizes)]


def test_every_sample_comes_once_an_epoch_in_an_order_of_its_own(make):
    feed = make()
    orders = [epoch(feed, number) for number in range(3)]
    assert all(sorted(order) == list(range(N)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_columns_stay_together_and_have_a_member_axis(make):
    for batch in make().group(1):
        assert batch["x"].shape == batch["y"].shape == (1, 3)
        assert (batch["y"] == batch["x"] % 2).all()


def test_a_group_can_be_asked_for_by_its_position_as_a_resume_does(make):
    feed = make(accumulation=2)
    in_order = [samples(feed, step) for step in range(6)]
    for step in (5, 0, 3, 2, 3):
        assert samples(make(accumulation=2), step) == in_order[step]
        assert samples(feed, step) == in_order[step]


def test_random_numbers_drawn_in_between_change_no_order(make):
    """A41."""
    quiet, disturbed = make(), make()
    for step in range(8):
        torch.manual_seed(step)
        torch.rand(3)
        assert samples(quiet, step) == samples(disturbed, step)


def test_the_order_is_the_members_own(make):
    members = [MEMBER, Member(seed=43), Member(seed=42, fold=0), Member(seed=42, fold=1)]
    assert len({tuple(epoch(make(member), 0)) for member in members}) == 4
    assert epoch(make(Member(variant="lstm", seed=42)), 0) == epoch(make(), 0)


def test_feeds_of_data_in_memory_agree_on_the_order():
    """So that a member has the same batches whichever engine trains it."""
    for number in range(3):
        alike = [epoch(feed(), number) for feed in (Gathered, array_feed, small_blocks, cut_short)]
        assert alike == alike[:1] * 4
        assert epoch(GatheredByLength(), number) == epoch(by_length(), number) != epoch(array_feed(), number)
