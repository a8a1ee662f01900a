"""The published folder of LG M50T cells: files of its layout, and pipelines against values worked by hand."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy.signal import savgol_filter

from paceline.errors import DataError
from paceline.recipes.battery import pipelines
from paceline.recipes.battery.lg_m50t import LgM50t

pytestmark = pytest.mark.fast

CAPACITY = [4800.0, 4560.0, 4320.0]


def summary(sets=(0, 1, 2), capacity=CAPACITY, temperature=(np.nan, 11.2, 11.4), **changes):
    n = len(sets)
    columns = {
        "Ageing Set": list(sets),
        "Ageing Set Start Date": ["01/02/2021"] * n,
        "Charge Throughput [A h]": np.arange(n) * 350.0,
        "Discharge Throughput [A h]": np.arange(n) * 348.0,
        "C/10 Capacity [mA h]": capacity,
        "SoH": np.array(capacity) / capacity[0],
        "0.1s Resistance [Ohms]": 0.020 + 0.001 * np.arange(n),
        "10s Resistance [Ohms]": 0.030 + 0.002 * np.arange(n),
        "Age set av. temperature [degC]": list(temperature),
    }
    return pd.DataFrame({**columns, **changes})


def written(folder, cell="A", celsius=10, experiment="5", frame=None):
    place = folder / f"Expt {experiment}" / "Summary Data" / "Performance Summary"
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"Expt {experiment} - cell {cell} ({celsius}degC) - Processed Data.csv"
    (summary() if frame is None else frame).to_csv(path, index=False)
    return path


def curve(folder, cell="A", rpt=0, shift=0.0):
    """A discharge from 4.2 V to 2.5 V whose dQ/dV has peaks of known place: three bells and a floor."""
    volts = np.linspace(4.2, 2.5, 1_701)
    slope = 50.0 + sum(h * np.exp(-0.5 * ((volts - v - shift) / 0.05) ** 2) for v, h in PEAKS)
    charge = np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2 * 0.001)])
    place = folder / "Expt 5" / "Processed Timeseries Data" / "0.1C Voltage Curves" / f"Cell {cell}"
    place.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"Time (s)": np.arange(len(volts)), "Voltage (V)": volts, "Charge (mA.h)": charge})
    frame.to_csv(place / f"Expt 5 - cell {cell} - RPT{rpt} - 0.1C discharge data.csv", index=False)


PEAKS = ((3.4, 4_000.0), (3.65, 9_000.0), (3.9, 5_000.0))


def test_the_summary_gives_seven_features_per_check_up(tmp_path):
    """C88: a toy file gives seven features, the Arrhenius factor as worked by hand."""
    written(tmp_path)
    written(tmp_path, cell="D", celsius=25, frame=summary(temperature=(25.0, 26.0, 26.5)))
    data = LgM50t(path=str(tmp_path)).load()
    assert data.columns["x"].shape == (6, 7) and data.channels == pipelines.SUMMARY
    second = data.columns["x"][1]
    kelvin = 11.2 + 273.15
    # 1000 / 284.35 = 3.516793; exp(-50000 / (8.314462618 x 284.35)) = exp(-21.148624) = 6.5355e-10
    hand = [350.0, 348.0, 0.021, 0.032, kelvin, 6.5355e-10, 3.516793]
    np.testing.assert_allclose(second, hand, rtol=1e-4)
    assert data.columns["x"][0, 4] == pytest.approx(283.15)  # no ageing before the first check-up: the chamber's
    np.testing.assert_allclose(data.columns["y"][:3], [1.0, 0.95, 0.9], rtol=1e-6)
    assert data.group.tolist() == ["A"] * 3 + ["D"] * 3
    assert data.columns["condition"].tolist() == [10.0] * 3 + [25.0] * 3


def test_the_arrhenius_factor_is_that_of_the_textbook():
    """C88: exp(-Ea / RT) with Ea = 50 kJ/mol at 25 C, worked by hand: -50000 / (8.314462618 x 298.15) = -20.16977."""
    assert pipelines.arrhenius(298.15) == pytest.approx(np.exp(-20.16977), rel=1e-5)
    assert pipelines.arrhenius(298.15) == pytest.approx(1.7393e-9, rel=1e-4)
    assert pipelines.arrhenius(298.15, 50_000.0, 298.15) == 1.0


def test_a_sequence_per_cell_has_days_and_relative_capacity(tmp_path):
    """C88: days are the number of the ageing set x 7, the target is capacity over the first one."""
    written(tmp_path, frame=summary(sets=(0, 1, 3)))
    four = {"sets": (0, 1, 2, 5), "capacity": [5000.0, 4900.0, 4700.0, 4500.0], "temperature": [40.0] * 4}
    written(tmp_path, cell="F", celsius=40, frame=summary(**four))
    data = LgM50t(path=str(tmp_path), pipeline="latent_ode_seq").load()
    assert data.columns["x"].shape == (2, 4, 7)
    np.testing.assert_array_equal(data.columns["t"], [[0, 7, 21, 0], [0, 7, 14, 35]])
    np.testing.assert_allclose(data.columns["y"], [[1, 0.95, 0.9, 0], [1, 0.98, 0.94, 0.9]], rtol=1e-6)
    assert data.columns["mask"].sum(axis=1).tolist() == [3, 4]


def test_the_peaks_of_a_discharge_curve_are_where_they_were_put(tmp_path):
    """C88: three peaks of |dQ/dV|, filter window 51 and order 3, each with position, height and width."""
    written(tmp_path)
    for rpt, shift in ((0, 0.0), (1, 0.01), (2, -0.02)):
        curve(tmp_path, rpt=rpt, shift=shift)
    data = LgM50t(path=str(tmp_path), pipeline="ica_peaks").load()
    x = data.columns["x"].reshape(3, 3, 3)
    assert data.channels[:3] == ("peak 1 position [V]", "peak 1 height", "peak 1 width [V]")
    for found, shift in zip(x, (0.0, 0.01, -0.02), strict=True):
        np.testing.assert_allclose(found[:, 0], [v + shift for v, _ in PEAKS], atol=0.003)
        np.testing.assert_allclose(found[:, 1], [h + 50 for _, h in PEAKS], rtol=0.03)
        np.testing.assert_allclose(found[:, 2], 2.355 * 0.05, rtol=0.1)  # the half width of a bell


def test_incremental_capacity_is_the_filters_derivative():
    """C88: against SciPy's own filter on an even grid; a parabola's derivative is exact."""
    volts = np.linspace(2.5, 4.2, pipelines.GRID)
    charge = 3.0 * volts**2
    grid, slope = pipelines.ica_curve(volts, charge)
    np.testing.assert_allclose(grid, volts)
    np.testing.assert_allclose(slope, 6 * volts, rtol=1e-6)
    step = volts[1] - volts[0]
    np.testing.assert_allclose(slope, savgol_filter(charge, 51, 3, deriv=1, delta=step), rtol=1e-9)
    np.testing.assert_allclose(pipelines.ica_curve(volts[::-1], charge[::-1])[1], slope)  # discharged or charged


def test_peaks_that_a_curve_lacks_are_zero():
    volts = np.linspace(2.5, 4.2, 400)
    bell = np.cumsum(np.exp(-0.5 * ((volts - 3.5) / 0.05) ** 2))
    found = pipelines.ica_peaks(volts, bell)
    assert found[0] == pytest.approx(3.5, abs=0.01) and not found[3:].any()


def test_check_ups_without_a_curve_are_left_out_with_a_line(tmp_path, caplog):
    written(tmp_path)
    for rpt in (0, 2):
        curve(tmp_path, rpt=rpt)
    with caplog.at_level(logging.WARNING, logger="paceline"):
        data = LgM50t(path=str(tmp_path), pipeline="ica_peaks").load()
    assert data.columns["t"].tolist() == [0, 14] and "1 of 3 check-ups have no C/10 discharge curve" in caplog.text


def test_one_of_several_experiments_is_chosen_by_its_number(tmp_path):
    written(tmp_path)
    written(tmp_path, experiment="2,2", celsius=40)
    assert set(LgM50t(path=str(tmp_path)).load().group) == {"5A", "2,2A"}
    assert set(LgM50t(path=str(tmp_path), experiment="2,2").load().columns["condition"]) == {40}
    with pytest.raises(DataError, match=r"(?s)no such experiment.*one of: 2,2, 5|try: .*5"):
        LgM50t(path=str(tmp_path), experiment="7").load()


def test_the_column_with_the_sign_of_degrees_is_known_too(tmp_path):
    frame = summary().rename(columns={"Age set av. temperature [degC]": "Age set av. temperature [°C]"})
    written(tmp_path, frame=frame)
    assert LgM50t(path=str(tmp_path)).load().columns["x"][1, 4] == pytest.approx(11.2 + 273.15)


BAD = {
    "no folder": (None, {}, "no such folder"),
    "empty folder": (lambda folder: folder.mkdir(), {}, "no file of the published layout.*Expt 5 - cell A"),
    "column": (lambda folder: written(folder, frame=summary().drop(columns="10s Resistance [Ohms]")), {},
               "no column '10s Resistance.*0.1s Resistance"),
    "empty cell": (lambda folder: written(folder, frame=summary(capacity=[4800, np.nan, 4300])), {"pipeline":
                   "latent_ode_seq"}, "a cell is empty.*line 3, column 'C/10 Capacity"),
    "sets": (lambda folder: written(folder, frame=summary(sets=(0, 2, 2))), {}, "does not increase.*line 4.*2 after 2"),
    "curves": (written, {"pipeline": "ica_peaks"}, "no C/10 discharge curves.*RPT0"),
    "twice": (lambda folder: (written(folder), written(folder, celsius=25)), {}, "two files are of the same cell"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_folders_are_refused_in_four_lines(name, tmp_path):
    write, changes, words = BAD[name]
    folder = tmp_path / "data"
    if write is not None:
        write(folder)
    with pytest.raises(DataError, match=rf"(?s){words}") as caught:
        LgM50t(path=str(folder), **changes).load()
    assert len(str(caught.value).splitlines()) <= 4


def test_a_curve_that_is_too_short_names_its_file(tmp_path):
    written(tmp_path)
    curve(tmp_path)
    (path,) = tmp_path.rglob("*RPT0*.csv")
    pd.read_csv(path).iloc[:40].to_csv(path, index=False)
    with pytest.raises(DataError, match=r"(?s)at least 51 points.*RPT0.*got: 40"):
        LgM50t(path=str(tmp_path), pipeline="ica_peaks").load()


def test_a_window_that_the_filter_cannot_have_is_refused():
    for window, order in ((50, 3), (5, 5)):
        with pytest.raises(ValidationError, match="odd and larger"):
            LgM50t(path="x", smoothing_window=window, smoothing_order=order)
