"""Hints are given where they would help, and not where they would mislead."""

from __future__ import annotations

import pytest

from paceline.report.findings import findings

pytestmark = pytest.mark.fast

RISING = [0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93]


WEAK = {"classes": ["x", "y", "z"], "recall": [0.1, 0.9, 0.9], "support": [9, 9, 9]}


def trained(values, rates=None, *, mode="max", chosen=None, status="finished", **summary):
    """Two members with this history of their metric, and what is found about them."""
    member = {"status": status, "epochs": len(values), "metrics": {}}
    selection = {"metric": "val_f1_macro", "mode": mode, "epoch": chosen or len(values)}
    members = [{**member, "id": name, "seed": 1, "selection": selection} for name in ("a", "b")]
    history = {"epoch": list(range(1, len(values) + 1)), "val_f1_macro": values, "lr": rates or [0.01] * len(values)}
    return " ".join(findings({"members": members, **summary}, {"a": history, "b": history}))


@pytest.mark.parametrize("length", [2, 3, 10])
def test_a_metric_that_still_improves_at_the_last_epoch_asks_for_longer_training(length):
    values = RISING[:length]
    assert "2 of 2 members still improved in the last epochs: longer training may help." in trained(values)
    assert "longer" in trained([1 - value for value in values], mode="min")


@pytest.mark.parametrize(
    "options",
    [
        {"values": [*RISING[:4], *[0.9] * 6]},
        {"values": [*RISING[:5], 0.9, 0.901, 0.9, 0.901, 0.9005]},
        {"values": RISING[::-1]},
        {"values": RISING, "mode": "min"},
        {"values": RISING, "rates": [0.01, *[0.02] * 7, 0.005, 0.001]},
        {"values": RISING, "chosen": 9},
        {"values": RISING, "status": "stopped"},
        {"values": [0.5]},
    ],
    ids=["tie", "flat", "worse", "other way", "annealed", "not the last", "stopped", "one epoch"],
)
def test_longer_training_is_not_proposed_where_it_would_not_help(options):
    assert trained(**options) == ""


def test_a_weak_class_waits_for_the_end_of_the_training():
    assert "class weights" not in trained(RISING, per_class={"val": WEAK})
    assert "class weights" in trained(RISING[::-1], per_class={"val": WEAK})


def test_without_histories_nothing_is_said_about_the_length():
    member = {"id": "a", "status": "finished", "epochs": 3, "metrics": {}, "selection": {"epoch": 3}}
    assert findings({"members": [member, {**member, "id": "b"}]}) == []


@pytest.mark.parametrize(
    ("recall", "support", "weak"),
    [
        ([0.2, 0.9, 0.95], [30, 30, 30], True),  # the others are well
        ([0.2, 0.4, 0.45], [5, 60, 60], True),  # rare
        ([0.2, 0.4, 0.45], [30, 30, 30], False),  # the whole training is weak
        ([0.6, 0.9, 0.95], [5, 60, 60], False),
        ([0.0, 0.9, 0.95], [0, 60, 60], False),  # nothing to find
    ],
)
def test_class_weights_are_proposed_for_a_rare_class_or_a_lone_weak_one(recall, support, weak):
    table = {"classes": ["x", "y", "z"], "recall": recall, "support": support}
    found = findings({"per_class": {"val": table}})
    assert [text.partition(":")[0] for text in found] == (["Class “x” has a recall of 0.20"] if weak else [])
