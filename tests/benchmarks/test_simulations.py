"""The simulations behind the intervals and tests, with few repeats."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _folder_on_the_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def quick(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict, str]:
    assert load(name).main(["--quick", "--json", str(tmp_path / "found.json")]) == 0
    return json.loads((tmp_path / "found.json").read_text()), capsys.readouterr().out


def test_coverage_prints_a_table_and_writes_the_common_form(tmp_path, capsys):
    found, out = quick("coverage", tmp_path, capsys)
    assert (found["name"], found["unit"][:5]) == ("coverage", "share")
    results = found["results"]
    assert results["seeds, t: accuracy"] > 0.85
    assert results["folds, corrected: accuracy"] > 0.8 > 0.65 > results["folds, naive t: accuracy"]
    assert found["ratios"]["width corrected/oracle: accuracy"] < 1.6
    assert all(name in out for name in results)


def test_compare_power_prints_a_table_and_writes_the_common_form(tmp_path, capsys):
    found, out = quick("compare_power", tmp_path, capsys)
    assert found["name"] == "compare_power"
    results = found["results"]
    assert results["false winners, 10 seeds, paired t"] < 0.2
    assert results["false winners, 10 x 5 folds, naive t"] > 0.3
    assert results["power, 10 seeds, paired t"] > 0.6
    assert set(found["ratios"]) == {"compare/oracle, 10 seeds, paired t", "compare/oracle, 10 x 5 folds, corrected"}
    assert all(name in out for name in results)


@pytest.mark.fast
def test_networks_train_apart_though_they_train_at_once():
    nets = load("coverage").train.__globals__
    generator = torch.Generator().manual_seed(0)
    x, y = nets["draw"](3, 40, generator)
    alone = nets["train"](x[:1], y[:1], torch.Generator().manual_seed(1))
    # A network's gradient is its own: other data beside it changes nothing.
    both = nets["train"](torch.cat([x[:1], x[:1]]), torch.cat([y[:1], y[:1]]), torch.Generator().manual_seed(2))
    other = nets["train"](torch.cat([x[:1], x[1:2]]), torch.cat([y[:1], y[1:2]]), torch.Generator().manual_seed(2))
    for first, second, single in zip(both, other, alone, strict=True):
        assert torch.allclose(first[0], second[0], atol=1e-6)
        assert first.shape[1:] == single.shape[1:]


@pytest.mark.fast
def test_networks_learn_what_can_be_learned():
    nets = load("coverage").train.__globals__
    generator = torch.Generator().manual_seed(0)
    x, y = nets["draw"](20, 400, generator)
    params = nets["train"](x, y, generator)
    x, y = nets["draw"](20, 2000, generator)
    found = nets["scores"](params, x, y)
    assert found.accuracy_K.mean() > 0.72
    assert found.log_loss_K(y).mean() < math.log(2)


@pytest.mark.fast
def test_redrawn_folds_hold_every_sample_once():
    nets = load("coverage").train.__globals__
    train, test = nets["redrawn_folds"](20, 5, 3, torch.Generator().manual_seed(0))
    assert train.shape == (15, 16) and test.shape == (15, 4)
    for repeat in range(3):
        rows = slice(5 * repeat, 5 * repeat + 5)
        assert sorted(test[rows].flatten().tolist()) == list(range(20))
        for into, out in zip(train[rows], test[rows], strict=True):
            assert sorted([*into.tolist(), *out.tolist()]) == list(range(20))
    assert test[:5].tolist() != test[5:10].tolist()


@pytest.mark.fast
def test_a_missed_aim_fails_unless_it_was_a_quick_look(capsys):
    outcome = (
        sys.modules["stacked.outcome"]
        if "stacked.outcome" in sys.modules
        else importlib.import_module("stacked.outcome")
    )
    rows = [outcome.Row(name="x", value=0.5, repeats=100, low=0.9), outcome.Row(name="y", value=2.0)]
    assert outcome.finish({}, rows, outcome.arguments("coverage", "", [])) == 1
    assert "MISSED: x" in capsys.readouterr().err
    assert outcome.finish({}, rows, outcome.arguments("coverage", "", ["--quick"])) == 0
    assert "at least 0.900, MISSED" in capsys.readouterr().out
