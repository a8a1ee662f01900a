"""The benchmark of state of health: its figures by hand, its choice, one look at a made-up table."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks.test_simulations import FOLDER, load


@pytest.fixture(scope="module", autouse=True)
def _folder_on_the_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield


@pytest.fixture(scope="module")
def bench():
    load("quality_battery")
    return sys.modules["quality.battery"]


@pytest.mark.fast
def test_an_arm_is_the_mean_over_cells_and_seeds(bench):
    found = bench.of_arm({"A": {0: 0.1, 1: 0.3, -1: 0.05}, "B": {0: 0.2, 1: 0.2, -1: 0.15}})
    assert found["mean"] == pytest.approx(0.2) and found["ensemble"] == pytest.approx(0.1)
    assert found["cells"] == {"A": [0.1, 0.3], "B": [0.2, 0.2]} and found["seeds"] == 2
    assert found["std over seeds"] == pytest.approx(np.std([0.15, 0.25], ddof=1))


@pytest.mark.fast
def test_one_candidate_is_chosen_by_the_geometric_mean_over_sets_of_features(bench):
    one, two = (bench.Candidate(n, False, 1.0, 0.01) for n in (1, 5))
    large = {(one, "A"): 0.2, (one, "B"): 0.2, (two, "A"): 0.25, (two, "B"): 0.25}
    small = {(one, "A"): 0.03, (one, "B"): 0.03, (two, "A"): 0.01, (two, "B"): 0.03}
    assert bench.best([large]) == one and bench.best([large, small]) == two
    assert bench.best([large, small], "B") == one


@pytest.mark.slow
def test_a_look_measures_every_arm_and_lists_every_try(bench, tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [
        {"cell": cell, "cycle": n, "mean_discharge_v": 3.5 - 0.001 * n + 0.01 * rng.normal(),
         "mean_discharge_temp_c": 30 + rng.normal(), "t_3p8_3p5_s": 1600 - 5 * n + rng.normal(), "soh": 1 - 0.003 * n}
        for cell in "ABCD" for n in range(1, 31)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "cells.csv", index=False)
    target = tmp_path / "found.json"
    main = load("quality_battery").main
    assert main(["--quick", "--data", str(tmp_path / "cells.csv"), "--json", str(target)]) == 0
    found = json.loads(target.read_text())
    names = {f"{arm}-{which}" for arm in ("paceline-chosen", "paceline-chosen-per-fold", "ols", "forest", "lightgbm")
             for which in ("all", "without")}  # fmt: skip
    assert names <= set(found["results"])
    assert all(0 < value < 1 for value in found["results"].values())
    assert len(found["tries"]) == 2 * 2 * 4 and all(set(t["inner"]) == set("ABCD") for t in found["tries"])
    assert set(found["arms"]["paceline-chosen-all"]["cells"]) == set("ABCD")
    assert "paceline-chosen-all: at most" not in capsys.readouterr().err
