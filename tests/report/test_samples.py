"""Intervals over samples, and ensembles, in the report and on the terminal."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from paceline.report import write
from paceline.report.table import terminal_tables
from tests.report.folder import change, write_folder

pytestmark = pytest.mark.fast
WORDS = "bootstrap of 370 samples, mean over 5 members: variation of the samples measured on, training held fixed"


def with_samples(folder, **options):
    write_folder(folder, **options)
    summary = json.loads((folder / "summary.json").read_text())
    for name, row in summary["metrics"].items():
        if not name.endswith("_loss"):
            row |= {"ci95_samples": [row["mean"] - 0.0111, row["mean"] + 0.0099], "method_samples": WORDS}
    value = {"value": 0.9912, "ci95_samples": [0.9801, 0.9987], "method_samples": WORDS, "members_mean": 0.9855}
    ensemble = {
        "mean": {"members": {f"seed{s}": 1 for s in range(42, 47)}, "metrics": {"test_f1_macro": value}},
        "greedy": {
            "metric": "val_f1_macro",
            "members": {"seed43": 3, "seed45": 1},
            "metrics": {"test_f1_macro": value},
        },
    }
    change(folder, "summary.json", metrics=summary["metrics"], ensemble=ensemble)
    return folder


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def printed(folder) -> str:
    out = io.StringIO()
    console = Console(file=out, width=80)
    for part in terminal_tables(json.loads((folder / "summary.json").read_text())):
        console.print(part)
    return out.getvalue()


def test_the_page_shows_both_intervals_and_says_what_each_covers(tmp_path):
    text = text_of(write(with_samples(tmp_path)).read_text(encoding="utf-8"))
    row = json.loads((tmp_path / "summary.json").read_text())["metrics"]["test_f1_macro"]
    low, high = row["ci95_samples"]
    assert f"over samples {low:.4f} to {high:.4f}" in text
    assert "Interval: t over 5 seeds, one split: variation of training alone, not of the data." in text
    assert f"Over samples: {WORDS}." in text
    assert "binomial standard error" not in text  # the bootstrap says it better


def test_one_member_has_an_interval_over_samples_at_least(tmp_path):
    text = text_of(write(with_samples(tmp_path, seeds=1)).read_text(encoding="utf-8"))
    assert "one member: no interval" in text and "Over samples: bootstrap" in text


def test_ensembles_stand_below_the_members(tmp_path):
    html = write(with_samples(tmp_path)).read_text(encoding="utf-8")
    members = html.partition('<section id="members">')[2].partition("</section>")[0]
    text = text_of(members)
    assert "mean of members 5 candidates Test macro F1 0.9912 0.9801 to 0.9987 0.9855" in text
    assert "greedy on validation seed43 × 3, seed45 × 1; chosen by validation macro F1" in text
    assert "its validation figures are optimistic" in text


def test_the_terminal_has_both_in_eighty_columns(tmp_path):
    text = printed(with_samples(tmp_path))
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    row = json.loads((tmp_path / "summary.json").read_text())["metrics"]["test_f1_macro"]
    line = next(line for line in text.splitlines() if line.startswith("test_f1_macro"))
    assert line.endswith(f"{row['ci95_samples'][0]:.4f} to {row['ci95_samples'][1]:.4f}")
    assert re.search(r"greedy on validation +test_f1_macro +0\.9912 +0\.9801 to 0\.9987 +0\.9855", text)


def test_a_summary_without_them_has_neither(tmp_path):
    folder = write_folder(tmp_path)
    assert "over samples" not in printed(folder)
    assert "Ensembles" not in write(folder).read_text(encoding="utf-8")


def test_each_part_has_its_method_where_they_differ(tmp_path):
    folder = write_folder(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    for name, row in summary["metrics"].items():
        if name.startswith("val_"):
            row["method"] = "corrected t over 5 folds: variation of the data and of training"
    change(folder, "summary.json", metrics=summary["metrics"])
    text = " ".join(printed(folder).split())
    assert "interval of the mean, test: t over 5 seeds" in text
    assert "interval of the mean, val: corrected t over 5 folds" in text
