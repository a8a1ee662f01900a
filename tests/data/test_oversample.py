"""How often the samples of a class come in an epoch: hand values."""

from __future__ import annotations

import numpy as np
import pytest

from paceline.data.oversample import oversampled, repeats

pytestmark = pytest.mark.fast

COUNTS = (511, 94, 56)


@pytest.mark.parametrize(
    ("counts", "factor", "classes", "times"),
    [
        (COUNTS, 1, (), (1, 1, 1)),
        (COUNTS, 2, (), (1, 2, 2)),
        (COUNTS, 3, (2,), (1, 1, 3)),
        (COUNTS, 2, (0,), (2, 1, 1)),
        (COUNTS, "balanced", (), (1, 5, 9)),  # 511 / 94 = 5.4, 511 / 56 = 9.1
        (COUNTS, "balanced", (1,), (1, 5, 1)),
        ((10, 10, 4), 2, (), (1, 1, 2)),
        ((10, 0, 4), "balanced", (), (1, 1, 2)),
        ((), 2, (), ()),
    ],
)
def test_rarer_classes_or_those_named_are_repeated(counts, factor, classes, times) -> None:
    assert repeats(counts, factor, classes) == times


def test_the_count_of_a_class_doubles_at_factor_2() -> None:
    """A102."""
    y = np.repeat([0, 1, 2], COUNTS)
    rows = np.arange(1000, 1000 + len(y))
    found = oversampled(rows, y, repeats(COUNTS, 2, (2,)))
    assert np.bincount(y[found - 1000]).tolist() == [511, 94, 112]
    assert np.array_equal(np.unique(found), rows)
    assert found.dtype == np.int64
