"""CSV files as tables: numbers, text, and every way in which a file may be wrong, with its line."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from paceline.data.csv_table import as_numbers, read_table, wanted
from paceline.data.csv_wide import read_rows
from paceline.data.words import encode, fit_words, ordered
from paceline.errors import DataError

pytestmark = pytest.mark.fast


@pytest.fixture
def write(tmp_path):
    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_columns_are_numbers_or_text_and_lines_are_those_of_the_file(write):
    table = read_table(write("\ufeffid , a ,b,c\n007,1,x ,\n\n008, 2.5,,NA\n009,-1e3,y,?\n"), ["id"])
    assert list(table.columns) == ["id", "a", "b", "c"] and table.lines.tolist() == [2, 4, 5]
    assert table.columns["id"].tolist() == ["007", "008", "009"]
    assert table.columns["a"].tolist() == [1, 2.5, -1000]
    assert table.columns["b"].tolist() == ["x", None, "y"]
    assert np.isnan(table.columns["c"]).all()


def test_windows_line_ends_compression_and_integers_of_any_size_are_fine(write):
    path = write(gzip.compress(b'a,b\r\n1,"two, three"\r\n123456789012345678901234567890,x\r\n'), "data.csv.gz")
    table = read_table(path)
    assert table.columns["a"].tolist() == [1, 123456789012345678901234567890.0]
    assert table.columns["b"].tolist() == ["two, three", "x"]


def test_values_are_read_to_the_last_bit(write):
    values = np.random.default_rng(0).normal(size=500) * 10.0 ** np.random.default_rng(1).integers(-30, 30, 500)
    table = read_table(write("a\n" + "\n".join(map(repr, values.tolist())) + "\n"))
    assert table.columns["a"].tolist() == values.tolist()


WRONG = {
    "nothing": (b"", "file is empty", ""),
    "a header alone": ("a,b\n", "header and no rows", ""),
    "empty lines": ("a,b\n\n\n", "header and no rows", ""),
    "semicolons": ("a;b\n1;2\n", "not separated by commas", "a;b"),
    "a name twice": ("a,b,a\n1,2,3\n", "two columns have the same name", "line 1"),
    "no name": ("a,,c\n1,2,3\n", "no name", "column 2"),
    "a long row": ("a,b\n1,2\n1,2,3\n", "do not fit the header", "line 3"),
    "long rows": ("a,b\n1,2,3\n1,2,3\n", "do not fit the header", ""),
    "an open quote": ('a,b\n1,"2\n', "do not fit the header", ""),
    "latin-1": ("a,b\n1,\xe9\n".encode("latin-1"), "not UTF-8", ""),
    "utf-16": ("a,b\n1,2\n".encode("utf-16"), "not UTF-8", ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_no_sound_csv_is_refused(write, name):
    content, what, detail = WRONG[name]
    with pytest.raises(DataError, match=what) as caught:
        read_table(write(content))
    assert detail in str(caught.value) and "data.csv" in caught.value.where


def test_what_is_no_csv_file_is_refused(write, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for path, what in {
        tmp_path / "absent.csv": "no such file",
        tmp_path / "folder.csv": "not a file",
        write("a\n1\n", "data.xlsx"): "not a CSV file",
        write("a\n1\n", "bare"): "not a CSV file",
        write("a\n1\n", "data.csv.gz"): "cannot be read",
        write(gzip.compress(b"a\n1\n" * 99)[:20], "cut.csv.gz"): "cannot be read",
    }.items():
        with pytest.raises(DataError, match=what):
            read_table(path)


def test_a_cell_that_is_no_number_is_named_with_its_line(write):
    table = read_table(write("a,b,c\n1,1e39,1\n\n2,x1,1e400\n"))
    for name, what, where in (("b", "no number", "line 4, column 'b'"), ("c", "too large", "line 4, column 'c'")):
        with pytest.raises(DataError, match=what) as caught:
            as_numbers(table, name)
        assert where in caught.value.where
    with pytest.raises(DataError, match="too large"):
        as_numbers(read_table(write("a\n1e39\n")), "a")  # for float32


def test_a_column_that_must_be_there_is_wanted_whole(write):
    table = read_table(write("id,time\na,1\n,2\n"))
    with pytest.raises(DataError, match="no column 'tme'") as caught:
        wanted(table, "tme", "data.time")
    assert "time" in caught.value.hint
    with pytest.raises(DataError, match="cell is empty") as caught:
        wanted(table, "id", "data.id")
    assert "line 3, column 'id'" in caught.value.where


ORDERS = {
    "number words": (["two", "zero", "one", "two+"], ["zero", "one", "two", "two+"]),
    "beyond nine": (["twelve", "ten", "nine", "seventeen", "seven"], ["seven", "nine", "ten", "twelve", "seventeen"]),
    "digits": (["10+", "3 or more", "2", "1"], ["1", "2", "3 or more", "10+"]),
    "of the challenge": (["two", "one+peg_leg"], ["one+peg_leg", "two"]),
    "none is zero": (["some", "none", "all"], ["all", "none", "some"]),  # `some` is no number: alphabetical
    "none before one": (["one", "none", "Two"], ["none", "one", "Two"]),
    "alphabetical": (["right", "Left", "centre"], ["centre", "Left", "right"]),
    "no numbers after all": (["onesie", "two"], ["onesie", "two"]),
    "a fraction": (["1.5x", "1x"], ["1.5x", "1x"]),
}


@pytest.mark.parametrize("name", ORDERS)
def test_words_keep_the_order_of_what_they_mean(name):
    """A98."""
    words, expected = ORDERS[name]
    assert ordered(words) == ordered(reversed(words)) == expected


def test_words_are_coded_by_the_order_that_was_fitted(write):
    table = read_table(write("a,b\ntwo,1\nzero,2\n,3\nzero,4\n"))
    words = fit_words(table, ["a", "b"])
    assert words == {"a": ["zero", "two"]}
    np.testing.assert_array_equal(encode(table, "a", words["a"]), [1, 0, np.nan, 0])
    new = read_table(write("a\nzero\ntow\n"), ["a"])
    with pytest.raises(DataError, match="does not occur in the training data") as caught:
        encode(new, "a", words["a"])
    assert "line 3, column 'a'" in caught.value.where and caught.value.got == "tow" and "two" in caught.value.hint
    empty = read_table(write("a,b\n,1\n,2\n"), ["a"])
    assert np.isnan(encode(empty, "a", words["a"])).all()


def test_words_that_are_slips_or_free_text_are_refused(write):
    slip = read_table(write("a\n1.5\n2.5\n3.5o\n"))
    with pytest.raises(DataError, match="where others of the column are") as caught:
        fit_words(slip, ["a"])
    assert "line 4" in caught.value.where and caught.value.got == "3.5o"
    assert fit_words(read_table(write("a\n0\n1\n2+\n")), ["a"]) == {"a": ["0", "1", "2+"]}
    free = read_table(write("a\n" + "\n".join(f"word {i}" for i in range(101)) + "\n"))
    with pytest.raises(DataError, match="101 different words") as caught:
        fit_words(free, ["a"])
    assert caught.value.hint == "data.ignore=[a]"


def test_rows_without_steps_are_read_by_the_names_of_their_channels(write):
    path = write("id,b,a\nx,1,2\ny,3,4\n")
    found = read_rows(path, "refuse", channels=["a", "b"])
    assert found.x.tolist() == [[2, 1], [4, 3]] and found.ids.tolist() == ["x", "y"] and found.id_name == "id"
    assert read_rows(path, "refuse").channels == ("b", "a")
    assert read_rows(write("a,b\n1,2\n"), "refuse").ids is None
    gap = write("a,b\n1,\n")
    assert np.isnan(read_rows(gap, "mask").x).sum() == 1
    with pytest.raises(DataError, match="value is missing") as caught:
        read_rows(gap, "refuse")
    assert "line 2, column 'b'" in caught.value.where
    with pytest.raises(DataError, match="no channels"):
        read_rows(write("id\n1\n"), "refuse")
