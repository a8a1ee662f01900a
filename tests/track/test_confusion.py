"""The picture of a confusion matrix: what is drawn where, and that nothing is left behind."""

from __future__ import annotations

import gc
import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from paceline.track.confusion import ConfusionPictures, frame, label, short

pytestmark = pytest.mark.fast

NAMES = ["no_pain", "low_pain", "high_pain"]
COUNTS = [[90, 7, 3], [10, 5, 0], [4, 0, 1]]


def cell(pictures: ConfusionPictures, counts, i: int, j: int):
    """The pixels of one cell."""
    size, top, left = pictures.cell, pictures.top + i * pictures.cell, pictures.left + j * pictures.cell
    return pictures.pixels(counts)[top : top + size, left : left + size]


def test_rows_are_true_classes_and_columns_predicted_ones():
    """A78: axes Pred and True, with the names of the classes."""
    (axes,) = frame(NAMES, cell=40, left=100, top=10).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Pred", "True")
    assert [text.get_text() for text in axes.get_xticklabels()] == NAMES
    assert [text.get_text() for text in axes.get_yticklabels()] == NAMES
    assert axes.yaxis_inverted()
    pictures = ConfusionPictures(NAMES)
    only = np.zeros((3, 3), int)
    blank = cell(pictures, only.tolist(), 0, 2)
    only[0, 2] = 8
    assert (cell(pictures, only.tolist(), 0, 2) != blank).any()
    assert (cell(pictures, only.tolist(), 2, 0) == blank).all()


def test_every_cell_holds_its_count():
    """A78: the same digits give the same ink, other digits another."""
    pictures = ConfusionPictures(["a", "b"])
    twelve = cell(pictures, [[12, 12], [0, 1]], 0, 0)
    assert (twelve == cell(pictures, [[12, 12], [0, 1]], 0, 1)).all()
    others = [cell(pictures, [[n, n], [0, 1]], 0, 0) for n in (1, 2, 11, 21, 13, 112)]
    assert all((other != twelve).any() for other in others)
    columns = np.flatnonzero((twelve != twelve[0, 0]).any(axis=(0, 2)))
    assert 10 <= columns[-1] - columns[0] <= 16, "two digits wide"


def test_the_colour_is_the_share_of_the_true_class():
    pictures = ConfusionPictures(NAMES)
    corner = {(i, j): int(cell(pictures, COUNTS, i, j)[0, 0].sum()) for i in range(3) for j in range(3)}
    order = sorted(corner, key=corner.__getitem__)  # dark first
    shares = np.array(COUNTS) / np.sum(COUNTS, 1, keepdims=True)
    assert [shares[at] for at in order] == sorted(shares.flat, reverse=True)
    times_ten = (np.array(COUNTS) * 10).tolist()
    assert (cell(pictures, times_ten, 0, 0)[0, 0] == cell(pictures, COUNTS, 0, 0)[0, 0]).all()


def test_the_png_shows_the_same_picture_in_fewer_colours():
    pictures = ConfusionPictures(NAMES)
    shown = np.asarray(Image.open(io.BytesIO(pictures.png(COUNTS))).convert("RGB"), int)
    drawn = pictures.pixels(COUNTS).astype(int)
    assert shown.shape == drawn.shape
    assert np.abs(shown - drawn).mean() < 2


def test_a_hundred_pictures_leave_no_figure_behind():
    """A78."""
    gc.collect()
    before = sum(type(thing) is Figure for thing in gc.get_objects())
    pictures = ConfusionPictures(NAMES)
    for epoch in range(100):
        pictures.png([[epoch, 1, 2], [3, 4, 5], [6, 7, 8]])
    gc.collect()
    assert sum(type(thing) is Figure for thing in gc.get_objects()) == before


def test_pyplot_and_its_global_state_are_not_touched():
    code = (
        "import sys; from paceline.track.confusion import ConfusionPictures; "
        "ConfusionPictures(['a', 'b']).png([[1, 2], [3, 4]]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("n", [1, 2, 9, 40, 100])
def test_any_number_of_classes_up_to_the_most_has_a_picture(n):
    pictures = ConfusionPictures([f"class {i}" for i in range(n)])
    picture = Image.open(io.BytesIO(pictures.png(np.full((n, n), 7).tolist())))
    assert max(picture.size) < 1500


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("high_pain", "high_pain"),
        ("größe", "größe"),
        ("=1+1", "=1+1"),
        ("$x_1$", "$x_1$"),
        ("two\nlines", "two lines"),
        ("温度", "5"),
        ("\u202eright to left", "5"),
        ("", "5"),
        ("\ud800", "5"),
        ("a very long name indeed", "a very long name …"),
    ],
    ids=ascii,
)
def test_a_class_name_is_shown_as_far_as_the_font_can(name, shown):
    assert label(name, 5) == shown
    ConfusionPictures([name, "b"]).png([[1, 2], [3, 4]])  # no warning, no error


@pytest.mark.parametrize(
    ("count", "letters", "text"),
    [(0, 1, "0"), (999, 3, "999"), (1000, 3, "1k"), (12_345, 5, "12345"), (12_345, 4, "12k"), (99, 1, ""),
     (1_234_567, 4, "1M"), (1_234_567, 5, "1234k"), (5_000, 1, "")],
)  # fmt: skip
def test_a_count_that_is_too_long_is_shortened_and_never_wrong(count, letters, text):
    assert short(count, letters) == text
