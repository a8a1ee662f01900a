"""Divisions of battery samples: disjoint, complete, seeded, and clear about what cannot be meant."""

from __future__ import annotations

import numpy as np
import pytest

from paceline.errors import DataError
from paceline.recipes.battery import tables

pytestmark = pytest.mark.fast

CELLS = np.repeat(list("ABCDEFGH"), 10)
CELSIUS = np.repeat([10, 10, 10, 25, 25, 40, 40, 40], 10).astype(float)
TIME = np.tile(np.arange(10.0), 8)


def covers(parts, n):
    joined = np.concatenate(parts)
    return len(joined) == n and np.array_equal(np.sort(joined), np.arange(n))


def test_temperatures_make_parts_whether_they_are_whole_numbers_or_floats():
    """C21: the parts are those of their temperatures, without overlap, and 25 equals 25.0."""
    train, val = tables.by_condition(CELSIUS, [10, 40], [25])
    assert set(CELLS[train]) == set("ABCFGH") and set(CELLS[val]) == set("DE")
    assert covers([train, val], 80)
    for other in ([10.0, "40"], [40, 10]):
        assert np.array_equal(tables.by_condition(CELSIUS.astype(int), other, [25.0])[0], train)


def test_a_temperature_in_neither_list_is_in_neither_part():
    train, val = tables.by_condition(CELSIUS, [10], [25])
    assert set(CELLS[np.concatenate([train, val])]) == set("ABCDE")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        pytest.param(([10, 25], [25.0]), "two parts name the same temperature.*got: 25", id="C21 overlap"),
        pytest.param(([10], [30]), "no sample has this temperature.*got: 30.*10, 25, 40", id="C21 none has it"),
        pytest.param(([10], []), "a part names no temperature.*10, 25, 40", id="C21 empty"),
    ],
)
def test_temperatures_that_cannot_be_meant_are_refused(parts, words):
    with pytest.raises(DataError, match=rf"(?s){words}") as caught:
        tables.by_condition(CELSIUS, *parts)
    assert len(str(caught.value).splitlines()) <= 4


def test_leaving_one_cell_out_holds_all_its_samples_and_no_other():
    """C23."""
    train, held = tables.leave_one_group_out(CELLS, "D")
    assert set(CELLS[held]) == {"D"} and covers([train, held], 80)
    each = tables.each_group_out(CELLS)
    assert [name for name, _, _ in each] == list("ABCDEFGH")
    assert np.array_equal(np.sort(np.concatenate([own for _, _, own in each])), np.arange(80))
    with pytest.raises(DataError, match=r"(?s)no sample has this group.*A"):
        tables.leave_one_group_out(CELLS, "Z")
    with pytest.raises(DataError, match="no other group"):
        tables.leave_one_group_out(["A", "A"], "A")


def test_a_division_in_time_never_trains_on_what_is_later_than_what_it_tests_on():
    """C23: the first 70 % of each cell, the next 15 %, the rest."""
    order = np.random.default_rng(0).permutation(80)
    train, val, test = tables.temporal(TIME[order], CELLS[order])
    assert covers([train, val, test], 80)
    for cell in "ABCDEFGH":
        times = [TIME[order][part][CELLS[order][part] == cell] for part in (train, val, test)]
        assert [len(each) for each in times] == [7, 1, 2]
        assert times[0].max() < times[1].min() <= times[1].max() < times[2].min()
    train, val, test = tables.temporal(np.arange(20.0))
    assert (len(train), len(val), len(test)) == (14, 3, 3) and train.max() < val.min() < test.min()


def test_equal_times_of_a_group_stay_together():
    train, val, test = tables.temporal([0, 1, 1, 1, 2, 3], train=0.5, val=0.25)
    parts = [set(np.array([0, 1, 1, 1, 2, 3])[part].tolist()) for part in (train, val, test)]
    assert not parts[0] & parts[1] and not parts[1] & parts[2] and not parts[0] & parts[2]


def test_a_random_division_is_that_of_its_seed():
    """C23."""
    one, same, other = (tables.random(80, seed=seed) for seed in (42, 42, 43))
    assert [len(part) for part in one] == [56, 12, 12] and covers(one, 80)
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_a_stratified_division_keeps_the_share_of_each_temperature():
    """C23."""
    parts = tables.stratified_by_condition(CELSIUS)
    assert covers(parts, 80)
    for celsius, n in ((10, 30), (25, 20), (40, 30)):
        found = [int((CELSIUS[part] == celsius).sum()) for part in parts]
        assert found == [round(0.7 * n), round(0.85 * n) - round(0.7 * n), n - round(0.85 * n)]
    again = tables.stratified_by_condition(CELSIUS)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_shares_that_are_more_than_everything_are_refused():
    for call in (lambda: tables.random(9, train=0.8, val=0.3), lambda: tables.temporal(TIME, train=0)):
        with pytest.raises(DataError, match="shares"):
            call()
