from __future__ import annotations

import io
import json
import os
import re

import pytest
from rich.console import Console

from paceline.errors import RunError
from paceline.report.leaderboard import leaderboard, to_tree
from paceline.report.leaderboard_page import leaderboard_text, write_index
from tests.report.arms import write_run

pytestmark = pytest.mark.fast


def told(found, width=80) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width)
    for part in leaderboard_text(found):
        console.print(part)
    return out.getvalue()


def names(found):
    return [[entry.name for entry in group.entries] for group in found.groups]


def test_runs_are_sorted_by_their_selection_metric_and_unfinished_ones_come_last(tmp_path):
    for name, skill in (("mid", 0.75), ("low", 0.4), ("top", 1.0)):
        write_run(tmp_path / name, skill=skill)
    write_run(tmp_path / "part", finished=False)
    found = leaderboard(tmp_path)
    assert names(found) == [["top", "mid", "low", "part"]]
    best, *_, last = found.groups[0].entries
    summary = json.loads((tmp_path / "top" / "summary.json").read_text())
    assert best.result.mean == summary["metrics"]["val_f1_macro"]["mean"]
    assert best.test.mean == summary["metrics"]["test_f1_macro"]["mean"]
    assert (last.status, last.done, last.members, last.result) == ("unfinished", 1, 5, None)
    assert "1 of 5" in told(found) and "unfinished" in told(found)


def test_a_metric_that_is_better_when_lower_sorts_the_other_way(tmp_path):
    for name, skill in (("bad", 0.3), ("good", 1.1)):
        write_run(tmp_path / name, skill=skill, regression=True)
    assert names(leaderboard(tmp_path)) == [["good", "bad"]]


def test_what_cannot_be_ranked_together_stands_apart(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", task="battery", data="cells", regression=True)
    write_run(tmp_path / "c", folds=3)
    write_run(tmp_path / "d", redrawn=True)
    write_run(tmp_path / "e", fingerprint="sha256:" + "cd" * 32)
    found = leaderboard(tmp_path)
    headings = {group.entries[0].name: group.heading for group in found.groups}
    assert headings == {
        "a": "pain on vowels, one stratified split (seed 42) (abababab)",
        "b": "battery on cells, one stratified split (seed 42)",
        "c": "pain on vowels, 3 stratified folds (seed 42)",
        "d": "pain on vowels, one stratified split, redrawn for every seed",
        "e": "pain on vowels, one stratified split (seed 42) (cdcdcdcd)",
    }


def test_failed_members_and_damaged_runs_are_shown(tmp_path):
    write_run(tmp_path / "a", failed=("seed42",))
    (write_run(tmp_path / "b") / "summary.json").write_text("{")
    (tmp_path / "not_a_run").mkdir()
    entries = {entry.name: entry for group in leaderboard(tmp_path).groups for entry in group.entries}
    assert set(entries) == {"a", "b"}
    assert entries["a"].failed == 1 and "5 (-1)" in told(leaderboard(tmp_path))
    assert entries["b"].status == "damaged: summary.json of the run cannot be read"


def test_the_best_variant_stands_for_a_run_with_variants(tmp_path):
    write_run(tmp_path / "grid", variants=("lstm", "gru"))
    text = told(leaderboard(tmp_path))
    assert "(lstm)" in text and "10" in text


def test_the_index_links_the_reports_and_nothing_else(tmp_path):
    write_run(tmp_path / "a")
    odd = write_run(tmp_path / "b & <i>c", failed=("seed42",))
    write_run(tmp_path / "part", finished=False)
    html = write_index(leaderboard(tmp_path)).read_text(encoding="utf-8")
    links = re.findall(r'<a href="([^"]*)">', html)
    assert sorted(links) == ["a/report.html", "b%20%26%20%3Ci%3Ec/report.html"]
    assert (odd / "report.html").is_file() and "<i>c" not in html and "b &amp; &lt;i&gt;c" in html
    assert "default-src 'none'" in html and "<script" not in html and not re.search(r"url\((?!#)|//[a-z]", html)


def test_the_json_has_every_run(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "part", finished=False)
    tree = json.loads(json.dumps(to_tree(leaderboard(tmp_path)), allow_nan=False))
    assert [(run["name"], run["status"]) for run in tree["runs"]] == [("a", "finished"), ("part", "unfinished")]
    assert tree["runs"][0]["result"]["interval"] is not None


def test_eighty_columns_are_enough(tmp_path):
    for name in ("pain-conv_gru-20260102-101500-abcd", "x" * 70):
        write_run(tmp_path / name)
    write_run(tmp_path / "part", finished=False)
    lines = told(leaderboard(tmp_path)).splitlines()
    assert max(map(len, lines)) <= 80 and not [line for line in lines if "…" in line]


def test_the_time_is_that_of_the_runs_making(tmp_path):
    run = write_run(tmp_path / "a")
    os.utime(run / "environment.json", (1_700_000_000, 1_700_000_000))
    assert "2023-11-1" in told(leaderboard(tmp_path))


def test_a_folder_without_runs_says_what_to_do(tmp_path):
    with pytest.raises(RunError, match=r"holds no runs(.|\n)*paceline train"):
        leaderboard(tmp_path)
    with pytest.raises(RunError, match="no such folder"):
        leaderboard(tmp_path / "none")
    run = write_run(tmp_path / "a")
    with pytest.raises(RunError, match=rf"paceline runs {re.escape(str(tmp_path))}"):
        leaderboard(run)
