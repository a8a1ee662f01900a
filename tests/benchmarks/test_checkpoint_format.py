"""What the benchmark of checkpoints says about measurements, and that it saves what it says it saves."""

from __future__ import annotations

import json

import pytest

from paceline.checkpoint.store import Store
from tests.benchmarks.test_cohort_format import FOLDER, load

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def checkpoint():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield load("checkpoint")


def saves(checkpoint, megabytes, asynchronous, *blocked):
    return checkpoint.Saves(
        megabytes=megabytes, asynchronous=asynchronous, blocked=blocked, cpu=blocked, in_all=(900.0,) * len(blocked)
    )


def rows(checkpoint, worst=40.0):
    return [
        saves(checkpoint, 1.0, True, 1.0, 1.0, 3.0),
        saves(checkpoint, 100.0, True, worst, 6.0, 7.0),
        saves(checkpoint, 100.0, False, 800.0, 900.0, 1000.0),
    ]


def share(saved):
    return {"saved": [saved, saved, 9.0], "unsaved": [1.0, 1.0, 1.0], "saved_cpu": [1.01], "unsaved_cpu": [1.0]}


def test_medians_worst_and_share_are_reported_and_the_bars_met(checkpoint):
    found = checkpoint.report(rows(checkpoint), share(1.02), {})
    row = found["results"]["100 MB, asynchronous"]
    assert (row["blocked"], row["blocked_worst"], row["blocked_first"], row["in_all"]) == (7.0, 40.0, 40.0, 900.0)
    assert found["share_percent"] == pytest.approx(2.0) and found["share_cpu_percent"] == pytest.approx(1.0)
    assert all(verdict.endswith("met") for verdict in found["bars"].values()) and len(found["bars"]) == 2
    text = checkpoint.table(json.loads(json.dumps(found)))
    assert "+2.00 %" in text and "100 MB, at once" in text


@pytest.mark.parametrize(("worst", "saved", "missed"), [(51.0, 1.0, 1), (40.0, 1.031, 1), (51.0, 1.04, 2)])
def test_a_bar_that_is_missed_is_said(checkpoint, worst, saved, missed):
    found = checkpoint.report(rows(checkpoint, worst), share(saved), {})
    assert sum(verdict.endswith("MISSED") for verdict in found["bars"].values()) == missed


def test_the_state_that_is_saved_has_the_size_and_is_verified(checkpoint, tmp_path):
    found = checkpoint.time_saves(tmp_path, 0.2, 2, asynchronous=True)
    assert found.megabytes == pytest.approx(0.2, rel=0.02)
    assert all(blocked <= in_all for blocked, in_all in zip(found.blocked, found.in_all, strict=True))
    assert Store(tmp_path / "store").latest()[0] == 2 * checkpoint.STEPS_APART
