"""The benchmark of quality: its figures by hand, its data, and one look with few epochs."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from tests.benchmarks.test_simulations import FOLDER, load


@pytest.fixture(scope="module", autouse=True)
def _folder_on_the_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield


@pytest.fixture
def bench():
    return load("quality_pain")


def folds_of(bench, differences, n_train=40, n_test=10):
    make = sys.modules["quality.arms"].Fold
    sizes = {"n_train": n_train, "n_test": n_test}
    return [
        make(redraw=i // 5, fold=i % 5, ours=0.5 + d, forest=0.5, single=(0.4, 0.6), **sizes)
        for i, d in enumerate(differences)
    ]


@pytest.mark.fast
def test_the_interval_of_a_set_is_the_corrected_one(bench):
    d = np.random.default_rng(0).normal(0.01, 0.05, 50)
    found = bench.of_set(folds_of(bench, d))
    error = math.sqrt((1 / 50 + 10 / 40) * d.var(ddof=1))  # Nadeau and Bengio
    half = student.ppf(0.975, 49) * error
    assert found["difference"]["mean"] == pytest.approx(d.mean())
    assert found["difference"]["ci95"] == pytest.approx([d.mean() - half, d.mean() + half])
    assert found["ours"] == pytest.approx(0.5 + d.mean()) and found["single member"] == pytest.approx(0.5)


@pytest.mark.fast
def test_the_overall_interval_adds_the_errors_of_the_sets(bench):
    rng = np.random.default_rng(1)
    values = {name: rng.normal(0, 0.05, 50) for name in ("a", "b")}
    found = bench.overall({name: bench.of_set(folds_of(bench, d)) for name, d in values.items()})
    variances = [(1 / 50 + 10 / 40) * d.var(ddof=1) / 4 for d in values.values()]
    freedom = sum(variances) ** 2 / sum(v**2 / 49 for v in variances)
    half = student.ppf(0.975, freedom) * math.sqrt(sum(variances))
    mean = np.mean([d.mean() for d in values.values()])
    assert found["mean"] == pytest.approx(mean)
    assert found["ci95"] == pytest.approx([mean - half, mean + half])


@pytest.mark.fast
def test_the_other_data_that_candidates_are_shown_on_is_no_robot_failures(bench):
    data = sys.modules["quality.data"]
    for n_train, make in data.CHOSEN_ON.values():
        found = make()
        assert found.source in ("vowels", "contacts") and found.columns["x"].shape[1:] == (15, 6)
        assert 0 < n_train < len(found) / 2
    first, second = (data.contacts({"normal": 0.5, "hit": 0.5}, 7, n=20) for _ in range(2))
    assert (first.columns["x"] == second.columns["x"]).all()


@pytest.mark.fast
def test_every_try_is_on_record_with_its_score(bench):
    record = json.loads(bench.TRIES.read_text(encoding="utf-8"))
    names = {row["name"]: row for row in record["candidates"]}
    assert set(names) == set(bench.CANDIDATES)
    for name, overrides in bench.CANDIDATES.items():
        assert names[name]["overrides"] == list(overrides) and math.isfinite(names[name]["mean"])
    assert max(names.values(), key=lambda row: row["mean"])["name"] == bench.CHOSEN
    assert record["chosen for each set by the other three"] == sys.modules["quality.choose"].left_out(
        record["candidates"]
    )
    explored = [*record["explored"], *record["first choice"]["explored"], *record["first choice"]["candidates"]]
    assert all(math.isfinite(row["mean"]) for row in explored)


@pytest.mark.fast
def test_the_choice_for_a_set_does_not_look_at_its_own_score(bench):
    rows = [
        {"name": "even", "ours - forest": dict.fromkeys(("lp1", "lp2", "lp3", "lp5"), 0.0)},
        {"name": "lp1 alone", "ours - forest": {"lp1": 0.9, "lp2": -0.1, "lp3": -0.1, "lp5": -0.1}},
    ]
    found = sys.modules["quality.choose"].left_out(rows)
    assert found == {"lp1": "even", "lp2": "lp1 alone", "lp3": "lp1 alone", "lp5": "lp1 alone"}


def test_a_look_trains_both_sides_on_the_same_folds(bench, tmp_path, capsys, monkeypatch):
    if not (bench.DEFAULT / "robot_failures_long.csv").is_file():
        pytest.skip(f"no robot failures in {bench.DEFAULT}")
    tiny = ["model=conv_gru", "model.channels=[4]", "model.hidden_size=4", "training.num_epochs=2"]
    monkeypatch.setattr(bench, "OURS", tiny)
    monkeypatch.setattr(bench, "QUICK", ("lp3",))
    monkeypatch.setattr(sys.modules["quality.arms"], "TREES", 20)
    target = tmp_path / "found.json"
    assert bench.main(["--quick", "--json", str(target)]) == 0
    found, out = json.loads(target.read_text()), capsys.readouterr().out
    rows = found["sets"]["lp3"]["folds"]
    assert [(row["redraw"], row["fold"]) for row in rows] == [(r, f) for r in range(2) for f in range(3)]
    assert all(row["n_train"] + row["n_test"] == 47 and len(row["single"]) == 2 for row in rows)
    assert found["results"]["lp3"] == pytest.approx(np.mean([row["ours"] - row["forest"] for row in rows]))
    assert "bar: at least -0.02" in out and found["configuration"]["overrides"][:4] == tiny


def test_a_folder_without_the_data_is_named(bench, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        bench.main(["--data", str(tmp_path)])
    assert caught.value.code == 2 and str(tmp_path) in capsys.readouterr().err


def test_the_synthetic_part_reports_models_forest_and_ceiling(bench, tmp_path, monkeypatch):
    small = ["data=pain_synthetic", "members.folds=2", "model=gru", "model.hidden_size=2", "training.num_epochs=1"]
    monkeypatch.setattr(bench, "SYNTHETIC", [*small, "training.batch_size=256", "device=cpu", "numerics.threads=1"])
    found = bench.on_synthetic(Path(tmp_path))
    assert set(found) == {"ours", "ceiling", "forest"}
    assert found["ours"]["val_f1_macro"]["mean"] < found["forest"]["val_f1_macro"]["mean"]
    assert found["forest"]["val_f1_macro"]["mean"] < found["ceiling"]["val_f1_macro"]["mean"]
