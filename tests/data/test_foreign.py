"""A user's own `DataLoader`: what it may yield, and how far its randomness is repeatable."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from paceline.data.foreign import ForeignFeed, ForeignPass, as_batch
from paceline.errors import DataError
from tests.contracts.tiny import CPU, MEMBER

pytestmark = pytest.mark.fast

X, Y, MASK = torch.ones(2, 3), torch.tensor([0, 1]), torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("item", "names"),
    [
        (X, ["x"]),
        ((X,), ["x"]),
        ((X, Y), ["x", "y"]),
        ([X, Y, MASK], ["x", "y", "mask"]),
        ({"x": X, "age": Y}, ["x", "age"]),
    ],
    ids=["tensor", "one", "pair", "three", "dict"],
)
def test_what_a_loader_yields_becomes_named_columns(item, names):
    assert list(as_batch(item, CPU)) == names


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (5, "not a batch"),
        ((X, Y, MASK, X), "not a batch"),
        ((), "not a batch"),
        ((X, ["a", "b"]), "other than tensors"),
        ({"x": X, "id": "a"}, "other than tensors"),
    ],
    ids=["number", "four", "none", "strings", "string in a dict"],
)
def test_anything_else_is_refused(item, message):
    with pytest.raises(DataError, match=message):
        as_batch(item, CPU)


class Noisy(Dataset):
    """Augments with torch's default generator, as many datasets do."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, i: int) -> torch.Tensor:
        return i + torch.rand(())


def test_augmentation_from_the_default_generator_is_the_same_after_a_resume_in_mid_epoch():
    """The model draws from that generator too, between the batches; a resumed run hasn't drawn the same."""

    def feed() -> ForeignFeed:
        return ForeignFeed(DataLoader(Noisy(), batch_size=2, shuffle=True), MEMBER, CPU)

    whole, found = feed(), []
    for step in range(8):
        found.append(whole.group(step)[0]["x"])
        torch.rand(step + 1)  # the model
    resumed = feed()
    torch.manual_seed(0)
    for step in range(6, 8):
        assert torch.equal(resumed.group(step)[0]["x"], found[step])
    assert len({float(x % 1) for batch in found for x in batch[0]}) == 14  # all draws differ


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


class Liar(Stream):
    def __len__(self) -> int:
        return 5


def test_a_loader_of_unknown_length_is_refused():
    for kind in (lambda loader: ForeignFeed(loader, MEMBER, CPU), lambda loader: ForeignPass(loader, CPU)):
        with pytest.raises(DataError, match="unknown length"):
            kind(DataLoader(Stream()))


def test_an_empty_loader_is_refused():
    with pytest.raises(DataError, match="is empty"):
        ForeignFeed(DataLoader(TensorDataset(X), batch_size=4, drop_last=True), MEMBER, CPU)


@pytest.mark.filterwarnings("ignore:Length of IterableDataset:UserWarning")
def test_a_loader_that_ends_before_its_length_is_an_error_and_not_a_short_epoch():
    feed = ForeignFeed(DataLoader(Liar(), batch_size=1), MEMBER, CPU)
    assert feed.steps_per_epoch == (5,)
    for step in range(3):
        feed.group(step)
    with pytest.raises(DataError, match="fewer batches than its length"):
        feed.group(3)


def test_an_evaluation_pass_can_be_repeated():
    batches = ForeignPass(DataLoader(TensorDataset(X, Y), batch_size=1), CPU)
    assert [batch["y"].tolist() for batch in batches] == [batch["y"].tolist() for batch in batches] == [[0], [1]]
