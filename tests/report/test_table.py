from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from paceline.report.results import Chosen, selection_rule, verdict
from paceline.report.table import terminal_tables
from tests.report.folder import write_folder

pytestmark = pytest.mark.fast


def summary(folder, **options):
    return json.loads((write_folder(folder, **options) / "summary.json").read_text())


def printed(tree, **options) -> str:
    out = io.StringIO()
    console = Console(file=out, width=80, **options)
    for part in terminal_tables(tree):
        console.print(part)
    return out.getvalue()


def test_the_tables_give_interval_std_n_and_the_chosen_epoch(tmp_path):
    tree = summary(tmp_path)
    text = printed(tree)
    row = tree["metrics"]["test_accuracy"]
    line = next(line for line in text.splitlines() if line.startswith("test_accuracy"))
    assert line.split() == [
        "test_accuracy",
        f"{row['mean']:.4f}",
        f"{row['ci95'][0]:.4f}",
        "to",
        f"{row['ci95'][1]:.4f}",
        f"{row['std']:.4f}",
        "5",
    ]
    chosen = tree["members"][0]["selection"]
    line = next(line for line in text.splitlines() if line.startswith("seed42"))
    best = [f"{chosen['raw_best_value']:.4f}", "at", str(chosen["raw_best_epoch"])]
    assert line.split()[:7] == [
        "seed42",
        str(chosen["epoch"]),
        f"{chosen['smoothed']:.4f}",
        f"{chosen['value']:.4f}",
        *best,
    ]
    assert "why these epochs: each member keeps the weights with the highest validation" in text


@pytest.mark.parametrize(
    "options", [{}, {"folds": 5}, {"variants": ("gru", "conv_gru")}, {"regression": True}, {"seeds": 60, "epochs": 3}]
)
def test_eighty_columns_are_enough(tmp_path, options):
    lines = printed(summary(tmp_path, **options)).splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]


def test_a_pipe_gets_plain_text(tmp_path):
    assert "\x1b" not in printed(summary(tmp_path))
    assert "\x1b" in printed(summary(tmp_path), force_terminal=True)


def test_names_are_neither_markup_nor_terminal_codes(tmp_path):
    tree = summary(tmp_path)
    tree["members"][0] |= {"id": "[red]x[/red]\x1b[31m", "status": "failed", "stopped": "[bold]why"}
    tree["metrics"]["test_[link=x]y"] = tree["metrics"]["test_accuracy"]
    text = printed(tree)
    assert "\x1b" not in text
    assert "[red]" in text and "[bold]why" in text and "test_[link=x]y" in text


def test_a_long_list_of_members_is_cut_with_a_note(tmp_path):
    text = printed(summary(tmp_path, seeds=60, epochs=3))
    assert "and 40 members more: see report.html" in text
    assert "seed61" in text and "seed62" not in text


def test_a_choice_that_the_rule_did_not_make_says_why(tmp_path):
    tree = summary(tmp_path)
    tree["members"][1]["selection"] |= {"smoothed": None, "value": None, "reason": "it was never finite"}
    assert "it was never finite" in printed(tree)


def test_variants_stand_beside_each_other(tmp_path):
    tree = summary(tmp_path, variants=("gru", "lstm"))
    lines = [line.split() for line in printed(tree).splitlines()]
    for variant in tree["variants"]:
        row = next(line for line in lines if line and line[0] == variant["name"])
        assert float(row[1]) == pytest.approx(variant["metrics"]["test_f1_macro"]["mean"], abs=1e-4)


def test_the_verdict_is_one_sentence_of_numbers(tmp_path):
    tree = {"metrics": {"test_accuracy": {"mean": 0.98756, "std": 0.002, "ci95": [0.98507, 0.99005], "n": 5}}}
    tree["metrics"]["test_accuracy"]["method"] = "t over 5 seeds, one split: variation of training alone"
    assert verdict(tree) == "Test accuracy 0.9876 (95\u202f% 0.9851 to 0.9900, t over 5 seeds, one split)"
    assert verdict(summary(tmp_path, seeds=1)).startswith("Test macro F1 0.98")
    assert "one member: no interval" in verdict(summary(tmp_path, seeds=1))
    assert verdict({}) == "No result yet: no member has finished."


def test_the_selection_metric_leads_unless_it_is_a_loss(tmp_path):
    tree = summary(tmp_path)
    assert verdict(tree).startswith("Test macro F1")
    for member in tree["members"]:
        member["selection"]["metric"] = "val_loss"
    assert verdict(tree).startswith("Test accuracy")


def test_a_run_without_anything_still_prints():
    assert printed({}).strip() == "No result yet: no member has finished."


def metric(mean: float, std: float, half: float) -> dict[str, object]:
    return {"mean": mean, "std": std, "ci95": [mean - half, mean + half], "n": 5, "method": "t"}


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (metric(0.98763, 0.002, 0.00249), ["0.9876", "0.9851", "to", "0.9901", "0.0020", "5"]),
        (metric(0.759, 0.027, 0.413), ["0.759", "0.346", "to", "1.172", "0.027", "5"]),
        (metric(0.98156, 0.00048, 0.0012), ["0.9816", "0.9804", "to", "0.9828", "0.00048", "5"]),
        (metric(1234.5, 30.0, 37.0), ["1234", "1198", "to", "1272", "30", "5"]),
        (metric(0.5, 0.0, 0.0), ["0.5000", "0.5000", "to", "0.5000", "0.0000", "5"]),
    ],
)
def test_decimals_follow_the_half_width_and_keep_three_digits_of_the_mean(row, cells):
    line = next(line for line in printed({"metrics": {"test_x": row}}).splitlines() if line.startswith("test_x"))
    assert line.split()[1:] == cells


def wide(half: float, names: list[str]) -> list[str]:
    """The lines printed for metrics with an interval over samples as well."""
    row = metric(0.987654321, half, half) | {"ci95_samples": [0.9 - half, 0.99], "method_samples": "bootstrap"}
    lines = printed({"metrics": dict.fromkeys(names, row)}).splitlines()
    assert max(map(len, lines)) <= 80
    return lines


@pytest.mark.parametrize(("half", "fits"), [(2e-3, True), (2e-5, False), (2e-8, False)])
def test_a_wide_table_leaves_out_precision_and_recall(half, fits):
    names = [f"{part}_{name}_macro" for part in ("test", "val") for name in ("f1", "precision", "recall")]
    lines = wide(half, names)
    shown = [line.split()[0] for line in lines if line.startswith(("test_", "val_"))]
    assert shown == [name for name in names if fits or "f1" in name]
    assert ("  precision and recall: see report.html" in lines) == (not fits)


def test_digits_and_the_std_give_way_to_a_long_name():
    name = "val_coverage_of_the_interval"
    lines = wide(2e-5, [name])
    assert [line for line in lines if line.startswith(f"{name}  ")]
    assert next(line for line in lines if line.startswith("metric")).split()[:3] == ["metric", "mean", "95"]
    assert "std" not in " ".join(lines)


@pytest.mark.parametrize(
    ("name", "mean", "noted"),
    [
        ("val_accuracy", 0.99, True),
        ("val_f1_macro", 0.01, True),
        ("val_accuracy", 0.5, False),
        ("val_rmse", 0.01, True),
        ("val_loss", 0.99, False),
        ("val_r2", 0.99, False),
        ("val_own", 0.01, False),
    ],
)
def test_bounds_that_a_metric_cannot_have_are_shown_with_one_note(name, mean, noted):
    text = printed({"metrics": {name: metric(mean, 0.04, 0.05), f"test{name[3:]}": metric(mean, 0.04, 0.05)}})
    assert text.count("bounds can pass 0 or 1") == noted
    assert text.count(" to ") > 1


@pytest.mark.parametrize(
    ("weights", "kept"), [("", "weights"), ("raw", "weights"), ("ema", "averaged weights (EMA)")], ids=str
)
def test_the_rule_says_whether_the_kept_weights_are_averages(weights, kept):
    rule = selection_rule([Chosen(metric="val_f1_macro", mode="max", weights=weights)])
    assert rule == f"Each member keeps the {kept} with the highest validation macro F1."
