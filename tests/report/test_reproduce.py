"""What differs from the defaults, and how to make the run again."""

from __future__ import annotations

import json

import pytest

from paceline.report.files import read
from paceline.report.reproduce import changes, ingredients, typed
from tests.report.folder import change, write_folder

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (None, "null"),
        (1e-4, "0.0001"),
        ("", '""'),
        ("a\u202eb", "a\ufffdb"),
        ([0.9, 0.999], "[0.9, 0.999]"),
        ({"name": "norm", "value": 5.0}, "{name: norm, value: 5.0}"),
        (list(range(42, 82)), "[42, 43, 44, …, 81] (40 values)"),
    ],
)
def test_values_read_as_they_are_typed(value, text):
    assert typed(value) == text


def test_only_what_differs_is_listed_with_its_default(tmp_path):
    view = changes(read(write_folder(tmp_path)))
    assert view.table.rows == [["training.batch_size", "32", "64"], ["members.vary.model", "[gru, conv_gru]", "–"]]
    assert view.lead == "2 values differ from the defaults of the recipe pain."


def test_a_run_of_defaults_says_so_and_an_older_run_says_nothing(tmp_path):
    write_folder(tmp_path)
    change(tmp_path, "environment.json", changed=[])
    view = changes(read(tmp_path))
    assert view.table is None and view.lead == "Every value is a default of the recipe pain."
    made = json.loads((tmp_path / "environment.json").read_text())
    del made["changed"]
    (tmp_path / "environment.json").write_text(json.dumps(made))
    assert changes(read(tmp_path)) is None


def test_seeds_splits_data_and_versions_are_named(tmp_path):
    found = dict(ingredients(read(write_folder(tmp_path, seeds=4, folds=3))))
    assert found["seeds"] == "42 to 45" and found["folds"] == "3" and found["split seed"] == "42"
    assert found["data fingerprint"] == "sha256:3fa9c1d07be2…"
    assert (found["torch"], found["python"], found["device"]) == ("2.13.0", "3.12.9", "cpu")


def test_a_folder_without_files_has_no_ingredients(tmp_path):
    tmp_path.joinpath("empty").mkdir()
    assert ingredients(read(tmp_path / "empty")) == []
