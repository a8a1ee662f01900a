"""How rows of the fault benchmark are gathered in one file, run one after another."""

from __future__ import annotations

import json
import sys

import pytest

from tests.benchmarks.test_cohort_format import FOLDER, load

pytestmark = [pytest.mark.fast, pytest.mark.skipif(sys.platform != "linux", reason="faults need fork and /proc")]


@pytest.fixture(scope="module")
def faults():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield load("faults")


def row(faults, key, landed, *, lost=False):
    made = faults.Row(name=key.title(), key=key, aim="", landed=landed, seed=3)
    if lost:
        made.lose("a state")
    return made.judge()


def test_a_row_that_is_run_again_replaces_its_own_and_the_others_stay(faults, tmp_path):
    file = tmp_path / "faults.json"
    assert faults.earlier(file, [], quick=False) == []
    first = [row(faults, "power", 5), row(faults, "eager", 9, lost=True)]
    file.write_text(json.dumps(faults.report([one.to_json() for one in first], tmp_path, quick=False, seed=3)))
    fresh = [row(faults, "eager", 7)]
    kept = faults.earlier(file, fresh, quick=False)
    found = faults.report([*kept, fresh[0].to_json()], tmp_path, quick=False, seed=4)
    assert found["results"] == {"Eager": 7, "Power": 5}  # in the order in which they run
    assert [one["seed"] for one in found["rows"]] == [3, 3] and found["missed"] == {}
    assert "damages" in found["not run"] and not {"eager", "power"} & set(found["not run"])


def test_what_a_kept_row_missed_is_still_missed(faults, tmp_path):
    file = tmp_path / "faults.json"
    missed = row(faults, "eager", 1, lost=True).to_json()
    file.write_text(json.dumps(faults.report([missed], tmp_path, quick=True, seed=0)))
    kept = faults.earlier(file, [row(faults, "power", 5)], quick=True)
    assert faults.report(kept, tmp_path, quick=True, seed=0)["missed"] == {"Eager": ["nothing lost"]}


def test_quick_rows_do_not_stand_beside_full_ones(faults, tmp_path, capsys):
    file = tmp_path / "faults.json"
    file.write_text(json.dumps(faults.report([], tmp_path, quick=True, seed=0)))
    for words in (["--add", "--json", str(file)], ["--add"]):
        with pytest.raises(SystemExit):
            faults.parse(words)
    assert "is of quick rows" in capsys.readouterr().err
    assert faults.parse(["--add", "--quick", "--json", str(file)]).add
