"""What the page says of the members' predictions: classes, calibration, hardest samples, residuals."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support

from paceline.evaluate.calibration import expected_calibration_error, reliability, tempered
from paceline.evaluate.predictions import Predictions
from paceline.report.calibration import calibration, gap_of, wilson
from paceline.report.classes import class_scores, class_view
from paceline.report.files import read
from paceline.report.predicted import One, Predicted, predicted
from paceline.report.residuals import error_words, residuals
from paceline.report.samples import hardest_samples, hardness
from tests.report.arms import CLASSES, write_run
from tests.report.folder import change

pytestmark = pytest.mark.fast


def gathered(folder, **options) -> Predicted:
    found = predicted(read(write_run(folder, **options), predictions=True))
    assert found is not None
    return found


def by_hand(*members, group=None, part="test") -> Predicted:
    """Members of three samples (5, 6, 7) and two classes, each given by its probabilities of the second class."""
    y = np.array([0, 1, 1])
    ones = []
    for seed, second in enumerate(members):
        probability = np.column_stack([1 - np.array(second), second])
        found = Predictions(index=np.array([5, 6, 7]), y=y, prediction=probability.argmax(1), probability=probability,
                            group=group)  # fmt: skip
        ones.append(One(seed=seed, fold=None, found=found))
    return Predicted(part=part, classes=["no", "yes"], members=ones, sets=ones, joined=False, redrawn=False,
                     n_train=9, n_part=3)  # fmt: skip


def numbers_by_hand(y, *predictions) -> Predicted:
    ones = [
        One(seed=seed, fold=None, found=Predictions(index=np.arange(len(y)), y=np.array(y), prediction=np.array(each)))
        for seed, each in enumerate(predictions)
    ]
    return Predicted(part="test", classes=[], members=ones, sets=ones, joined=False, redrawn=False, n_train=9, n_part=3)


def cells(view) -> list[list[str]]:
    return [[re.sub(r"<[^>]+>", "", str(cell)) for cell in row] for row in view.table.rows]


def test_the_test_part_is_shown_where_it_was_opened_and_else_validation(tmp_path):
    assert gathered(tmp_path / "a").words == "test part, 5 members"
    assert gathered(tmp_path / "b", test=False).words == "validation part, 5 members"
    found = gathered(tmp_path / "c", test=False, folds=4, seeds=(1, 2, 3))
    assert found.words == "validation parts of 4 folds, joined for each of 3 seeds"
    assert found.samples == 100 and [len(one.found.y) for one in found.sets] == [100] * 3


def test_folds_are_not_joined_on_the_test_part_that_they_share(tmp_path):
    found = gathered(tmp_path, folds=3, seeds=(1, 2))
    assert (found.part, len(found.sets), found.joined) == ("test", 6, False)


def test_failed_members_and_other_variants_do_not_count(tmp_path):
    found = gathered(tmp_path, variants=("gru", "lstm"), failed=("gru-seed43",))
    assert [one.seed for one in found.members] == [42, 44, 45, 46]


def test_without_predictions_nothing_is_said(tmp_path):
    files = read(write_run(tmp_path, predictions=False), predictions=True)
    assert predicted(files) is None
    assert calibration(None) is residuals(None) is hardest_samples(None) is None


def test_scores_of_a_class_are_those_of_scikit_learn(tmp_path):
    one = gathered(tmp_path).members[0].found
    expected = precision_recall_fscore_support(one.y, one.prediction, labels=range(CLASSES), zero_division=0)[:3]
    assert class_scores(one, CLASSES) == pytest.approx(np.array(expected))


def test_a_class_that_does_not_occur_has_no_score_and_one_never_named_has_zeros():
    found = Predictions(index=np.arange(3), y=np.array([0, 0, 2]), prediction=np.array([0, 1, 0]))
    scores = class_scores(found, 3)
    assert np.isnan(scores[:, 1]).all()
    assert scores[:, 2].tolist() == [0, 0, 0]
    assert scores[:, 0] == pytest.approx([1 / 2, 1 / 2, 1 / 2])


def test_the_classes_have_means_over_members_with_t_intervals(tmp_path):
    files = read(write_run(tmp_path), predictions=True)
    found = predicted(files)
    rows = cells(class_view(files.summary, found))
    scores = np.array([class_scores(one.found, CLASSES) for one in found.members])
    low, high = stats.t.interval(0.95, 4, scores[:, 1, 2].mean(), stats.sem(scores[:, 1, 2]))
    assert rows[2][2] == f"{scores[:, 1, 2].mean():.3f} {low:.3f} to {high:.3f}"
    assert np.mean(scores[:, 2].mean(axis=0)) == pytest.approx(files.summary["metrics"]["test_f1_macro"]["mean"])
    assert [int(row[-1]) for row in rows] == np.bincount(found.members[0].found.y).tolist()


def test_members_that_agree_have_no_interval_of_no_width():
    same = by_hand([0.2, 0.9, 0.4], [0.1, 0.8, 0.3])
    assert cells(class_view({}, same))[0][1] == "0.500 all the same"


def test_one_member_has_bars_and_no_interval(tmp_path):
    files = read(write_run(tmp_path, seeds=(42,)), predictions=True)
    view = class_view(files.summary, predicted(files))
    assert "interval" not in view.lead and [heading for heading, _ in view.table.columns][-1] == "support"
    assert str(view.table.rows[0][1]).startswith('<span class="bar miss"')


def test_without_predictions_the_classes_come_from_the_summed_matrix():
    table = {"classes": ["a", "b"], "precision": [1, 0.5], "recall": [0.5, 1], "f1": [0.6, 0.6], "support": [40, 20]}
    view = class_view({"per_class": {"test": table}}, None)
    assert cells(view) == [["a", "1.000", "0.500", "0.600", "40"], ["b", "0.500", "1.000", "0.600", "20"]]
    assert "put together" in view.lead


@pytest.mark.parametrize(("right", "n"), [(0, 7), (7, 7), (3, 10), (190, 200)])
def test_the_interval_of_a_share_is_that_of_wilson(right, n):
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_calibration_gives_the_mean_error_of_the_members_with_its_interval(tmp_path):
    found = gathered(tmp_path)
    figure = calibration(found)
    errors = [expected_calibration_error(one.found.probability, one.found.y) for one in found.sets]
    low, high = stats.t.interval(0.95, 4, np.mean(errors), stats.sem(errors))
    given = [float(text) for text in re.findall(r"calibration error is ([\d.]+) \(95\u202f% ([\d.]+) to ([\d.]+)",
                                                figure.intro)[0]]  # fmt: skip
    assert given == pytest.approx([np.mean(errors), low, high], abs=2e-3)
    assert figure.intro.startswith("On the test part, 5 members: mean confidence ")
    assert "each count divided by 5" in figure.note


@pytest.mark.parametrize(
    ("second", "words"),
    [([0.01, 0.99, 0.01], "over-confident by 32.3 points"), ([0.4, 0.6, 0.6], "under-confident by 40.0 points"),
     ([0.001, 0.999, 0.999], "well matched")],
)  # fmt: skip
def test_over_and_under_confidence_are_told_apart(second, words):
    assert words in calibration(by_hand(second)).intro


def test_a_fitted_temperature_has_a_line_of_its_own_on_the_test_part(tmp_path):
    folder = write_run(tmp_path / "test", seeds=(1, 2))
    summary = json.loads((folder / "summary.json").read_text())
    fits = [{"values": [0.5], "kept": True}, {"values": [3.0], "kept": False}]
    for row, fit in zip(summary["members"], fits, strict=True):
        row["decision"] = {"temperature": fit}
    change(folder, "summary.json", members=summary["members"])
    found = predicted(read(folder, predictions=True))
    assert [one.temperature for one in found.sets] == [0.5, 1.0]
    figure = calibration(found)
    errors = [
        expected_calibration_error(tempered(one.found.probability, t), one.found.y)
        for one, t in zip(found.sets, (0.5, 1.0), strict=True)
    ]
    given = re.findall(r"After the fitted temperatures it is ([\d.]+)", figure.intro)
    assert float(given[0]) == pytest.approx(np.mean(errors), abs=5e-3)
    assert 'class="marker ring c1"' in str(figure.panels[0].svg)


def test_on_validation_a_temperature_is_not_shown_where_it_was_fitted(tmp_path):
    folder = write_run(tmp_path, seeds=(1,), test=False)
    summary = json.loads((folder / "summary.json").read_text())
    summary["members"][0]["decision"] = {"temperature": {"values": [0.5], "kept": True}}
    change(folder, "summary.json", members=summary["members"])
    assert "fitted" not in calibration(predicted(read(folder, predictions=True))).intro


def test_the_bars_count_every_prediction_of_every_member():
    figure = calibration(by_hand([0.4, 0.9, 0.1], [0.3, 0.8, 0.2]))
    counted = re.findall(r"confidence [\d.]+ to [\d.]+: (\d+) (right|wrong)", str(figure.panels[1].svg))
    assert sum(int(n) for n, _ in counted) == 6
    assert sum(int(n) for n, kind in counted if kind == "wrong") == 2
    assert "each count divided by 2" in figure.note


def test_the_gap_is_mean_confidence_against_accuracy():
    probability = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    gap = gap_of(reliability(probability, np.array([0, 1, 1, 1])))
    assert (gap.sure, gap.right) == pytest.approx((0.75, 0.75))


def test_samples_that_more_members_get_wrong_come_first_then_the_less_probable():
    # Sample 5 is wrong for one of three, 6 for none, 7 for two: by hand.
    found = by_hand([0.6, 0.9, 0.4], [0.3, 0.8, 0.1], [0.2, 0.7, 0.9], group=np.array(["anna", "ben", "carl"]))
    hard = hardness(found)
    assert hard.index.tolist() == [7, 5, 6]
    assert hard.wrong.tolist() == [2, 1, 0] and hard.members.tolist() == [3, 3, 3]
    assert hard.sure == pytest.approx([1.4 / 3, 1.9 / 3, 2.4 / 3])
    view = hardest_samples(found)
    assert cells(view)[0] == ["7", "carl", "yes", "no (2), yes (1)", "0.467", "2 of 3"]
    assert cells(view)[2] == ["6", "ben", "yes", "yes", "0.800", "0 of 3"]
    assert "On the test part, 3 members: 2 of 3 samples are wrong for at least one member, 1 for more" in view.lead
    assert "0 for every one." in view.lead and "no accident" not in view.lead


def test_the_hardest_samples_say_that_they_are_from_validation(tmp_path):
    view = hardest_samples(gathered(tmp_path, test=False, folds=4, seeds=(1, 2)))
    assert view.lead.startswith("On the validation parts of 4 folds, joined for each of 2 seeds: ")
    assert len(view.table.rows) == 20
    assert all(row[-1].endswith("of 2") for row in view.table.rows)


def test_one_member_and_nothing_wrong():
    view = hardest_samples(by_hand([0.1, 0.9, 0.7]))
    assert "no sample of 3 is predicted wrong" in view.lead
    assert cells(view)[0] == ["7", "yes", "yes", "0.700"]


def test_the_largest_errors_of_a_regression_come_first():
    view = hardest_samples(numbers_by_hand([1.0, 2.0, 3.0], [1.5, 2.0, 6.0], [1.5, 2.5, 4.0]))
    assert [row[0] for row in cells(view)] == ["2", "0", "1"]
    assert cells(view)[0] == ["2", "3.00", "5.00", "4.00 to 6.00", "2.00"]
    several = hardest_samples(numbers_by_hand([[1.0, 2.0]], [[1.0, 4.0]]))
    assert cells(several) == [["0", "1.00"]]


def test_errors_in_words_are_numbers_by_hand():
    words = error_words(np.zeros(4), np.array([-1.0, 1.0, 2.0, 4.0]))
    assert words.startswith("Mean error 1.5, standard deviation 1.8. Half of the absolute errors are below 1.5,")
    assert words.endswith("the largest is 4.0.")


def test_residuals_have_two_charts_for_each_of_the_first_outputs():
    y = np.random.default_rng(0).normal(size=(800, 5))
    figure = residuals(numbers_by_hand(y, y + 0.1, y - 0.1))
    assert [panel.heading for panel in figure.panels][:2] == [
        "Output 0: predicted against true", "Output 0: error against predicted"]  # fmt: skip
    assert len(figure.panels) == 6
    assert "evenly over their order" in figure.note and "Shown: 3 of 5 outputs." in figure.note
    assert len(str(figure.panels[0].svg)) < 40_000


def test_predictions_that_are_not_finite_are_left_out_of_the_residuals():
    y = [1.0, 2.0, 3.0]
    assert "0.0" in residuals(numbers_by_hand(y, [1.0, np.nan, 3.0])).panels[0].text
    assert residuals(numbers_by_hand(y, [np.nan] * 3)) is None
