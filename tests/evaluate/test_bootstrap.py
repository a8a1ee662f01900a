from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from paceline.evaluate import bootstrap
from paceline.evaluate.bootstrap import sample_differences, sample_intervals
from paceline.evaluate.predictions import metrics_of
from tests.evaluate.made import classifier, labels, regressor

pytestmark = pytest.mark.fast


def nll(member):
    return -np.log(member.probability[np.arange(len(member.y)), member.y])


def test_the_interval_of_a_mean_is_scipys_bca():
    y = labels(800)
    member = classifier(y, 0.8, seed=1)
    found = sample_intervals([member], resamples=6000)
    for name, values in (("accuracy", member.y == member.prediction), ("log_loss", nll(member))):
        expected = scipy.stats.bootstrap((values * 1.0,), np.mean, n_resamples=6000, method="BCa", rng=1)
        low, high = expected.confidence_interval
        slack = 0.08 * (high - low)
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=slack)
        assert found[name].value == pytest.approx(values.mean())


def test_the_interval_of_a_ratio_is_scipys_bca():
    member = regressor(np.random.default_rng(0).normal(size=300), 0.4, seed=2)
    errors = (member.prediction - member.y) ** 2
    expected = scipy.stats.bootstrap(
        (errors,), lambda e, axis: np.sqrt(e.mean(axis=axis)), n_resamples=6000, method="BCa", rng=1
    )
    low, high = expected.confidence_interval
    found = sample_intervals([member], resamples=6000)["rmse"]
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))


def test_macro_f1_of_a_resample_is_that_of_the_drawn_samples():
    y = labels(60)
    member = classifier(y, 0.7, seed=1)
    drawn = np.random.default_rng(3).integers(0, 60, 60)
    weights = np.bincount(drawn, minlength=60)[None].astype(float)
    sums = bootstrap.sums_of(member)
    found = bootstrap.values_of(weights @ sums, bootstrap.classes_of(sums))
    again = replace(
        member,
        index=np.arange(60),
        y=y[drawn],
        prediction=member.prediction[drawn],
        probability=member.probability[drawn],
    )
    assert {name: float(v[0]) for name, v in found.items()} == pytest.approx(metrics_of(again))


def test_several_members_share_the_resamples_and_are_averaged():
    y = labels(400)
    members = [classifier(y, 0.8, seed=s) for s in range(5)]
    found = sample_intervals(members)
    mean = np.mean([metrics_of(m)["accuracy"] for m in members])
    right = np.mean([m.y == m.prediction for m in members], axis=0)
    error = right.std(ddof=1) / 20
    assert found["accuracy"].value == pytest.approx(mean)
    assert found["accuracy"].high - found["accuracy"].low == pytest.approx(2 * 1.97 * error, rel=0.08)
    assert found["accuracy"].method.startswith("bootstrap of 400 samples: ")
    assert "training held fixed" in found["accuracy"].method


def test_groups_are_drawn_whole():
    # All samples of a group are right or all are wrong: 20 independent facts, not 400.
    y = labels(400)
    group = np.repeat(np.arange(20), 20)
    prediction = np.where(group % 4 == 0, (y + 1) % 4, y)
    member = replace(classifier(y, 1.0, seed=0), prediction=prediction)
    alone = sample_intervals([member])["accuracy"]
    found = sample_intervals([replace(member, group=np.array([f"patient {g}" for g in group]))])["accuracy"]
    assert (found.n_units, found.units, found.n_samples) == (20, "groups", 400)
    assert found.high - found.low > 3 * (alone.high - alone.low)
    per_group = np.array([prediction[group == g][0] == y[group == g][0] for g in range(20)]) * 1.0
    expected = scipy.stats.t.interval(0.95, 19, per_group.mean(), scipy.stats.sem(per_group))
    assert found.high - found.low == pytest.approx(expected[1] - expected[0], rel=0.25)


def test_groups_of_unequal_size_are_scipys_bootstrap_of_group_sums():
    rng = np.random.default_rng(5)
    group = rng.choice(60, 900, p=rng.dirichlet(np.full(60, 3.0)))
    y = rng.normal(size=900)
    member = replace(regressor(y, 0.3, seed=1), prediction=y + rng.normal(size=60)[group], group=group)
    errors = np.abs(member.prediction - y)
    sums = np.array([[errors[group == g].sum(), (group == g).sum()] for g in np.unique(group)])
    expected = scipy.stats.bootstrap(
        (sums[:, 0], sums[:, 1]), lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis), paired=True, n_resamples=6000,
        method="BCa", rng=1,
    ).confidence_interval  # fmt: skip
    found = sample_intervals([member], resamples=6000)["mae"]
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.12 * (expected.high - expected.low))


def test_parts_that_only_some_members_have_are_pooled_by_sample():
    y = labels(300)
    parts = [np.arange(0, 200), np.arange(100, 300)]
    members = [
        replace(classifier(y[part], 0.8, seed=s), index=part + 1000) for s, part in enumerate(parts)
    ]  # splits redrawn for every seed
    found = sample_intervals(members)["accuracy"]
    assert found.n_samples == 300
    assert found.value == pytest.approx(np.mean([metrics_of(m)["accuracy"] for m in members]))


def test_a_paired_difference_is_that_of_the_same_samples():
    y = labels(500)
    a = classifier(y, 0.7, seed=1)
    b = replace(a, prediction=np.where(np.arange(500) % 5 == 0, y, a.prediction))  # a little better, else the same
    found = sample_differences([a], [b])["accuracy"]
    d = (b.prediction == y) * 1.0 - (a.prediction == y)
    expected = scipy.stats.bootstrap((d,), np.mean, n_resamples=6000, method="BCa", rng=1).confidence_interval
    width = expected.high - expected.low
    assert found.value == pytest.approx(d.mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.15 * width)
    assert found.p < 0.01 and found.method.startswith("paired bootstrap of 500 samples")
    one, other = (sample_intervals([m])["accuracy"] for m in (a, b))
    assert width < 0.6 * min(one.high - one.low, other.high - other.low)


def test_the_order_of_the_samples_does_not_matter():
    y = labels(200)
    a, b = classifier(y, 0.7, seed=1), classifier(y, 0.75, seed=2)
    order = np.random.default_rng(0).permutation(200)
    mixed = replace(b, **{name: getattr(b, name)[order] for name in ("index", "y", "prediction", "probability")})
    assert sample_differences([a], [b])["accuracy"] == sample_differences([a], [mixed])["accuracy"]


def test_three_samples_that_changed_are_no_proof():
    y = labels(500)
    a = replace(classifier(y, 1.0, seed=1), prediction=np.where(np.arange(500) < 3, (y + 1) % 4, y))
    b = replace(a, prediction=y)
    assert sample_differences([a], [b])["accuracy"].p > 0.05  # McNemar's exact p is .25


def test_equal_sides_do_not_differ():
    a = classifier(labels(), 0.7, seed=1)
    found = sample_differences([a], [a])["f1_macro"]
    assert (found.value, found.low, found.p) == (0.0, None, 1.0)


def test_nothing_to_vary_gives_no_interval_and_says_so():
    perfect = classifier(labels(), 1.0, seed=1)
    perfect = replace(perfect, prediction=perfect.y)
    found = sample_intervals([perfect])["accuracy"]
    assert (found.value, found.low) == (1.0, None) and "every resample gives the same value" in found.method
    one_group = sample_intervals([replace(classifier(labels(), 0.8, seed=1), group=np.zeros(120))])["accuracy"]
    assert one_group.low is None and "one group" in one_group.method
    assert sample_intervals([]) == {}


def test_a_rare_class_that_a_resample_lacks_does_not_drag_the_average_down():
    y = np.array([0] * 100 + [1] * 100 + [2] * 2)
    member = replace(classifier(y, 1.0, seed=1, classes=3), prediction=np.where(np.arange(202) < 10, 1, y))
    low = sample_intervals([member])["f1_macro"].low
    assert low > 0.93  # counted as 0, the missing class alone would cost a third


def test_the_bootstrap_is_the_same_every_time_and_in_chunks(monkeypatch):
    members = [classifier(labels(), 0.8, seed=s) for s in range(2)]
    first = sample_intervals(members)
    assert sample_intervals(members) == first
    monkeypatch.setattr(bootstrap, "_CHUNK", 120 * 7)
    chunked = sample_intervals(members)
    assert chunked["log_loss"].low == pytest.approx(first["log_loss"].low)


def test_370_samples_of_five_members_take_far_less_than_a_second():
    y = labels(370, classes=9)
    members = [classifier(y, 0.95, seed=s, classes=9) for s in range(5)]
    started = time.process_time()
    sample_intervals(members)
    assert time.process_time() - started < 1


def test_intervals_over_samples_cover():
    rng = np.random.default_rng(0)
    hits = []
    for repeat in range(300):
        y = rng.integers(0, 2, 80)
        prediction = np.where(rng.random(80) < 0.8, y, 1 - y)
        member = replace(classifier(y, 0.5, seed=repeat, classes=2), prediction=prediction)
        found = sample_intervals([member], resamples=400)["accuracy"]
        hits.append(found.low <= 0.8 <= found.high)
    assert np.mean(hits) > 0.92
