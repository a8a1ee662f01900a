"""Batches by length: their order, where they are cut, and that nothing but padding is lost.

Shapes: K members, N samples, T steps, F features, B samples in a batch.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from paceline.data import buckets
from paceline.data.buckets import bucketed, longest, trailing_lengths
from paceline.data.loader import ArrayFeed, ArrayPass, sample_order
from paceline.data.rows import RowFeed, RowPass, Rows
from paceline.evaluate import passes
from paceline.tasks import Classification
from paceline.train.config import TrainingConfig
from paceline.train.engine_cohort import CohortEngine
from paceline.train.learner import seeded_model
from paceline.types import DataSpec, Member
from tests.contracts.tiny import CPU, MEMBER
from tests.train.double_recipe import DoubleConvGru

pytestmark = pytest.mark.fast

N, T, BATCH = 45, 12, 6
LENGTHS = np.random.default_rng(3).integers(2, T + 1, N)
SPEC = DataSpec(shapes={"x": (T, 4), "mask": (T,)}, classes=tuple("abc"), class_counts=(15,) * 3)
TASK = Classification(n_classes=3, inputs=("x", "mask"))


def columns() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.from_numpy(np.arange(T) < LENGTHS[:, None])
    x = torch.randn(N, T, 4, generator=generator, dtype=torch.float64)
    return {"x": torch.where(mask[:, :, None], x, 0), "y": torch.arange(N) % 3, "mask": mask}


def test_lengths_are_those_of_trailing_padding_only():
    mask = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=bool)
    assert trailing_lengths(mask).tolist() == [2, 3, 0]
    assert trailing_lengths(np.array([[1, 1, 0], [0, 1, 1]], dtype=bool)) is None
    assert trailing_lengths(np.array([[1, 0, 1]], dtype=bool)) is None


def test_a_bucketed_order_by_hand():
    """Two chunks of two batches of two, and a last batch of one: sorted within chunks, batches shuffled."""
    order, lengths = np.array([3, 0, 5, 1, 8, 2, 6, 4, 7]), np.array([9, 2, 5, 7, 1, 3, 5, 4, 6])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "CHUNK_BATCHES", 2)
        found = bucketed(order, 0, 2, lengths)
    batches = sorted(found[:8].reshape(4, 2).tolist())
    assert batches == sorted([[1, 5], [3, 0], [4, 2], [6, 8]])  # 2 3 | 7 9, then 1 5 | 5 6 with 2 before 6 as given
    assert found[8] == 7


def test_whole_batches_hold_neighbours_in_length_and_the_rest_is_as_drawn():
    order = sample_order(MEMBER, 2, N)
    found = bucketed(order, 2, BATCH, LENGTHS)
    assert sorted(found.tolist()) == list(range(N))
    assert found[42:].tolist() == order[42:].tolist()
    batches = sorted(np.sort(LENGTHS[found[:42]].reshape(7, BATCH)).tolist())
    assert [length for batch in batches for length in batch] == sorted(LENGTHS[order[:42]].tolist())


def test_all_members_have_short_batches_at_the_same_step_and_samples_of_their_own():
    def means(member: Member, epoch: int) -> np.ndarray:
        found = bucketed(sample_order(member, epoch, N), epoch, BATCH, LENGTHS)
        return LENGTHS[found[:42]].reshape(7, BATCH).mean(1)

    ranks = [means(Member(seed=seed, fold=fold), 1).argsort().tolist() for seed, fold in ((1, None), (2, None), (1, 0))]
    assert ranks[0] == ranks[1] == ranks[2]
    assert means(MEMBER, 2).argsort().tolist() != means(MEMBER, 1).argsort().tolist()
    orders = [bucketed(sample_order(Member(seed=seed), 1, N), 1, BATCH, LENGTHS).tolist() for seed in (1, 2)]
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("lengths", "size", "ends"), [([1, 4, 2, 0, 3], 2, [4, 2, 3]), ([0, 0], 2, [1]), ([5], 9, [5])]
)
def test_a_batch_ends_with_its_longest_sample_and_has_at_least_a_step(lengths, size, ends):
    assert longest(np.array(lengths), size) == ends


def test_training_batches_are_views_that_lose_nothing_but_padding():
    feed, whole = (ArrayFeed(columns(), MEMBER, BATCH, 1, each) for each in (LENGTHS, None))
    (steps,) = feed.steps_per_epoch
    assert feed.steps_per_epoch == whole.steps_per_epoch
    batches = [feed.group(step)[0] for step in range(steps)]
    ends = [batch["x"].shape[2] for batch in batches]
    assert len(set(ends)) > 3
    assert len({batch["x"].untyped_storage().data_ptr() for batch in batches}) == 1
    for batch, end in zip(batches, ends, strict=True):
        assert batch["mask"].shape == (1, batch["x"].shape[1], end)
        assert batch["mask"].any(1)[0, -1], "the last step is nobody's"
    assert sum(int(batch["mask"].sum()) for batch in batches) == LENGTHS.sum()
    total = sum(batch["x"].sum() for batch in batches)
    torch.testing.assert_close(total, columns()["x"].sum())


def test_other_columns_of_as_many_steps_are_cut_too_and_those_per_sample_are_not():
    given = {**columns(), "targets": torch.zeros(N, T), "weight": torch.zeros(N), "static": torch.zeros(N, 3)}
    batch = ArrayFeed(given, MEMBER, BATCH, 1, np.full(N, 5)).group(0)[0]
    shapes = {name: tuple(column.shape[2:]) for name, column in batch.items()}
    assert shapes == {"x": (5, 4), "y": (), "mask": (5,), "targets": (5,), "weight": (), "static": (3,)}


@pytest.mark.parametrize("size", [1, 7, 44, 45, 1000])
def test_a_pass_by_length_gives_the_same_metrics_and_predictions_in_the_order_of_the_data(size):
    model = seeded_model(lambda: DoubleConvGru().build(SPEC), MEMBER)
    found, expected = ArrayPass(columns(), size, LENGTHS), ArrayPass(columns(), size)
    seen = [batch["x"].shape[1] for batch in found]
    assert seen == sorted(seen)
    assert max(seen) == LENGTHS.max()
    ours, theirs = (passes.predict(model, TASK, each, nullcontext()) for each in (found, expected))
    np.testing.assert_allclose(ours["probability"], theirs["probability"], atol=1e-12)
    assert ours["prediction"].tolist() == theirs["prediction"].tolist()
    ours, theirs = (passes.evaluate(model, TASK, each, nullcontext()) for each in (found, expected))
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-12)
    assert ours["confusion"] == theirs["confusion"]


def test_the_steps_of_a_cohorts_batch_are_the_longest_of_all_its_members():
    parts = [np.arange(0, 40), np.arange(5, 45), np.arange(10, 31)]
    members = [Rows(member=Member(seed=k), rows=rows) for k, rows in enumerate(parts)]
    feed = RowFeed(members, BATCH, 2, CPU, lengths=LENGTHS)
    for step in range(9):
        for batch in feed.group(step):
            rows, mask = batch["rows"].numpy(), batch["sample_mask"].numpy()
            assert int(batch["steps"]) == max(1, int(np.where(mask, LENGTHS[rows], 0).max()))


@pytest.mark.parametrize("parts", [[range(20)] * 2, [range(20), range(20, 40)], [range(20), range(10, 45)]], ids=str)
def test_a_cohorts_pass_by_length_gives_each_member_its_predictions_in_order(parts):
    members, config = [Member(seed=1), Member(seed=2)], TrainingConfig()
    models = [seeded_model(lambda: DoubleConvGru().build(SPEC), member) for member in members]
    rows = [np.array(part)[::-1].copy() for part in parts]
    engines = [
        CohortEngine(models, [TASK] * 2, [config] * 2, members, columns(),
                     {"val": RowPass(rows, 6, CPU, None, lengths)}, CPU, compiled=False)
        for lengths in (LENGTHS, None)
    ]  # fmt: skip
    for found, expected in zip(*(engine.evaluate("val", [0, 1]) for engine in engines), strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-12)
    for member in (0, 1):
        ours, theirs = (engine.predict("val", member) for engine in engines)
        assert len(ours["prediction"]) == len(rows[member])
        np.testing.assert_allclose(ours["probability"], theirs["probability"], atol=1e-12)
