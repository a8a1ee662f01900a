"""The `.ts` format: channels, lengths, labels, missing values, and errors with their line."""

from __future__ import annotations

import numpy as np
import pytest

from paceline.data.ts_file import read_ts
from paceline.errors import DataError

pytestmark = pytest.mark.fast

HEAD = """# a comment, wherever
@problemName Toy
@timeStamps false
@missing true
@univariate false
@dimensions 2
@equalLength false
@classLabel true up down

@data
"""


@pytest.fixture
def read(tmp_path):
    def read(text, missing="refuse"):
        (tmp_path / "toy.ts").write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_ts(tmp_path / "toy.ts", missing)

    return read


def test_samples_of_several_channels_and_lengths_are_read(read):
    found = read(HEAD + "1,2,3:4,5,6:up\n# between\n\n-1e-3, 2.5:0,1:down\n")
    np.testing.assert_array_equal(found.x[0], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(found.x[1], [[-1e-3, 0], [2.5, 1], [np.nan, np.nan]])
    assert found.lengths.tolist() == [3, 2] and found.labels.tolist() == ["up", "down"]
    assert found.classes == ("up", "down") and found.lines.tolist() == [11, 14]


def test_one_channel_equal_lengths_and_no_labels_are_fine(read):
    found = read("@univariate true\n@classLabel false\n@data\n1,2\n3,4\n")
    assert found.x.tolist() == [[[1], [2]], [[3], [4]]]
    assert found.lengths is None and found.labels is None and found.classes == ()


def test_missing_values_are_refused_or_kept(read):
    text = HEAD + "1,2:3,4:up\n1,?:?,4:down\n"
    with pytest.raises(DataError, match="value is missing") as caught:
        read(text)
    assert caught.value.where.endswith("toy.ts, line 12")
    assert caught.value.got == "sample 1, step 0, channel 1; 2 values are missing in all"
    np.testing.assert_array_equal(read(text, "mask").x[1], [[1, np.nan], [np.nan, 4]])


WRONG = {
    "nothing": ("", "no line @data", "toy.ts", ""),
    "no samples": (HEAD, "no samples", "toy.ts", ""),
    "a line before the header": ("1,2:3\n" + HEAD, "no line of a header", "line 1", "1,2:3"),
    "a slip in the header": ("@classLable true a b\n", "no line of a header", "line 1", "@classLable"),
    "a fact twice": ("@missing true\n@missing false\n@data\n", "given twice", "line 2", ""),
    "time stamps": ("@timeStamps true\n@data\n(0,1):a\n", "time stamps are not read", "toy.ts", "true"),
    "a regression": ("@targetLabel true\n@data\n1:2\n", "regression", "toy.ts", "true"),
    "no number": (HEAD + "1,2:3,x4:up\n", "no number", "line 11", "'x4' at channel 1, step 1"),
    "an empty cell": (HEAD + "1,2:3,:up\n", "no number", "line 11", "'' at channel 1, step 1"),
    "too large": (HEAD + "1,2:1e39,4:up\n", "too large", "line 11", "1e39 at channel 1, step 0"),
    "infinite": (HEAD + "1,inf:1,4:up\n", "too large", "line 11", "inf at channel 0, step 1"),
    "ragged channels": (HEAD + "1,2:3:up\n", "channels of a sample differ", "line 11", "2, 1"),
    "another number of channels": (HEAD + "1:2:up\n1:2:3:up\n", "differ in their number", "line 12", "3, not 2"),
    "not as declared": (HEAD + "1:2:3:up\n", "declared number of channels", "toy.ts", "3, @dimensions 2"),
    "another label": (HEAD + "1:2:upp\n", "not among the declared", "line 11", "upp"),
    "latin-1": ("@problemName caf\xe9\n".encode("latin-1"), "not UTF-8", "toy.ts", ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_a_file_is_named_with_its_line(read, name):
    text, what, where, got = WRONG[name]
    with pytest.raises(DataError, match=what) as caught:
        read(text)
    assert where in caught.value.where and got in caught.value.got
    assert len(str(caught.value).splitlines()) <= 4


def test_a_path_that_is_no_file_is_one_clear_error(tmp_path):
    for path, what in ((tmp_path, "not a file"), (tmp_path / "none.ts", "no such file")):
        with pytest.raises(DataError, match=what):
            read_ts(path)
