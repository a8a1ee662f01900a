"""Long CSVs as sequences: any order of rows, any lengths, channels in the order of the file; what is wrong, by line."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from paceline.data.csv_long import LongColumns, read_samples
from paceline.errors import DataError

pytestmark = pytest.mark.fast
SMALL = "sample_index,time,z,marker,a\n01,0,1,7,two\n01,1,2,7,one\n00,1,4,7,two\n00,0,3,7,one\n00,2,5,7,one\n"


@pytest.fixture
def read(tmp_path):
    def read(text, missing="refuse", channels=(), reading=None, **columns):
        path = tmp_path / "long.csv"
        path.write_text(text, encoding="utf-8")
        return read_samples(path, LongColumns(**columns), missing, channels=channels, reading=reading)

    return read


def test_rows_in_any_order_become_sequences_with_the_channels_of_the_file(read):
    """A85, A98."""
    found = read(SMALL)
    assert found.channels == ("z", "marker", "a")  # not sorted
    assert found.ids.tolist() == ["00", "01"] and found.lengths.tolist() == [3, 2]
    np.testing.assert_array_equal(found.x[0], [[3, 7, 0], [4, 7, 1], [5, 7, 0]])
    np.testing.assert_array_equal(found.x[1], [[1, 7, 1], [2, 7, 0], [np.nan] * 3])
    assert found.reading == {"words": {"a": ["one", "two"]}, "spacing": 1.0}
    header, *rows = SMALL.splitlines()
    other = read("\n".join([header, *reversed(rows)]) + "\n")
    np.testing.assert_array_equal(other.x, found.x)


def test_the_pivot_is_that_of_pandas(read):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame([(i, t, *rng.normal(size=3)) for i in range(30) for t in range(rng.integers(2, 9))],
                         columns=["sample", "t", "c", "b", "a"]).sample(frac=1, random_state=1)  # fmt: skip
    found = read(frame.to_csv(index=False))
    for i, name in enumerate(found.channels):
        expected = frame.pivot(index="sample", columns="t", values=name).to_numpy()
        np.testing.assert_array_equal(found.x[:, :, i], expected)
    assert found.ids.tolist() == [str(i) for i in range(30)]  # as numbers: 10 after 9


def test_names_of_columns_filters_and_columns_per_sample(read):
    text = "set,who,when,x,note,site\n" + "".join(
        f"{s},{i},{10 * t},{k + i + t},hm,{'north' if i else 'south'}\n"
        for k, s in enumerate(("lp1", "lp2")) for i in range(2) for t in range(3)
    )  # fmt: skip
    keys = {"id": "who", "time": "when", "aside": ("site", "absent"), "ignore": ("note",), "where": {"set": ("lp2",)}}
    found = read(text, **keys)
    assert found.channels == ("x",) and found.x[:, :, 0].tolist() == [[1, 2, 3], [2, 3, 4]]
    assert {name: texts.tolist() for name, texts in found.aside.items()} == {"site": ["south", "north"]}
    assert found.lengths is None and found.id_name == "who" and found.reading["spacing"] == 10
    with pytest.raises(DataError, match="no row has this value") as caught:
        read(text, **keys | {"where": {"set": ("lp9",)}})
    assert caught.value.where == "data.where.set" and "lp1" in caught.value.hint
    with pytest.raises(DataError, match="two rows for one time"):  # of two sets
        read(text, **keys | {"where": {}, "ignore": ("note", "set")})
    without = "\n".join(line.partition(",")[2] for line in text.splitlines()[:7])
    assert read(without, **keys).x[:, :, 0].tolist() == [[0, 1, 2], [1, 2, 3]]  # a file of one set


def test_dates_and_fractions_are_times(read):
    dates = "id,timestamp,x\na,2024-01-01T00:00,1\na,2024-01-01T00:15,2\nb,2024-03-31T02:45+01:00,3\n"
    assert read(dates).reading["spacing"] == 900
    tenths = "id,t,x\n" + "".join(f"a,{t / 10},{t}\n" for t in range(50))
    assert read(tenths).x[0, :, 0].tolist() == list(range(50))
    thirds = "id,t,x\na,0.000,0\na,0.033,1\na,0.067,2\na,0.100,3\n"
    assert read(thirds).x.shape == (1, 4, 1)


def test_an_absent_step_is_missing_or_only_the_order_counts(read):
    text = "id,t,x\na,0,1\na,1,2\na,4,3\nb,7,4\nb,8,5\n"
    with pytest.raises(DataError, match="no row for a step") as caught:
        read(text)
    assert caught.value.got == "sample a, time 2; 2 such steps" and "data.steps=ordered" in caught.value.hint
    filled = read(text, "mask")
    np.testing.assert_array_equal(filled.x[0, :, 0], [1, 2, np.nan, np.nan, 3])
    assert filled.lengths.tolist() == [5, 2]
    ordered = read(text, even=False)
    assert ordered.lengths.tolist() == [3, 2] and ordered.reading["spacing"] is None


def test_new_files_are_read_with_the_words_spacing_and_channels_of_training(read):
    reading = read(SMALL).reading
    new = "marker,a,z,time,sample_index\n8,two,1,0,5\n9,two,2,1,5\n"
    found = read(new, channels=("z", "marker", "a"), reading=reading)
    assert found.x.tolist() == [[[1, 8, 1], [2, 9, 1]]] and found.ids.tolist() == ["5"]
    with pytest.raises(DataError, match="does not occur in the training data"):
        read(new.replace("9,two", "9,three"), channels=("z", "marker", "a"), reading=reading)
    with pytest.raises(DataError, match="no number"):
        read(new.replace("8,two", "x,two"), channels=("z", "marker", "a"), reading=reading)
    with pytest.raises(DataError, match="no row for a step"):
        read(new.replace("2,1,5", "2,2,5"), channels=("z", "marker", "a"), reading=reading)
    with pytest.raises(DataError, match="not trained on") as caught:
        read(new.replace("marker", "maker"), channels=("z", "marker", "a"), reading=reading)
    assert caught.value.got == "maker" and "marker" in caught.value.hint
    with pytest.raises(DataError, match="lacks 1 of 4 channels"):
        read(new, channels=("z", "marker", "a", "b"), reading=reading)


WRONG = {
    "two rows for a time": (SMALL + "01,1,9,7,two\n", "two rows for one time", "lines 3 and 7", "sample 01, time 1"),
    "uneven": ("id,t,x\na,0,1\na,1,2\na,2.5,3\n", "not evenly spaced", "line 4", "sample a: 1, then 2.5"),
    "a wrong time": ("id,t,x\na,0,1\na,1,2\na,1e9,3\n", "not evenly spaced", "line 4", "sample a: 1, then"),
    "a time as text": ("id,t,x\na,0,1\na,one,2\n", "neither a number nor a date", "line 3", "one"),
    "no time": ("id,t,x\na,0,1\na,,2\n", "cell is empty", "line 3", "1 empty"),
    "no id": ("id,t,x\na,0,1\n,1,2\n", "cell is empty", "line 3", "1 empty"),
    "an endless time": ("id,t,x\na,0,1\na,inf,2\n", "time is not finite", "line 3", ""),
    "a value": (SMALL.replace("00,1,4", "00,1,"), "value is missing", "line 4, column 'z'", "sample 00, time 1"),
    "values": ("id,t,x,y\na,0,,\na,1,1,\n", "value is missing", "line 2, column 'x'", "3 cells are empty in all"),
    "a word": (SMALL.replace("7,two", "7,"), "value is missing", "column 'a'", "2 cells"),
    "no channels": ("id,t\na,0\n", "no channels", "long.csv", "id, t"),
    "no column of ids": ("name,t,x\na,0,1\n", "no column 'sample_index' or", "long.csv", ""),
    "no column of times": ("id,x\na,0\n", "no column 'time' or", "long.csv", ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_a_file_is_named_with_its_line(read, name):
    text, what, where, got = WRONG[name]
    with pytest.raises(DataError, match=what) as caught:
        read(text)
    assert where in caught.value.where and got in caught.value.got
    assert len(str(caught.value).splitlines()) <= 4


def test_a_column_that_should_have_one_value_per_sample_is_checked(read):
    text = "id,t,label,x\na,0,yes,1\na,1,no,2\n"
    with pytest.raises(DataError, match="two values in a column") as caught:
        read(text, aside=("label",))
    assert "line 3, column 'label'" in caught.value.where and caught.value.got == "sample a: yes, no"


def test_missing_cells_are_kept_where_they_are_masked(read):
    found = read("id,t,x,w\na,0,,one\na,1,1,\nb,0,2,two\n", "mask")
    np.testing.assert_array_equal(found.x[0], [[np.nan, 0], [1, np.nan]])
    assert found.lengths.tolist() == [2, 1]


def test_a_large_file_is_the_same_as_pandas_reads_it(tmp_path):
    rng = np.random.default_rng(3)
    table = rng.normal(size=(60 * 40, 38))
    text = io.StringIO()
    frame = pd.DataFrame(table, columns=[f"joint_{38 - i:02d}" for i in range(38)])
    frame.insert(0, "time", np.tile(np.arange(40), 60))
    frame.insert(0, "sample_index", np.repeat([f"{i:03d}" for i in range(60)], 40))
    frame.sample(frac=1, random_state=0).to_csv(text, index=False)
    (tmp_path / "large.csv").write_text(text.getvalue())
    found = read_samples(tmp_path / "large.csv", LongColumns(), "refuse")
    np.testing.assert_array_equal(found.x, table.reshape(60, 40, 38))
    assert found.channels == tuple(frame.columns[2:])
