"""Tables of cycles: what a sample is, what is read, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from paceline.data.config import SplitConfig
from paceline.data.prepare import Preparation
from paceline.data.split import make_splits
from paceline.data.unlabelled import Known
from paceline.errors import DataError
from paceline.recipes.battery.cells import CellForm, CellTable, shaped
from paceline.recipes.battery.cycles import Cycles

pytestmark = pytest.mark.fast

# Cells A with 5 rows and B with 9: a counts rows over all cells, b is its square, the target falls.
FRAME = pd.DataFrame(
    {
        "cell": ["A"] * 5 + ["B"] * 9,
        "cycle": [1, 2, 4, 7, 8, *range(1, 10)],
        "a": np.arange(14.0),
        "b": np.arange(14.0) ** 2,
        "soh": 1 - 0.01 * np.arange(14.0),
        "celsius": [10.0] * 5 + [25.0] * 9,
        "note": ["x"] * 14,
    }
)


def cycles(path, **changes):
    given = {"features": ["a", "b"], "target": "soh", "group": "cell", "time": "cycle", "condition": "celsius"}
    return Cycles(path=str(path), **{**given, **changes})


@pytest.fixture
def csv(tmp_path):
    FRAME.to_csv(tmp_path / "cells.csv", index=False)
    return tmp_path / "cells.csv"


def test_rows_are_samples_with_cell_time_and_condition_beside(csv):
    data = cycles(csv).load()
    np.testing.assert_array_equal(data.columns["x"], FRAME[["a", "b"]].to_numpy(np.float32))
    np.testing.assert_array_equal(data.columns["y"], FRAME["soh"].to_numpy(np.float32))
    np.testing.assert_array_equal(data.columns["t"], FRAME["cycle"])
    np.testing.assert_array_equal(data.columns["condition"], FRAME["celsius"])
    assert data.channels == ("a", "b") and data.group.tolist() == FRAME["cell"].tolist()
    assert data.ids[:3].tolist() == ["A-1", "A-2", "A-4"] and data.source == "cells.csv"


def test_rows_of_cells_that_alternate_in_the_file_are_gathered(tmp_path, csv):
    mixed = FRAME.iloc[[5, 0, 6, 1, 2, 7, 8, 3, 9, 10, 4, 11, 12, 13]]
    mixed.to_csv(tmp_path / "mixed.csv", index=False)
    one, other = cycles(csv).load(), cycles(tmp_path / "mixed.csv").load()
    for name, column in one.columns.items():
        np.testing.assert_array_equal(column, other.columns[name])


def test_history_is_of_the_same_cell_and_earlier(csv):
    data = cycles(csv, history=2, features=["a"]).load()
    assert data.channels == ("a", "a, 1 before", "a, 2 before")
    np.testing.assert_array_equal(data.columns["x"][:7], [[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, 2, 1], [4, 3, 2],
                                                          [5, 5, 5], [6, 5, 5]])  # fmt: skip


def test_a_whole_cell_is_a_sequence_with_a_target_at_every_step(csv):
    """Cells of 5 and 9 rows, on their own uneven times, are padded and masked."""
    data = cycles(csv, form="sequences").load()
    x, y, mask, t = (data.columns[name] for name in ("x", "y", "mask", "t"))
    assert x.shape == (2, 9, 2) and y.shape == mask.shape == t.shape == (2, 9)
    assert mask.sum(axis=1).tolist() == [5, 9] and data.columns["condition"].tolist() == [10, 25]
    np.testing.assert_array_equal(t[0], [1, 2, 4, 7, 8, 0, 0, 0, 0])
    np.testing.assert_array_equal(x[mask], FRAME[["a", "b"]].to_numpy(np.float32))
    np.testing.assert_array_equal(y[mask], FRAME["soh"].to_numpy(np.float32))
    assert not x[~mask].any() and not y[~mask].any() and data.ids.tolist() == ["A", "B"]


def test_a_window_ends_with_its_row_and_begins_within_its_cell(csv):
    data = cycles(csv, form="sequences", length=3, features=["a"]).load()
    x, mask = data.columns["x"][:, :, 0], data.columns["mask"]
    assert x.shape == (14, 3) and data.columns["y"].shape == (14,)
    own = {row: x[row][mask[row]].tolist() for row in (0, 1, 2, 4, 5, 6)}
    assert own == {0: [0], 1: [0, 1], 2: [0, 1, 2], 4: [2, 3, 4], 5: [5], 6: [5, 6]}
    np.testing.assert_array_equal(data.columns["y"], FRAME["soh"].to_numpy(np.float32))


def test_what_is_derived_is_of_the_rows_so_far(csv):
    data = cycles(csv, features=["b"], derived=["change", "mean", "count"]).load()
    assert data.channels == ("b", "b change", "b mean", "count")
    b, cell = FRAME["b"], FRAME["cell"]
    expected = np.stack(
        [b, b - b.groupby(cell).transform("first"), b.groupby(cell).expanding().mean().to_numpy(),
         FRAME.groupby("cell").cumcount() + 1], axis=1,
    )  # fmt: skip
    np.testing.assert_allclose(data.columns["x"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "form",
    [
        {"history": 3},
        {"smooth": 3, "history": 1},
        {"derived": ("change", "mean", "count")},
        {"form": "sequences", "length": 4},
        {"form": "sequences", "derived": ("mean",)},
    ],
)
def test_nothing_of_the_future_enters_a_sample(form):
    """Changing every later row of the cell, and every other cell, leaves a sample's valid values as they were."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(14, 2))

    def made(features):
        table = CellTable(
            features=features, names=("a", "b"), cell=FRAME["cell"].to_numpy(str), target=np.zeros(14),
            time=FRAME["cycle"].to_numpy(float),
        )  # fmt: skip
        return shaped(table, CellForm(**form)).columns

    before = made(values)
    for row in range(14):
        changed = rng.normal(size=(14, 2))
        first = 0 if row < 5 else 5
        changed[first : row + 1] = values[first : row + 1]
        after = made(changed)
        if before["y"].ndim == 2:  # a sample per cell: its steps up to the row
            own, steps = (0, row + 1) if row < 5 else (1, row - 4)
            np.testing.assert_array_equal(after["x"][own, :steps], before["x"][own, :steps])
        else:
            np.testing.assert_array_equal(after["x"][row], before["x"][row])


def test_a_parquet_file_gives_what_the_csv_gives(csv, tmp_path):
    pytest.importorskip("pyarrow")
    FRAME.to_parquet(tmp_path / "cells.parquet")
    one, other = cycles(csv).load(), cycles(tmp_path / "cells.parquet").load()
    for name, column in one.columns.items():
        np.testing.assert_array_equal(column, other.columns[name])
    with pytest.raises(DataError, match=r"(?s)no column 'aa'.*data.features=aa.*try: a "):
        cycles(tmp_path / "cells.parquet", features=["aa"]).load()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(DataError, match="cannot be read"):
        cycles(tmp_path / "broken.parquet").load()


def test_parquet_without_its_reader_names_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "cells.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"(?s)needs pyarrow.*pip install pyarrow") as caught:
        cycles(tmp_path / "cells.parquet").load()
    assert len(str(caught.value).splitlines()) <= 4


def test_dates_become_days_since_the_first(tmp_path):
    days = pd.to_datetime("2020-01-01") + pd.to_timedelta(FRAME["cycle"] * 12, unit="h")
    FRAME.assign(cycle=days.dt.strftime("%Y-%m-%dT%H:%M")).to_csv(tmp_path / "dated.csv", index=False)
    t = cycles(tmp_path / "dated.csv").load().columns["t"]
    np.testing.assert_allclose(t, (FRAME["cycle"] - 1) / 2)


def test_without_times_rows_count_within_their_cell(csv):
    assert cycles(csv, time=None).load().columns["t"].tolist() == [*range(5), *range(9)]


def test_missing_features_are_filled_where_asked(tmp_path):
    FRAME.assign(a=FRAME["a"].where(FRAME["a"] != 6)).to_csv(tmp_path / "gaps.csv", index=False)
    data = cycles(tmp_path / "gaps.csv", missing="mask", derived=["mean"]).load()
    assert np.isnan(data.columns["x"][6, 0]) and np.isfinite(data.columns["x"][:, 2:]).all()
    np.testing.assert_allclose(data.columns["x"][7, 2], (5 + 7) / 2)


def test_scaling_is_fitted_on_the_training_rows(csv):
    """C24: the scaler's mean and deviation are those of the training rows, not of all rows."""
    section = cycles(csv)
    data = section.load()
    split = make_splits(data, SplitConfig(rule="value", values={"val": ["B"]}))[0]
    scaler = Preparation.fit(data, split.train, section).scaler
    train, everything = FRAME[FRAME["cell"] == "A"][["a", "b"]], FRAME[["a", "b"]]
    np.testing.assert_allclose(scaler.mean, train.mean(), rtol=1e-6)
    np.testing.assert_allclose(scaler.std, train.std(ddof=0), rtol=1e-6)
    assert not np.allclose(scaler.mean, everything.mean())


def test_new_rows_to_predict_need_no_target(csv, tmp_path):
    section = cycles(csv, history=1)
    FRAME.drop(columns=["soh", "celsius"]).to_csv(tmp_path / "new.csv", index=False)
    known = Known(channels=section.load().channels, has_steps=False, missing="refuse", reading={})
    found = section.read_input(tmp_path / "new.csv", known)
    np.testing.assert_array_equal(found.x, section.load().columns["x"])
    np.testing.assert_array_equal(found.columns["t"], FRAME["cycle"])
    assert found.ids[0] == "A-1" and section.read_input(tmp_path / "new.npz", known) is None


def spoiled(**changes):
    def write(path):
        frame = FRAME.astype(object)
        for name, (row, value) in changes.items():
            frame.loc[row, name] = value
        frame.to_csv(path, index=False)

    return write


BAD = {
    "missing feature": (None, {"features": ["a", "bb"]}, "no column 'bb'.*got: data.features=bb.*try: b "),
    "missing target": (None, {"target": "SOH"}, "no column 'SOH'.*got: data.target=SOH.*soh"),
    "missing cell": (None, {"group": "battery"}, "no column 'battery'.*got: data.group.*cell"),
    "missing time": (None, {"time": "cycles"}, "no column 'cycles'.*try: cycle "),
    "missing condition": (None, {"condition": "temp"}, "no column 'temp'.*got: data.condition=temp"),
    "C17 empty feature": (spoiled(a=(3, None)), {}, "1 rows have a missing value.*line 5, column 'a'.*lines 5"),
    "C17 empty target": (spoiled(soh=(6, None)), {}, "missing value.*line 8, column 'soh'"),
    "C17 infinite": (spoiled(b=(6, "inf")), {}, "too large.*line 8, column 'b'"),
    "time stands still": (spoiled(cycle=(2, 2)), {}, "does not increase.*line 4.*2 after 2.*line 3.*cell A"),
    "time runs back": (spoiled(cycle=(7, 1)), {}, "does not increase.*line 9.*1 after 2"),
    "text feature": (None, {"features": ["note"]}, "no number.*line 2, column 'note'.*got: x"),
    "text condition": (None, {"condition": "note"}, "no number.*column 'note'"),
    "one row": (spoiled(cell=(4, "C")), {"form": "sequences"}, "one row, which is no sequence.*got: C"),
    "two conditions": (spoiled(celsius=(4, 40)), {"form": "sequences"}, "more than one condition.*cell A.*10 and 40"),
    "no file": (lambda path: None, {}, "no such file"),
    "C18 no rows": (lambda path: path.write_text("cell,cycle,a,b,soh,celsius\n"), {}, "a header and no rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_refused_in_four_lines_naming_the_place(name, tmp_path):
    write, changes, words = BAD[name]
    path = tmp_path / "bad.csv"
    (write or spoiled())(path)
    with pytest.raises(DataError, match=rf"(?s){words}") as caught:
        cycles(path, **changes).load()
    assert len(str(caught.value).splitlines()) <= 4 and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features": ["a", "soh"]}, "features names the target"),
        ({"features": ["a", "a"]}, "twice"),
        ({"features": []}, "at least 1"),
        ({"history": 2, "form": "sequences"}, "history is for form=rows"),
        ({"length": 2}, "length is for form=sequences"),
        ({"derived": ["mean", "mean"]}, "twice"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        cycles("cells.csv", **changes)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        pytest.param({"values": {"test": [30]}}, "no sample has this value.*got: 30.*10.0, 25.0", id="C18 none"),
        pytest.param({"values": {"val": [10, 25]}}, "the train part has no samples", id="C18 nothing left to train"),
    ],
)
def test_temperatures_that_leave_a_part_empty_are_refused(csv, split, words):
    with pytest.raises(DataError, match=rf"(?s){words}"):
        make_splits(cycles(csv).load(), SplitConfig(rule="value", column="condition", **split))


def test_a_temperature_cannot_validate_and_test(csv):
    with pytest.raises(ValidationError, match="val and test both name 25"):
        SplitConfig(rule="value", column="condition", values={"val": [25], "test": [25.0]})


def test_a_cell_cannot_be_in_the_test_part_and_outside_it(tmp_path):
    spoiled(celsius=(4, 25))(tmp_path / "moved.csv")
    data = cycles(tmp_path / "moved.csv").load()
    with pytest.raises(DataError, match=r"(?s)both in the test part and outside it.*got: A"):
        make_splits(data, SplitConfig(rule="value", column="condition", values={"test": [25]}))


def test_smoothed_features_are_means_of_the_latest_rows_of_the_cell(csv):
    found = cycles(csv, smooth=3, derived=["count"]).load().columns["x"]
    plain = FRAME["a"].to_numpy()
    first = np.r_[[0] * 5, [5] * 9]
    expected = [plain[max(first[row], row - 2) : row + 1].mean() for row in range(14)]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(found[:, 2], [*range(1, 6), *range(1, 10)])


def test_what_comes_later_or_elsewhere_does_not_enter_a_smoothed_row(tmp_path, csv):
    whole = cycles(csv, smooth=4, derived=["mean", "change"]).load()
    FRAME.iloc[:8].to_csv(tmp_path / "begun.csv", index=False)
    begun = cycles(tmp_path / "begun.csv", smooth=4, derived=["mean", "change"]).load()
    np.testing.assert_array_equal(whole.columns["x"][:8], begun.columns["x"])


def test_smoothing_leaves_a_missing_value_missing(tmp_path):
    FRAME.assign(a=FRAME["a"].where(FRAME.index != 7)).to_csv(tmp_path / "gap.csv", index=False)
    with pytest.raises(DataError, match="missing"):
        cycles(tmp_path / "gap.csv", smooth=3).load()
    x = cycles(tmp_path / "gap.csv", smooth=3, missing="mask").load().columns["x"]
    assert np.isnan(x[7, 0]) and x[8, 0] == pytest.approx((6 + 8) / 2)
