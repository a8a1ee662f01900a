"""Battery runs from the data to the summary and the page: parts, groups, conditions, intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import paceline
from paceline.evaluate.by_group import subset_metrics
from paceline.evaluate.predictions import read_predictions
from paceline.report import write

QUICK = {
    "training.num_epochs": 3,
    "training.early_stopping.enabled": False,
    "members.seeds": 2,
}
VALUE = {"data.split.rule": "value", "data.split.column": "condition"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two seeds, trained at 10 and 40 C, tested at 25 C."""
    runs = tmp_path_factory.mktemp("runs")
    return paceline.train("battery", {**QUICK, **VALUE, "data.split.values.test": [25]}, name="held-out", runs=runs)


def test_both_parts_are_named_where_a_temperature_is_held_out(run):
    """C90: validation is of cells of the training temperatures, the held-out temperature is the test part."""
    summary = run.summary
    assert {"val_rmse", "test_rmse"} <= set(summary["metrics"])
    assert set(summary["by_condition"]["test"]) == {"25"} and set(summary["by_group"]["test"]) == {"D", "E"}
    assert set(summary["by_condition"]["val"]) <= {"10", "40"}
    assert not set(summary["by_group"]["val"]) & {"D", "E"}


def test_two_parts_give_a_validation_figure_and_no_test_key(tmp_path):
    """C90: with `values.val` alone, as in the guide's two-way split, nothing is called a test result."""
    alone = paceline.train("battery", {**QUICK, **VALUE, "data.split.values.val": [25]}, name="two", runs=tmp_path)
    summary = alone.summary
    assert set(summary["by_condition"]["val"]) == {"25"}
    for key in ("metrics", "by_group", "by_condition", "conformal"):
        assert not any(name.startswith("test") for name in summary[key]), key
    assert all(not name.startswith("test") for member in summary["members"] for name in member["metrics"])
    assert "alidation RMSE" in write(alone.path).read_text(encoding="utf-8")


def test_the_figures_of_a_cell_are_those_of_its_stored_predictions(run):
    """C51: means over members of the metrics on the cell's samples alone."""
    data = run_dataset()
    for value, rows in (("D", data.group == "D"), ("E", data.group == "E")):
        entry = run.summary["by_group"]["test"][value]
        assert entry["n"] == rows.sum() and entry["groups"] == 1
        each = []
        for member in run.members:
            found = read_predictions(run.path / "members" / member / "predictions.npz")["test"]
            each.append(subset_metrics(found.rows(rows[found.index])))
        for name in ("rmse", "mae", "r2"):
            expected = np.mean([metrics[name] for metrics in each])
            assert entry["metrics"][name]["mean"] == pytest.approx(expected, rel=1e-6), name
    both = run.summary["by_condition"]["test"]["25"]
    assert both["groups"] == 2 and "groups" in both["metrics"]["rmse"]["method_samples"]


def test_intervals_from_validation_are_measured_on_test(run):
    found = run.summary["conformal"]
    assert found["level"] == 0.9 and set(found["by_group"]) == {"D", "E"}
    held, widths = [], []
    for member in run.members:
        parts = read_predictions(run.path / "members" / member / "predictions.npz")
        val, test = (np.abs(parts[part].prediction - parts[part].y) for part in ("val", "test"))
        widths.append(np.sort(val)[int(np.ceil((len(val) + 1) * 0.9)) - 1])
        held.append(np.mean(test <= widths[-1]))
    assert found["half_width"]["mean"] == pytest.approx(np.mean(widths), rel=1e-5)
    assert found["coverage"]["mean"] == pytest.approx(np.mean(held), abs=1e-9)


def test_the_noise_floor_stands_beside_the_models(run):
    data = run_dataset()
    rows = np.isin(data.group, ["D", "E"])
    floor = np.sqrt(np.mean((data.columns["y"][rows] - data.clean[rows]) ** 2))
    noise = run.summary["references"]["noise"]
    assert noise["metrics"]["test_rmse"]["mean"] == pytest.approx(floor, rel=1e-5)
    assert "on average no model has a smaller error" in noise["what"]


def test_the_page_shows_conditions_cells_intervals_and_what_is_nearly_the_target(run):
    page = write(run.path).read_text(encoding="utf-8")
    for words in ("By condition", "By group", "Prediction intervals", "beside the models", "split conformal",
                  "no feature is nearly the target itself", "RMSE"):  # fmt: skip
        assert words.lower() in page.lower(), words


def test_whole_cells_are_sequences_whose_padding_counts_nowhere(tmp_path):
    settings = {**QUICK, "members.seeds": 1, "data.form": "sequences", "data.split.val_fraction": 0.4}
    found = paceline.train("battery", settings, name="cells", runs=tmp_path)
    (member,) = found.members
    val = read_predictions(found.path / "members" / member / "predictions.npz", ("val",))["val"]
    error = (val.prediction.astype(float) - val.y)[val.mask]
    recorded = found.summary["metrics"]["val_rmse"]
    assert recorded["mean"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    assert recorded["ci95_samples"] is not None  # drawn over cells, from the valid steps alone
    write(found.path)


def test_a_table_of_ones_own_is_trained_and_predicted(tmp_path):
    rng = np.random.default_rng(0)
    cycle = np.tile(np.arange(40), 5)
    x = rng.normal(size=(200, 2))
    frame = pd.DataFrame({"cell": np.repeat(list("ABCDE"), 40), "cycle": cycle, "a": x[:, 0], "b": x[:, 1]})
    frame["soh"] = 1 - 0.002 * cycle + 0.01 * x[:, 0]
    frame.to_csv(tmp_path / "cells.csv", index=False)
    data = {"data": "cycles", "data.path": str(tmp_path / "cells.csv"), "data.features": ["a", "b"],
            "data.target": "soh", "data.group": "cell", "data.time": "cycle", "data.history": 1}  # fmt: skip
    own = paceline.train("battery", {**QUICK, **data, "members.folds": 5, "members.seeds": 1}, runs=tmp_path / "runs")
    assert set(own.summary["by_group"]["val"]) == set("ABCDE") and own.summary["by_condition"] == {}
    frame.drop(columns="soh").iloc[:50].to_csv(tmp_path / "new.csv", index=False)
    table = paceline.predict(own.path, tmp_path / "new.csv")
    assert len(table) == 50 and table.index[0] == "A-0" and np.isfinite(table["soh"]).all()
    del data["data.history"]
    cells = {**data, "data.form": "sequences", "members.seeds": 1, "model": "lstm"}
    whole = paceline.train("battery", {**QUICK, **cells}, runs=tmp_path / "runs", name="whole")
    table = paceline.predict(whole.path, tmp_path / "new.csv")  # a row per step of 40 and of 10
    assert table.index[[0, 39, 40, 49]].tolist() == ["A-0", "A-39", "B-0", "B-9"] and list(table) == ["soh"]


def run_dataset():
    from paceline.recipes.battery.synthetic import BatterySynthetic

    return BatterySynthetic().load()
