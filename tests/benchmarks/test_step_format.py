from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.fast

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "step.py"


@pytest.fixture(scope="module")
def step() -> ModuleType:
    """The script as a module: it needs the standard library alone, so no peer has to be installed."""
    spec = importlib.util.spec_from_file_location("benchmark_step", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(arm: str, us: float, *, loss: float = 0.3, steps: int = 2500, threads: int = 1) -> dict[str, object]:
    save = None if arm == "hf" else 4.0
    return {
        "arm": arm, "steps": steps, "us_per_step": us, "cpu_us_per_step": us - 1, "around_ms": 10.0,
        "save_ms": save, "val_loss": loss, "threads": threads,
    }  # fmt: skip


def rows() -> list[dict[str, object]]:
    times = {"hf": (700.0, 600.0, 660.0), "hand": (200.0, 190.0, 500.0), "paceline": (180.0, 220.0, 150.0)}
    return [row(arm, us) for arm, values in times.items() for us in values]


def test_results_are_medians_and_ratios_are_ratios_of_medians(step: ModuleType) -> None:
    result = step.report(rows(), {})
    assert result["results"] == {"hand": 200.0, "paceline": 180.0, "hf": 660.0}
    assert result["ratios"] == {"paceline/hand": 0.9, "hf/paceline": 660 / 180}
    assert result["spread"]["hand"] == [190.0, 500.0]


def test_the_json_has_the_promised_keys_and_no_save_time_where_none_is_known(step: ModuleType) -> None:
    result = json.loads(json.dumps(step.report(rows(), {"threads": 1})))
    assert (result["name"], result["unit"]) == ("step", "us")
    assert {"results", "ratios", "spread", "final_val_loss", "save_ms", "environment"} <= set(result)
    assert result["save_ms"] == {"hand": 4.0, "paceline": 4.0}


def test_the_table_names_every_arm_and_says_whether_the_aims_are_met(step: ModuleType) -> None:
    text = step.table(step.report(rows(), {}))
    assert all(any(line.startswith(arm) for line in text.splitlines()) for arm in ("hand", "paceline", "hf"))
    assert "at most 1.10, met" in text
    slow = [row("hand", 100.0), row("paceline", 111.0)]
    assert "at most 1.10, MISSED" in step.table(step.report(slow, {}))


def test_the_table_says_when_the_machine_was_busy(step: ModuleType) -> None:
    assert "NOTE" not in step.table(step.report(rows(), {}))
    busy = [*rows(), row("skorch", 400.0) | {"cpu_us_per_step": 300.0}]
    assert "NOTE" in step.table(step.report(busy, {}))


def test_equal_work_is_no_problem(step: ModuleType) -> None:
    assert step.problems([row("hand", 1.0), row("hf", 1.0, loss=0.32)], steps=2500, threads=1) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"loss": 0.33}, "validation loss"),
        ({"loss": float("nan")}, "validation loss"),
        ({"steps": 2490}, "2490 steps"),
        ({"threads": 2}, "2 threads"),
    ],
)
def test_unequal_work_is_a_problem(step: ModuleType, changed: dict[str, float], words: str) -> None:
    (problem,) = step.problems([row("hand", 1.0), row("skorch", 1.0, **changed)], steps=2500, threads=1)
    assert problem.startswith("skorch")
    assert words in problem


def test_each_round_runs_every_arm_and_starts_one_later(step: ModuleType) -> None:
    assert step.schedule(["a", "b", "c"], 2) == ["a", "b", "c", "b", "c", "a"]


def test_an_unknown_arm_is_a_usage_error_naming_the_arms(step: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        step.parse(["--arms", "hand,keras"])
    assert stop.value.code == 2
    assert "'keras'" in capsys.readouterr().err


def test_the_malicious_releases_are_not_pinned() -> None:
    pins = (SCRIPT.parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [pin for pin in pins if pin and not pin.startswith("#")]
    assert all("==" in pin for pin in pins)
    assert "lightning==2.6.6" in pins
    assert "pytorch-lightning==2.6.6" in pins
