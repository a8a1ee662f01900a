"""A loss whose compiled step is known to crash runs uncompiled, also where compiling is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.api.runs import train

RECIPE = Path(__file__).parents[1] / "train" / "numbers_recipe.py"


@pytest.mark.parametrize("compile", ["true", "auto"])
def test_mape_is_never_compiled_on_a_cpu(compile: str, tmp_path: Path) -> None:
    options = ["task=numbers", "loss=mape", "training.engine=cohort", "members.seeds=2", "training.num_epochs=1"]
    run = train(overrides=[*options, f"training.compile={compile}"], use=[RECIPE], runs=tmp_path, name="run")
    assert [cohort["compile"] for cohort in run.read_json("plan.json")["cohorts"]] == [False]
