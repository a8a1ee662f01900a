from __future__ import annotations

import math

import pytest

from paceline.report import words

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("value", "places", "shown"),
    [
        (0.98756, None, "0.9876"),
        (12.3456, None, "12.35"),
        (1234.56, None, "1235"),
        (0.0, None, "0.0000"),
        (-0.25, 2, "−0.25"),
        (0.98756, 2, "0.99"),
        (1.5e7, None, "1.50 × 10⁷"),
        (2.5e-7, None, "2.50 × 10⁻⁷"),
        (-2.5e-7, None, "−2.50 × 10⁻⁷"),
        (2.5e-5, 6, "0.000025"),
        (None, 3, "–"),
        (math.inf, None, "–"),
        (math.nan, 2, "–"),
    ],
)
def test_numbers_are_shown_with_the_digits_that_count(value, places, shown):
    assert words.show(value, places) == shown


@pytest.mark.parametrize(
    ("spread", "places"),
    [(0.0025, 4), (0.025, 3), (0.99, 2), (1.0, 1), (12.0, 0), (1e-9, 6), (0.0, None), (None, None)],
)
def test_a_spread_keeps_two_significant_digits(spread, places):
    assert words.places_for(spread) == places


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "3", True, [1.0], {}, 10**400])
def test_what_is_no_finite_number_is_none(value):
    assert words.number(value) is None


def test_numbers_pass():
    assert words.numbers([1, 2.5, None]) == [1.0, 2.5, None]
    assert words.numbers("12") == []


@pytest.mark.parametrize(
    ("name", "shown", "better"),
    [
        ("val_f1_macro", "validation macro F1", "higher"),
        ("test_accuracy", "test accuracy", "higher"),
        ("train_loss", "training loss", "lower"),
        ("test_log_loss", "test log-loss", "lower"),
        ("val_rmse", "validation RMSE", "lower"),
        ("test_onset_f1", "test onset f1", "higher"),
        ("something_else", "something else", ""),
        ("test", "test", ""),
    ],
)
def test_metric_names_become_words(name, shown, better):
    assert words.label(name) == shown
    assert words.better(name) == better


def test_text_is_one_line_without_control_characters():
    assert words.clean("a\n\tb\x1b[31m\x00\u202ec") == "a b\ufffd[31m\ufffd\ufffdc"
    assert words.clean(None) == ""
    assert words.clean("\ud800") == "\ufffd"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.42, "0.4 s"), (47.3, "47 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_are_readable(seconds, shown):
    assert words.duration(seconds) == shown


def test_counts_have_the_right_plural():
    assert [words.count(n, "member") for n in (1, 2, 12345)] == ["1 member", "2 members", "12,345 members"]
    assert words.span([25.0, 25.0]) == "25"
    assert words.span([22.0, 34.0, 25.0]) == "22 to 34"
    assert words.percent(0.1234) == "12.3\u202f%"


@pytest.mark.parametrize(
    ("name", "limit", "shown"), [("abcdef", 6, "abcdef"), ("abcdefgh", 6, "ab…fgh"), ("class number 17", 8, "cla…r 17")]
)
def test_long_names_are_cut_in_the_middle(name, limit, shown):
    assert words.shorten(name, limit) == shown
    assert len(shown) <= limit
