from __future__ import annotations

import json

import pytest

from paceline.errors import PacelineError, RunError
from paceline.report.compare import compare
from tests.report.arms import write_run

pytestmark = pytest.mark.fast


def refused(*sources, metrics=()) -> str:
    with pytest.raises(PacelineError) as caught:
        compare([str(source) for source in sources], metrics)
    text = str(caught.value)
    assert len(text.splitlines()) <= 4
    return text


def test_other_data_are_refused_by_their_fingerprints(tmp_path):
    a = write_run(tmp_path / "a")
    text = refused(a, write_run(tmp_path / "b", fingerprint="sha256:" + "cd" * 32, data="npz"))
    assert "cannot be compared: they were trained on different data" in text
    assert "vowels (bundled), 160 samples, sha256:abababab and npz (bundled), 160 samples, sha256:cdcdcdcd" in text


def test_another_split_is_refused_and_the_part_is_named(tmp_path):
    text = refused(write_run(tmp_path / "a"), write_run(tmp_path / "b", split_seed=7))
    assert "their splits differ" in text
    assert "validation part: " in text and " of 30 samples differ" in text


def test_another_test_part_is_refused(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    tree = json.loads((b / "splits.json").read_text())
    tree["splits"][0]["test"] = tree["splits"][0]["test"][:50]
    (b / "splits.json").write_text(json.dumps(tree))
    assert "test part: 60 and 50 samples" in refused(a, b)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"folds": 5}, "no folds and 5 folds"),
        ({"redrawn": True}, "splits redrawn for every seed, and one split for all seeds"),
    ],
)
def test_another_design_is_refused(tmp_path, options, says):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", **options)
    assert says in refused(b, a) or says in refused(a, b)


def test_another_number_of_folds_is_refused(tmp_path):
    text = refused(write_run(tmp_path / "a", folds=3), write_run(tmp_path / "b", folds=4))
    assert "3 and 4 splits" in text


def test_redrawn_splits_must_agree_where_both_have_the_seed(tmp_path):
    a, b = (
        write_run(tmp_path / name, redrawn=True, seeds=seeds) for name, seeds in (("a", (1, 2, 3)), ("b", (3, 4, 5)))
    )
    assert not compare([str(a), str(b)], ["val_accuracy"]).pairs[0].difference.paired
    c = write_run(tmp_path / "c", redrawn=True, seeds=(1, 2, 3), split_seed=9)
    assert "validation part of seed 1" in refused(a, c)


def test_a_run_without_a_record_of_its_splits_is_compared_with_a_note(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    (b / "splits.json").unlink()
    notes = compare([str(a), str(b)]).notes
    assert "Not checked: whether data and splits are the same, of which b has no record." in notes


def test_an_unfinished_run_says_how_to_go_on(tmp_path):
    text = refused(write_run(tmp_path / "a"), write_run(tmp_path / "b", finished=False))
    assert "the run has no summary.json" in text and "paceline resume" in text


def test_what_is_not_a_run_is_named(tmp_path):
    a = write_run(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    assert "there is no such run or CSV file" in refused(a, tmp_path / "none")
    assert "this folder is not a run" in refused(a, tmp_path / "empty")


def test_one_arm_alone_has_nothing_to_compare_with(tmp_path):
    a = write_run(tmp_path / "a")
    assert "there is nothing to compare with" in refused(a)
    assert "the same members were given twice" in refused(a, a)
    assert "the same members were given twice" in refused(a, a / ".." / "a")


def test_a_run_whose_members_all_failed_is_named(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", seeds=(1, 2), failed=("seed1", "seed2"))
    text = refused(a, b)
    assert "nothing to compare: all members failed" in text and str(b) in text


def test_two_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    a, b = write_run(tmp_path / "one" / "a"), write_run(tmp_path / "two" / "a")
    (pair,) = compare([str(a), str(b)]).pairs
    assert (pair.a, pair.b) == (str(a), str(b))


def test_an_unknown_metric_names_the_nearest(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    text = refused(a, b, metrics=["test_f1_makro"])
    assert "--metric" in text and "test_f1_macro (valid:" in text


def test_nothing_in_common_is_said(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", regression=True)
    for run in (a, b):
        tree = json.loads((run / "summary.json").read_text())
        for member in tree["members"]:
            member["metrics"] = {k: v for k, v in member["metrics"].items() if "loss" not in k}
        (run / "summary.json").write_text(json.dumps(tree))
    assert "no metric in common" in refused(a, b)


@pytest.mark.parametrize("name", ["summary.json", "splits.json"])
def test_a_damaged_file_is_named(tmp_path, name):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    (b / name).write_text("{")
    assert name in refused(a, b)


def test_damaged_predictions_are_an_error_not_a_silence(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    (b / "members" / "seed43" / "predictions.npz").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"seed43/predictions\.npz"):
        compare([str(a), str(b)])
