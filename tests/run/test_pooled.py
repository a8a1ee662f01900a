"""What stored predictions add to the summary: intervals over samples, ensembles."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from paceline.evaluate.bootstrap import sample_intervals
from paceline.evaluate.predictions import metrics_of, read_predictions
from paceline.run.pooled import add_sample_intervals, ensembles
from tests.contracts.tiny import train
from tests.evaluate.made import classifier, labels

pytestmark = pytest.mark.fast
QUICK = ("training.num_epochs=2", "data.split.test_fraction=0.2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def seeds(runs):
    return train(runs, "members.seeds=3", *QUICK, name="seeds")


@pytest.fixture(scope="module")
def folds(runs):
    return train(runs, "members.seeds=2", "members.folds=3", *QUICK, name="folds")


def stored(run, part):
    return {m: read_predictions(run.member_folder(m) / "predictions.npz")[part] for m in run.members}


def test_metrics_that_predictions_give_have_an_interval_over_samples_with_its_method(seeds):
    metrics = seeds.summary["metrics"]
    for name in ("test_accuracy", "test_f1_macro", "test_log_loss", "val_accuracy"):
        row = metrics[name]
        assert row["ci95_samples"][0] <= row["mean"] <= row["ci95_samples"][1]
        assert row["method_samples"].startswith("bootstrap of ") and "mean over 3 members" in row["method_samples"]
        assert "pooled" not in row
    assert "ci95_samples" not in metrics["test_loss"]  # smoothed or weighted: predictions do not give it
    json.dumps(seeds.summary, allow_nan=False)


def test_the_datas_groups_are_drawn_whole(seeds):
    # The recipe's ten groups; some of their samples lie in the test part.
    words = seeds.summary["metrics"]["test_accuracy"]["method_samples"]
    group = np.arange(45) // 3 % 10
    own = next(iter(stored(seeds, "test").values()))
    assert f"bootstrap of {len(np.unique(group[own.index]))} groups with 9 samples" in words


def test_the_folds_of_a_seed_are_pooled(folds):
    row = folds.summary["metrics"]["val_f1_macro"]
    own = stored(folds, "val")
    by_seed = [
        np.concatenate([[own[f"seed{s}-fold{k}"].y, own[f"seed{s}-fold{k}"].prediction] for k in range(3)], axis=1)
        for s in (42, 43)
    ]
    expected = np.mean([f1_score(y, predicted, average="macro") for y, predicted in by_seed])
    assert row["pooled"] == pytest.approx(expected)
    assert "mean over 2 seeds, their folds pooled" in row["method_samples"]
    assert "mean over 6 members" in folds.summary["metrics"]["test_f1_macro"]["method_samples"]


def test_the_three_sources_of_variance_have_their_own_words(seeds, folds):
    row, other = seeds.summary["metrics"]["val_accuracy"], folds.summary["metrics"]["val_accuracy"]
    assert "variation of training alone, not of the data" in row["method"]
    assert "variation of the data and of training" in other["method"]
    assert "variation of the samples measured on, training held fixed" in row["method_samples"]


def test_sizes_of_uneven_folds_are_averaged_and_the_test_part_takes_no_correction(folds):
    row = folds.summary["metrics"]["val_accuracy"]
    values = [m["metrics"]["val_accuracy"] for m in folds.summary["members"]]
    means = np.reshape(values, (2, 3)).mean(axis=0)
    half = 4.302653 * means.std(ddof=1) * np.sqrt(1 / 3 + 12 / 24)  # 36 samples outside the test part
    assert row["ci95"] == pytest.approx([means.mean() - half, means.mean() + half], abs=1e-6)
    assert "not of the test set" in folds.summary["metrics"]["test_accuracy"]["method"]


def test_redrawn_splits_with_one_test_part_say_so(runs):
    run = train(runs, "members.seeds=3", "members.split_seed=per_seed", *QUICK, name="redrawn")
    assert "one test set" in run.summary["metrics"]["test_accuracy"]["method"]
    assert "redrawn" in run.summary["metrics"]["val_accuracy"]["method"]
    assert set(run.summary["ensemble"]) == {"mean"}  # their validation parts differ, so nothing can be selected on them
    assert all(name.startswith("test_") for name in run.summary["ensemble"]["mean"]["metrics"])


def test_the_mean_of_members_stands_beside_them(seeds):
    found = seeds.summary["ensemble"]["mean"]
    own = stored(seeds, "test")
    probability = np.mean([one.probability.astype(float) for one in own.values()], axis=0)
    y = own["seed42"].y
    assert found["members"] == {"seed42": 1, "seed43": 1, "seed44": 1}
    row = found["metrics"]["test_log_loss"]
    assert row["value"] == pytest.approx(-np.log(probability[np.arange(len(y)), y]).mean())
    assert row["members_mean"] == pytest.approx(np.mean([metrics_of(one)["log_loss"] for one in own.values()]))
    assert row["value"] <= row["members_mean"]  # Jensen
    assert row["ci95_samples"][0] <= row["value"] <= row["ci95_samples"][1]


def test_greedy_selection_looks_at_validation_alone(seeds):
    found = seeds.summary["ensemble"]["greedy"]
    metric = seeds.config["training"]["selection"]["metric"]
    expected = metric if metric in ("val_f1_macro", "val_accuracy") else "val_log_loss"
    assert found["metric"] == expected
    own = {m["id"]: m["metrics"][expected] for m in seeds.summary["members"]}
    value = found["metrics"][expected]["value"]
    assert value <= min(own.values()) + 1e-6 if expected == "val_log_loss" else value >= max(own.values()) - 1e-6


def test_folds_are_one_candidate_a_seed_and_their_mean_predicts_test(folds):
    found = folds.summary["ensemble"]["mean"]
    assert set(found["members"]) == {"seed42", "seed43"}
    own = stored(folds, "test")
    probability = np.mean([one.probability.astype(float) for one in own.values()], axis=0)
    accuracy = np.mean(probability.argmax(axis=1) == own["seed42-fold0"].y)
    assert found["metrics"]["test_accuracy"]["value"] == pytest.approx(accuracy)


def test_a_closed_test_part_stays_closed(runs):
    run = train(runs, "members.seeds=2", *QUICK, "data.split.open_test=false", name="closed")
    names = [name for kind in run.summary["ensemble"].values() for name in kind["metrics"]]
    assert names and all(name.startswith("val_") for name in names)
    assert all(not name.startswith("test_") for name in run.summary["metrics"])


def test_one_member_is_no_ensemble(runs):
    run = train(runs, *QUICK, name="one")
    assert run.summary["ensemble"] == {}
    row = run.summary["metrics"]["test_accuracy"]
    assert row["ci95"] is None and (row["ci95_samples"] is None or len(row["ci95_samples"]) == 2)


def rows(members):
    return [
        {"id": f"{v}-seed{s}", "variant": v, "seed": s, "fold": None, "status": "finished",
         "metrics": {f"val_{name}": value for name, value in metrics_of(one).items()}}
        for (v, s), one in members.items()
    ]  # fmt: skip


def test_the_mean_is_of_the_leading_variant_and_greedy_picks_from_all():
    y = labels()
    members = {(v, s): classifier(y, skill, seed=s) for v, skill in (("gru", 0.7), ("lstm", 0.9)) for s in (1, 2)}
    table = rows(members)
    held = {row["id"]: {"val": one} for row, one in zip(table, members.values(), strict=True)}
    found = ensembles(table, held, "gru", "val_loss")
    assert set(found["mean"]["members"]) == {"gru-seed1", "gru-seed2"}
    assert found["greedy"]["metric"] == "val_log_loss"
    assert set(found["greedy"]["members"]) & {"lstm-seed1", "lstm-seed2"}


def test_a_metric_recorded_by_another_definition_gets_no_interval():
    one = classifier(labels(), 0.8, seed=1)
    (row,) = rows({("", 1): one})
    row["metrics"]["val_accuracy"] += 0.01
    metrics = {name: {"mean": 0.5} for name in row["metrics"]}
    add_sample_intervals(metrics, [row], {row["id"]: {"val": one}})
    assert "ci95_samples" not in metrics["val_accuracy"]
    expected = sample_intervals([one])["f1_macro"]
    assert metrics["val_f1_macro"]["ci95_samples"] == [expected.low, expected.high]
