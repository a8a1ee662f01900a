from __future__ import annotations

import io
import json
import math
import re

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from paceline.errors import RunError
from paceline.evaluate.predictions import read_predictions
from paceline.report.compare import compare
from paceline.report.compare_text import comparison_text
from paceline.report.compare_words import to_tree, verdict
from tests.report.arms import write_run

pytestmark = pytest.mark.fast


def values(folder, metric):
    members = json.loads((folder / "summary.json").read_text())["members"]
    return [m["metrics"][metric] for m in members if m["status"] != "failed"]


def told(found) -> str:
    out = io.StringIO()
    console = Console(file=out, width=80)
    for part in comparison_text(found):
        console.print(part)
    return out.getvalue()


def words(found) -> str:
    return " ".join(told(found).split())


def test_members_of_the_same_seeds_are_paired(tmp_path):
    a, b = write_run(tmp_path / "a", skill=0.6), write_run(tmp_path / "b", skill=0.95)
    found = compare([str(a), str(b)], ["test_accuracy"])
    (pair,) = found.pairs
    expected = scipy.stats.ttest_rel(values(b, "test_accuracy"), values(a, "test_accuracy"))
    assert pair.difference.p == pytest.approx(expected.pvalue)
    assert pair.p == pair.difference.p < 0.05
    sentence = verdict(found, pair)
    low, high = expected.confidence_interval()
    assert sentence.startswith(f"b is better than a: +{pair.difference.mean:.3f} (95\u202f% {low:.3f} to {high:.3f}).")
    assert "It holds over draws of the 60 samples, too" in sentence


def test_the_same_difference_the_other_way_round_is_worse(tmp_path):
    a, b = write_run(tmp_path / "a", skill=0.6), write_run(tmp_path / "b", skill=0.95)
    found = compare([str(b), str(a)], ["test_accuracy"])
    assert verdict(found, found.pairs[0]).startswith("a is worse than b: −")
    loss = compare([str(a), str(b)], ["test_log_loss"])
    assert verdict(loss, loss.pairs[0]).startswith("b is better than a: −")


def test_equal_arms_are_not_distinguishable(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "c")
    found = compare([str(a), str(b)], ["test_accuracy"])
    numbers = r"[+−]?0\.0\d+ \(95\u202f% −0\.\d+ to 0\.\d+\)"
    text = verdict(found, found.pairs[0])
    assert re.match(rf"not distinguishable: c against a {numbers}; a difference beyond 0\.\d+ either way", text)


def test_the_first_metric_of_the_report_is_compared_unless_told_otherwise(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    assert compare([str(a), str(b)]).metrics == ("test_f1_macro",)
    c, d = write_run(tmp_path / "c", test=False), write_run(tmp_path / "d", test=False)
    (half,) = compare([str(tmp_path / "a"), str(_closed(tmp_path / "b"))]).metrics
    assert half == "val_f1_macro"  # the metric that chose the weights, where only one run has opened the test part
    found = compare([str(c), str(d)])
    assert found.metrics == ("val_f1_macro",)
    assert any("Validation figures chose the weights" in note for note in found.notes)


def _closed(run):
    tree = json.loads((run / "summary.json").read_text())
    for member in tree["members"]:
        member["metrics"] = {name: value for name, value in member["metrics"].items() if name.startswith("val_")}
    (run / "summary.json").write_text(json.dumps(tree))
    return run


def test_several_tests_are_corrected_by_holm(tmp_path):
    runs = [str(write_run(tmp_path / name, skill=skill)) for name, skill in (("a", 0.7), ("b", 0.76), ("c", 0.95))]
    found = compare(runs, ["test_accuracy", "test_log_loss"])
    raw = [pair.difference.p for pair in found.pairs]
    assert [(p.metric, p.a, p.b) for p in found.pairs] == [
        (m, "a", x) for m in ("test_accuracy", "test_log_loss") for x in "bc"
    ]
    adjusted, order = {}, np.argsort(raw)
    for rank, index in enumerate(order):
        before = adjusted[order[rank - 1]] if rank else 0
        adjusted[index] = max(before, min(1, (4 - rank) * raw[index]))
    assert [pair.p for pair in found.pairs] == pytest.approx([adjusted[i] for i in range(4)])
    assert "adjusted for 4 tests (Holm)" in words(found)


def test_a_p_that_holms_correction_takes_away_is_explained(tmp_path):
    # Differences of +-1 around .9 in five pairs: p about .02 alone, above .05 among three tests.
    rows = {
        "a": [0, 0, 0, 0, 0],
        "b": [0.1, 0.3, 0.2, 0.25, 0.02],
        "c": [0.1, -0.1, 0, 0.2, -0.2],
        "d": [0.3, -0.3, 0, 0.1, 0],
    }
    for name, scores in rows.items():
        lines = [f"{seed},{score}" for seed, score in enumerate(scores)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["seed,accuracy", *lines]))
    found = compare([str(tmp_path / f"{name}.csv") for name in "abcd"])
    assert found.pairs[0].difference.p < 0.05 < found.pairs[0].p
    assert "not distinguishable after Holm's correction for 3 tests (p 0.0" in verdict(found, found.pairs[0])


def test_other_seeds_are_compared_by_welch(tmp_path):
    a, b = write_run(tmp_path / "a", skill=0.6), write_run(tmp_path / "b", skill=0.9, seeds=range(7))
    found = compare([str(a), str(b)], ["test_accuracy"])
    expected = scipy.stats.ttest_ind(values(b, "test_accuracy"), values(a, "test_accuracy"), equal_var=False)
    assert found.pairs[0].difference.p == pytest.approx(expected.pvalue)
    assert found.pairs[0].flips is None and "Welch" in told(found)


def test_folds_take_the_corrected_resampled_t_test(tmp_path):
    a, b = (
        write_run(tmp_path / name, skill=s, folds=5, seeds=(42, 43), test=False) for name, s in (("a", 0.6), ("b", 0.8))
    )
    found = compare([str(a), str(b)], ["val_accuracy"])
    d = (np.array(values(b, "val_accuracy")) - values(a, "val_accuracy")).reshape(2, 5).mean(axis=0)
    error = d.std(ddof=1) * math.sqrt(1 / 5 + 20 / 80)
    assert found.pairs[0].difference.p == pytest.approx(2 * scipy.stats.t.sf(abs(d.mean()) / error, 4))
    assert "corrected resampled t over 5 folds" in words(found)


def test_redrawn_folds_count_every_training(tmp_path):
    a, b = (
        write_run(tmp_path / name, skill=s, folds=5, seeds=(1, 2, 3), redrawn=True)
        for name, s in (("a", 0.6), ("b", 0.8))
    )
    found = compare([str(a), str(b)], ["val_accuracy"])
    d = np.array(values(b, "val_accuracy")) - values(a, "val_accuracy")
    error = d.std(ddof=1) * math.sqrt(1 / 15 + 20 / 80)
    assert found.pairs[0].difference.p == pytest.approx(2 * scipy.stats.t.sf(abs(d.mean()) / error, 14))


def test_the_paired_bootstrap_uses_the_predictions_of_both(tmp_path):
    a, b = write_run(tmp_path / "a", skill=0.7), write_run(tmp_path / "b", skill=0.9)
    (pair,) = compare([str(a), str(b)], ["test_accuracy"]).pairs
    right = {}
    for run in (a, b):
        stored = [read_predictions(path)["test"] for path in sorted(run.glob("members/*/predictions.npz"))]
        right[run] = np.mean([one.prediction == one.y for one in stored], axis=0)
    d = right[b] - right[a]
    assert pair.samples.value == pytest.approx(d.mean()) == pytest.approx(pair.difference.mean)
    assert pair.samples.high - pair.samples.low == pytest.approx(2 * 2.01 * d.std(ddof=1) / math.sqrt(60), rel=0.15)
    assert pair.mcnemar is None  # five members predicted every sample: McNemar's test is for one


def test_groups_are_drawn_whole_where_the_predictions_have_them(tmp_path):
    a, b = (write_run(tmp_path / name, skill=s, groups=6) for name, s in (("a", 0.7), ("b", 0.9)))
    samples = compare([str(a), str(b)], ["test_accuracy"]).pairs[0].samples
    assert (samples.units, samples.n_units) == ("groups", 6)


def test_one_member_says_what_can_and_what_cannot_be_said(tmp_path):
    a, b = (write_run(tmp_path / name, skill=s, seeds=(42,)) for name, s in (("a", 0.55), ("b", 0.95)))
    found = compare([str(a), str(b)], ["test_accuracy"])
    (pair,) = found.pairs
    one, other = (read_predictions(run / "members" / "seed42" / "predictions.npz")["test"] for run in (a, b))
    only_a = int(((one.prediction == one.y) & (other.prediction != one.y)).sum())
    only_b = int(((one.prediction != one.y) & (other.prediction == one.y)).sum())
    assert pair.mcnemar.p == pytest.approx(scipy.stats.binomtest(only_a, only_a + only_b).pvalue)
    text = verdict(found, pair)
    assert text.startswith(
        "cannot tell which is better: one member says nothing about spread. What can be said: b minus a"
    )
    assert "on these samples the trained networks differ (p " in text and "members.seeds=5" in text
    assert (
        f"exact p < 0.0001; {only_a} samples only a has right, {only_b} only b" in words(found)
        or pair.mcnemar.p >= 1e-4
    )


def test_one_member_beside_several_says_where_it_lies(tmp_path):
    a, b = write_run(tmp_path / "a", skill=0.5), write_run(tmp_path / "b", skill=0.99, seeds=(7,))
    found = compare([str(a), str(b)], ["test_accuracy"])
    assert "b lies outside the range of the 5 members of a" in verdict(found, found.pairs[0])


def test_fewer_than_six_pairs_print_the_smallest_p_that_can_be_reached(tmp_path):
    a, b = write_run(tmp_path / "a", skill=0.5), write_run(tmp_path / "b", skill=0.95)
    assert "p 0.0625, all 32 sign flips of 5 pairs; so few cannot go below 0.0625" in words(compare([str(a), str(b)]))
    c, d = (write_run(tmp_path / name, seeds=range(6)) for name in "cd")
    assert "so few" not in words(compare([str(c), str(d)]))


def test_the_variants_of_one_run_are_compared_and_one_of_them_can_be_picked(tmp_path):
    run = write_run(tmp_path / "grid", variants=("gru", "lstm", "mlp"))
    found = compare([str(run)], ["test_accuracy"])
    assert [(pair.a, pair.b) for pair in found.pairs] == [("grid:gru", "grid:lstm"), ("grid:gru", "grid:mlp")]
    other = write_run(tmp_path / "other")
    picked = compare([f"{run}:mlp", str(other)])
    assert [(pair.a, pair.b) for pair in picked.pairs] == [("grid:mlp", "other")]
    with pytest.raises(RunError, match=r"no such variant(.|\n)*lstm"):
        compare([f"{run}:lstn", str(other)])


def test_failed_members_are_left_out_and_said(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", failed=("seed43", "seed44"))
    found = compare([str(a), str(b)])
    assert found.pairs[0].difference.n == 3
    assert any(note.startswith("2 of 5 members of b failed") for note in found.notes)


def test_a_metric_that_predictions_do_not_give_as_recorded_has_no_bootstrap(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    tree = json.loads((b / "summary.json").read_text())
    tree["members"][2]["metrics"]["test_accuracy"] -= 0.1  # another definition of accuracy
    (b / "summary.json").write_text(json.dumps(tree))
    pairs = compare([str(a), str(b)], ["test_accuracy", "test_f1_macro", "test_loss"]).pairs
    assert [pair.samples is None for pair in pairs] == [True, False, True]


def test_runs_without_predictions_are_compared_all_the_same(tmp_path):
    a, b = (write_run(tmp_path / name, predictions=False) for name in "ab")
    assert compare([str(a), str(b)]).pairs[0].samples is None


def test_regressions_are_compared_on_their_errors(tmp_path):
    a, b = (write_run(tmp_path / name, skill=s, regression=True) for name, s in (("a", 0.5), ("b", 0.9)))
    found = compare([str(a), str(b)])
    assert found.metrics == ("test_rmse",) and found.pairs[0].samples is not None
    assert verdict(found, found.pairs[0]).startswith("b is better than a: −")


def test_the_json_has_every_figure_and_no_nan(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", skill=0.9)
    tree = json.loads(json.dumps(to_tree(compare([str(a), str(b)])), allow_nan=False))
    assert (tree["schema_version"], tree["baseline"], tree["tests"]) == (1, "a", 1)
    (pair,) = tree["comparisons"]
    assert {"metric", "a", "b", "difference", "p", "flips", "samples", "mcnemar", "found", "verdict"} <= set(pair)
    assert {"mean", "low", "high", "p", "method", "effect", "detectable"} <= set(pair["difference"])


@pytest.mark.parametrize("options", [{}, {"folds": 3}, {"seeds": (1,)}, {"regression": True}])
def test_eighty_columns_are_enough_and_a_pipe_gets_plain_text(tmp_path, options):
    a, b = (write_run(tmp_path / name, **options) for name in ("a" * 40, "b" * 60))
    text = told(compare([str(a), str(b)]))
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text and "…" not in text


def test_the_three_sources_of_variance_are_told_apart(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    text = words(compare([str(a), str(b)]))
    assert "the seed of training, the training data (splits), and the samples it is measured on" in text
    assert "variation of training alone, not of the data" in text
    assert "variation of the samples measured on, training held fixed" in text
