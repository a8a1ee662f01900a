"""The made-up cells: the law they follow, and its noise."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from paceline.data.audit import audit
from paceline.data.fingerprint import fingerprint
from paceline.data.split import make_splits
from paceline.recipes.battery.synthetic import CELLS, KNEE, BatterySynthetic, draw, knee_at, state_of_health

pytestmark = pytest.mark.fast


def test_eight_cells_at_three_temperatures_with_uneven_check_ups():
    data = BatterySynthetic().load()
    cells, counts = np.unique(data.group, return_counts=True)
    assert cells.tolist() == [name for name, _ in CELLS] and all(40 <= n <= 60 for n in counts)
    assert len(set(counts.tolist())) > 1  # unequal lengths
    assert {str(c): float(data.columns["condition"][data.group == c][0]) for c in cells} == dict(CELLS)
    steps = np.diff(data.columns["t"][data.group == "A"])
    assert steps.min() >= 5 and len(set(steps.tolist())) > 3  # uneven, in days


def test_the_law_is_the_one_that_is_written_down():
    """Worked by hand for a cell of average rate and knee, with 8.314462618 J/(mol K)."""
    film, late = state_of_health(np.array([4000.0]), 25.0)
    assert film[0] == pytest.approx(0.035 * 2, rel=1e-12)  # Arrhenius is 1 at 25 C, sqrt(4000 / 1000) = 2
    assert late[0] == pytest.approx(0.03 * np.log1p(np.exp((4000 - 7500) / 600)), rel=1e-9)
    warm, _ = state_of_health(np.array([4000.0]), 40.0)
    # exp(-31700 / 8.314462618 (1/313.15 - 1/298.15)) = 1.845098
    assert warm[0] / film[0] == pytest.approx(1.845098, rel=1e-5)
    assert knee_at(10.0) == KNEE[10.0] and knee_at(32.5) == (KNEE[25.0] + KNEE[40.0]) / 2
    half, quarter = state_of_health(np.array([2000.0, 500.0]), 25.0)[0]
    assert half / quarter == pytest.approx(2.0)  # the square root


def test_targets_differ_from_the_law_by_the_noise_alone():
    data = BatterySynthetic(seed=3).load()
    noise = data.columns["y"] - data.clean
    assert np.std(noise) == pytest.approx(0.004, rel=0.15) and abs(noise.mean()) < 0.001
    np.testing.assert_allclose(BatterySynthetic(noise=0).load().columns["y"], draw(0, 0.0).clean, atol=1e-6)
    for cell in "ABCDEFGH":
        assert (np.diff(data.clean[data.group == cell]) < 0).all()  # a cell never recovers


def test_the_noise_floor_is_said(caplog):
    with caplog.at_level(logging.INFO, logger="paceline"):
        data = BatterySynthetic(noise=0.01).load()
    assert "noise floor of these data is an RMSE of 0.01" in caplog.text and "noise floor: RMSE 0.01" in data.source


def test_the_draw_is_that_of_its_seed():
    assert fingerprint(BatterySynthetic().load()) == fingerprint(BatterySynthetic().load())
    assert fingerprint(BatterySynthetic().load()) != fingerprint(BatterySynthetic(seed=1).load())


def test_the_same_cells_come_as_sequences():
    data = BatterySynthetic(form="sequences").load()
    rows = BatterySynthetic().load()
    mask = data.columns["mask"]
    assert mask.shape[0] == 8 and data.clean.shape == data.columns["y"].shape
    np.testing.assert_array_equal(data.columns["y"][mask], rows.columns["y"])


def test_train_at_10_and_40_validate_inside_by_cell_test_at_25():
    """C90: the held-out temperature tests; cells of the other temperatures validate, whole."""
    section = BatterySynthetic(split={"rule": "value", "column": "condition", "values": {"test": [25]}})
    data = section.load()
    (split,) = make_splits(data, section.split)
    condition = data.columns["condition"]
    assert set(condition[split.test]) == {25} and set(condition[split.train]) <= {10, 40}
    assert set(condition[split.val]) <= {10, 40} and len(split.val)
    assert not set(data.group[split.train]) & set(data.group[split.val])
    checks = {check.name: check for check in audit(data, split)}
    assert checks["no group is in two parts"].ok
    near = checks["no feature is nearly the target itself"]
    assert not near.ok and "charge_throughput_ah" in near.detail
    folds = make_splits(data, section.split, n_folds=3)
    assert sorted(np.concatenate([fold.val for fold in folds]).tolist()) == sorted([*split.train, *split.val])
