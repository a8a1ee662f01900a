from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from paceline.errors import RunError
from paceline.report.compare import compare
from paceline.report.compare_csv import read_csv
from tests.report.arms import write_run

pytestmark = pytest.mark.fast


def csv(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_scores_from_elsewhere_are_paired_by_seed(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.8, 0.01, 8), rng.normal(0.83, 0.01, 8)
    for name, scores in (("a", a), ("b", b)):
        pd.DataFrame({"seed": range(8), "value": scores}).to_csv(tmp_path / f"{name}.csv", index=False)
    found = compare([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])
    assert found.metrics == ("value",)
    assert found.pairs[0].difference.p == pytest.approx(scipy.stats.ttest_rel(b, a).pvalue)
    assert "b is higher than a: +0.0" in _sentence(found)  # nobody said which way `value` is better
    assert any(note.startswith("Not checked") for note in found.notes)


def _sentence(found):
    from paceline.report.compare_words import verdict

    return verdict(found, found.pairs[0])


@pytest.mark.parametrize("redrawn", [False, True])
def test_folds_from_elsewhere_take_their_sizes_from_their_number(tmp_path, redrawn):
    rng = np.random.default_rng(1)
    values = rng.normal(0.8, 0.01, (2, 3, 5))
    for name, table in zip("ab", values, strict=True):
        rows = [{"fold": k + 1, "seed": s, "rmse": table[s, k]} for s in range(3) for k in range(5)]
        pd.DataFrame(rows).to_csv(tmp_path / f"{name}.csv", index=False)
    found = compare([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")], redrawn=redrawn)
    d = (values[1] - values[0]).ravel() if redrawn else (values[1] - values[0]).mean(axis=0)
    t = d.mean() / (d.std(ddof=1) * math.sqrt(1 / len(d) + 1 / 4))
    assert found.pairs[0].difference.p == pytest.approx(2 * scipy.stats.t.sf(abs(t), len(d) - 1))
    assert any("k - 1 times as many samples train" in note for note in found.notes)


def test_a_runs_own_members_csv_can_be_given(tmp_path):
    text = "id,variant,seed,fold,status,epochs,selected_epoch,val_loss,test_f1_macro\n"
    a = csv(tmp_path / "a.csv", text + "seed1,,1,,finished,5,3,0.5,0.9\nseed2,,2,,stopped,5,2,0.4,0.8\n")
    assert {name: list(scores) for name, scores in read_csv(a)["a"].items()} == {
        "val_loss": [(1, None, 0.5), (2, None, 0.4)],
        "test_f1_macro": [(1, None, 0.9), (2, None, 0.8)],
    }
    b = csv(
        tmp_path / "b.csv", text + "gru-seed1,gru,1,,finished,5,3,0.5,0.9\nlstm-seed1,lstm,1,,finished,5,3,0.4,0.7\n"
    )
    assert list(read_csv(b)) == ["b:gru", "b:lstm"]


def test_a_run_and_a_file_can_be_compared(tmp_path):
    run = write_run(tmp_path / "run")
    file = csv(tmp_path / "theirs.csv", "seed,test_accuracy\n" + "".join(f"{s},0.5{s}\n" for s in range(42, 47)))
    found = compare([str(file), str(run)])
    assert found.metrics == ("test_accuracy",) and found.pairs[0].difference.paired
    assert "Not checked: whether data and splits are the same, of which theirs has no record." in found.notes


@pytest.mark.parametrize(
    "text",
    ["seed;value\n1;0.5\n2;0.25\n", "\ufeffseed,value\r\n1,0.5\r\n\r\n2, 0.25 \r\n", "seed\tvalue\n1\t0.5\n2\t0.25"],
)
def test_files_of_other_programs_are_read(tmp_path, text):
    assert list(read_csv(csv(tmp_path / "a.csv", text))["a"]["value"]) == [(1, None, 0.5), (2, None, 0.25)]


def test_an_empty_cell_is_a_missing_value_and_words_are_no_metric(tmp_path):
    found = read_csv(csv(tmp_path / "a.csv", "seed,model,value,other\n1,gru,,0.5\n2,gru,0.4,nan\n"))["a"]
    assert list(found) == ["value", "other"]
    assert math.isnan(found["value"][0][2]) and math.isnan(found["other"][1][2])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no rows"),
        ("seed,value\n", "no rows"),
        ("value\n0.5\n", "no column 'seed'"),
        ("seed,model\n1,gru\n", "no column with numbers"),
        ("seed,value\n1,0.5\n1,0.6\n", "a member has two rows\n.*\ngot: seed 1"),
        ("seed,fold,value\n1,2,0.5\n1,2,0.6\n", "seed 1, fold 2"),
        ("seed,fold,value\n1,2,0.5\n2,,0.6\n", "some rows have a fold and some have none"),
        ("seed,value\n1,0.5\ntwo,0.6\n", r"not a number\nwhere: .*a\.csv:3, column seed\ngot: two"),
        ("seed,value\n1.5,0.5\n", "whole number"),
        ("seed,value\n1,0.5\n2,abc\n", r"a\.csv:3, column value"),
        ("seed,value,value\n1,0.5,0.6\n", "two columns have the same name"),
        ("seed,value\n1,0.5,0.7\n", "more cells than the header"),
    ],
)
def test_a_bad_file_is_named_with_line_and_column(tmp_path, text, says):
    path = csv(tmp_path / "a.csv", text)
    with pytest.raises(RunError, match=says):
        read_csv(path)


def test_a_file_that_is_not_there_or_not_text_is_an_error(tmp_path):
    with pytest.raises(RunError, match="cannot be read"):
        read_csv(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="cannot be read"):
        read_csv(tmp_path / "a.csv")


def test_no_folds_against_folds_is_refused(tmp_path):
    a = csv(tmp_path / "a.csv", "seed,value\n1,0.5\n2,0.6\n")
    b = csv(tmp_path / "b.csv", "seed,fold,value\n1,0,0.5\n1,1,0.6\n")
    with pytest.raises(RunError, match="no folds and 2 folds"):
        compare([str(a), str(b)])


def test_names_from_a_file_are_neither_markup_nor_terminal_codes(tmp_path):
    from rich.console import Console

    from paceline.report.compare_text import comparison_text

    a = csv(tmp_path / "[red]a.csv", "seed,[bold]\x1b[31mvalue\n1,0.5\n2,0.6\n")
    b = csv(tmp_path / "b.csv", "seed,[bold]\x1b[31mvalue\n1,0.55\n2,0.69\n")
    out = io.StringIO()
    for part in comparison_text(compare([str(a), str(b)])):
        Console(file=out, width=80).print(part)
    assert "\x1b" not in out.getvalue() and "[red]a" in out.getvalue() and "[bold]" in out.getvalue()
