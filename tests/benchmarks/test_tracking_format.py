"""What `x.py bench tracking` makes of its rows."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        spec = importlib.util.spec_from_file_location("bench_tracking", BENCHMARKS / "tracking.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
        for name in [name for name in sys.modules if name.partition(".")[0] == "arms"]:
            del sys.modules[name]


def row(tracked: bool, **values: object) -> dict[str, object]:
    plain = {"tracked": tracked, "epochs": 1000, "seconds": 61.0, "ms_per_epoch": 60.0, "waiting": 0.02, "put": 0.0,
             "start_seconds": 0.0, "close_seconds": 0.0}  # fmt: skip
    return {**plain, **({"values": 8000, "wrong": []} if tracked else {}), **values}


def test_blocked_is_the_queue_and_what_is_waited_for_beyond_the_training_alone(bench):
    rows = [row(False), row(True, waiting=0.025, put=0.001, ms_per_epoch=60.3)] * 2
    result = bench.report(rows)
    assert result["results"]["blocked"] == pytest.approx(0.006)
    assert result["results"]["wall_ratio"] == pytest.approx(1.005)
    assert (result["missed"], result["values_read_back"]) == ([], 16000)
    assert json.loads(json.dumps(result)) == result
    assert "0.600%" in bench.lines(result)[0]


def test_a_share_above_the_bar_and_a_value_that_differs_are_missed(bench):
    result = bench.report([row(False), row(True, waiting=0.031, wrong=["MLflow: seed42 lr"])])
    assert result["missed"] == ["blocked for 1.10%, at most 1%", "1 series differ"]


def test_points_are_the_same_to_the_bit_and_nan_is_nan(bench):
    assert bench.same([(1, 0.5), (2, float("nan"))], [(1, 0.5), (2, float("nan"))])
    assert not bench.same([(1, 0.5)], [(1, 0.5 + 1e-16 + 1e-15)])
    assert not bench.same([(1, 0.5), (1, 0.5)], [(1, 0.5)])
