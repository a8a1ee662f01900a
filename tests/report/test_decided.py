"""How the report and the terminal tell what was fitted after training."""

from __future__ import annotations

import copy
import io
import json

import pytest
from rich.console import Console

from paceline.report.decided import decision_notes, decision_table
from paceline.report.ensembles import ensemble_rows
from paceline.report.files import read
from paceline.report.page import render
from paceline.report.results import metrics_of
from paceline.report.table import terminal_tables
from paceline.report.tables import limits_for
from paceline.report.words import before, better, label
from tests.report.folder import write_folder

pytestmark = pytest.mark.fast


def fit(values, metric, *, kept=True):
    return {"values": values, "metric": metric, "kept": kept, "before": 0.6, "after": 0.5, "reason": "kept: log_loss"}


@pytest.fixture
def tree(tmp_path):
    """Three seeds of two classes: temperatures 1.2, 1.4 and none; thresholds of .3 and .4, one left."""
    found = json.loads((write_folder(tmp_path, seeds=3, classes=("no", "yes")) / "summary.json").read_text())
    found["confusion"]["val"] = found["confusion"]["test"]
    decisions = [(1.2, [0.6, 1.4]), (1.4, [0.8, 1.2]), (1.0, [1.0, 1.0])]
    for row, (temperature, weights) in zip(found["members"], decisions, strict=True):
        kept = temperature != 1
        row["decision"] = {
            "n": 54, "temperature": fit([temperature], "log_loss", kept=kept),
            "thresholds": fit(weights, "f1_macro", kept=kept),
        }  # fmt: skip
        for part in ("val", "test"):
            row["metrics"] |= {f"{part}_f1_macro_tuned": 0.9, f"{part}_log_loss_calibrated": 0.05}
    for part in ("val", "test"):
        for name in ("f1_macro_tuned", "log_loss_calibrated"):
            plain = found["metrics"][f"{part}_{name.rpartition('_')[0]}"]
            found["metrics"][f"{part}_{name}"] = {**plain, "mean": plain["mean"] + 0.01}
    return found


def test_the_terminal_says_what_was_fitted_on_what(tree):
    assert decision_notes(tree) == [
        "temperature 1.20 to 1.40 (2 of 3 members), fitted on 54 validation samples",
        "threshold of “yes” 0.30 to 0.40 (2 of 3 members), tuned for f1_macro on 54 validation samples",
        "_calibrated, _tuned: after these; on validation every sample is decided by a fit without it",
    ]
    out = io.StringIO()
    for part in terminal_tables(tree):
        Console(file=out, width=80).print(part)
    assert "temperature 1.20 to 1.40" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_where_nothing_was_kept_the_notes_say_so(tree):
    for row in tree["members"]:
        for name in ("temperature", "thresholds"):
            row["decision"][name]["kept"] = False
    first, second, _ = decision_notes(tree)
    assert first.startswith("temperature left at 1 (0 of 3 members)")
    assert second.startswith("thresholds left as they are (0 of 3 members)")


def test_a_run_without_decisions_says_nothing(tmp_path):
    plain = json.loads((write_folder(tmp_path) / "summary.json").read_text())
    assert decision_notes(plain) == [] and decision_table(plain) is None


def test_the_table_has_a_row_per_member_and_fit(tree):
    table = decision_table(tree)
    assert [row[:4] for row in table.rows[:2]] == [
        ["seed42", "temperature", "1.200", "54"],
        ["seed42", "thresholds", "yes above 0.300", "54"],
    ]
    assert table.rows[5][2] == "the largest probability"
    assert table.rows[0][4] == "Kept: log_loss"


@pytest.mark.parametrize(
    ("classes", "words"),
    [(["a", "b", "c"], "a × 0.50, b × 1.00, c × 2.00"), (["a", "b"], "weights 0.50 to 2.00")],
    ids=["names", "names that do not fit"],
)
def test_weights_of_several_classes_are_listed_by_name(tree, classes, words):
    tree["confusion"]["val"] = {"classes": classes}
    tree["members"][0]["decision"]["thresholds"] = fit([0.5, 1.0, 2.0], "f1_macro")
    assert decision_table(tree).rows[1][2] == words


def test_a_metric_after_a_decision_follows_the_raw_one_and_shares_its_scale(tree):
    rows = metrics_of(tree)
    names = [row.name for row in rows]
    assert names.index("test_f1_macro_tuned") == names.index("test_f1_macro") + 1
    assert names.index("val_log_loss_calibrated") == names.index("val_log_loss") + 1
    assert limits_for("test_f1_macro_tuned", rows) == limits_for("val_f1_macro", rows)


def test_names_of_metrics_after_a_decision_are_words(tree):
    assert label("test_f1_macro_tuned") == "test macro F1, tuned thresholds"
    assert label("val_log_loss_calibrated") == "validation log-loss, calibrated"
    assert label("ece_calibrated", with_split=False) == "calibration error (ECE), calibrated"
    assert better("test_ece_calibrated") == better("test_log_loss_calibrated") == "lower"
    assert better("test_recall_macro_tuned") == "higher"
    assert before("test_f1_macro") == "test_f1_macro"


def test_ensembles_show_the_tuned_figure_below_the_raw_one_and_say_what_was_averaged(tree):
    row = {"value": 0.9, "ci95_samples": [0.8, 0.95], "members_mean": 0.88}
    metrics = {"test_f1_macro": row, "test_f1_macro_tuned": row, "test_accuracy": row}
    tree["ensemble"] = {
        "mean": {"members": {"seed42": 1, "seed43": 1}, "metrics": metrics, "probabilities": "calibrated"}
    }
    found = [row.metric for row in ensemble_rows(tree)]
    assert sorted(found) == sorted(metrics)
    assert found.index("test_f1_macro_tuned") == found.index("test_f1_macro") + 1


def test_the_page_shows_the_table(tmp_path, tree):
    folder = write_folder(tmp_path / "run", seeds=3, classes=("no", "yes"))
    hostile = copy.deepcopy(tree)
    hostile["members"][0]["decision"]["temperature"]["reason"] = "<script>alert(1)</script>"
    (folder / "summary.json").write_text(json.dumps(hostile))
    html = render(read(folder))
    assert "Temperature and thresholds" in html and "yes above 0.300" in html
    assert "<script>alert" not in html


def test_a_damaged_decision_is_not_an_error(tree):
    tree["members"][0]["decision"] = {"temperature": "hot", "thresholds": {"values": "x", "kept": True}}
    tree["members"][1]["decision"] = None
    assert decision_table(tree) is not None and decision_notes(tree)
