"""`data=ts`: files of the UEA archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paceline.errors import DataError
from paceline.recipes.pain.data import Vowels
from paceline.recipes.pain.ts import Ts

pytestmark = pytest.mark.fast
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "timeseries"
HEAD = "@classLabel true low high\n@data\n"


def test_the_published_vowels_are_the_bundled_ones():
    if not PUBLISHED.exists():
        pytest.skip("the published text files are not beside this checkout")
    files = {"path": PUBLISHED / "JapaneseVowels_TRAIN.ts", "test": PUBLISHED / "JapaneseVowels_TEST.ts"}
    data, bundled = Ts(**{key: str(path) for key, path in files.items()}).load(), Vowels().load()
    assert set(data.columns) == set(bundled.columns) and data.classes == bundled.classes
    for name, column in bundled.columns.items():
        np.testing.assert_array_equal(data.columns[name], column)
        assert data.columns[name].dtype == column.dtype
    assert data.test.tolist() == bundled.test.tolist()


def test_classes_have_the_order_of_the_header_and_the_second_file_is_the_test_part(tmp_path):
    (tmp_path / "a.ts").write_text(HEAD + "1,2:3,4:high\n5:6:low\n")
    (tmp_path / "b.ts").write_text(HEAD + "7,8,9:1,1,1:low\n")
    data = Ts(path=str(tmp_path / "a.ts"), test=str(tmp_path / "b.ts")).load()
    assert data.classes == ("low", "high") and data.columns["y"].tolist() == [1, 0, 0]
    assert data.columns["mask"].sum(1).tolist() == [2, 1, 3] and data.test.tolist() == [2]
    assert data.columns["x"][2].tolist() == [[7, 1], [8, 1], [9, 1]]
    (tmp_path / "c.ts").write_text("@data\n1:2\n")
    alone = Ts(path=str(tmp_path / "a.ts")).load()
    assert alone.test is None and len(alone) == 2


WRONG = {
    "no labels": (HEAD + "1:low\n2:high\n", "@classLabel false\n@data\n1\n", "no class labels"),
    "other channels": (HEAD + "1:low\n2:high\n", HEAD + "1:2:low\n", "differ in their number of channels"),
    "another class": (
        "@classLabel true\n@data\n1:low\n2:high\n",
        "@classLabel true\n@data\n1:mid\n",
        "not in the train",
    ),
    "missing": (HEAD + "1:low\n2:high\n", HEAD + "?:low\n", "value is missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_do_not_go_together_are_refused(tmp_path, name):
    train, test, what = WRONG[name]
    for file, text in (("a.ts", train), ("b.ts", test)):
        (tmp_path / file).write_text(text)
    with pytest.raises(DataError, match=what) as caught:
        Ts(path=str(tmp_path / "a.ts"), test=str(tmp_path / "b.ts")).load()
    assert "b.ts" in caught.value.where


def test_missing_values_are_read_where_they_are_masked(tmp_path):
    (tmp_path / "a.ts").write_text(HEAD + "1,?:low\n2,3:high\n")
    x = Ts(path=str(tmp_path / "a.ts"), missing="mask").load().columns["x"]
    np.testing.assert_array_equal(x[:, :, 0], [[1, np.nan], [2, 3]])
