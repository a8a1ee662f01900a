"""Members that predict numbers, per row and per step: together as alone, from the folder as in training."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from paceline.api.runs import train
from paceline.api.using import predict
from paceline.checkpoint.store import read_state
from paceline.recipes.battery.synthetic import BatterySynthetic
from paceline.run.folder import Run

RECIPE = Path(__file__).parent / "numbers_recipe.py"


def run(folder: Path, name: str, *overrides: str) -> Run:
    return train(overrides=["task=numbers", *overrides], use=[RECIPE], runs=folder, name=name)


def rows(run: Run) -> dict[tuple[str, int, str], dict[str, float]]:
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    return {(line["member"], line["epoch"], line["split"]): line["values"] for line in lines}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["data=rows", "model=mlp", "loss=quantile"], id="mlp, quantiles"),
        pytest.param(["data=rows", "model=mlp", "loss=mape", "loss.near_zero=0"], id="mlp, mape"),
        pytest.param(["data=steps", "model=mlp", "loss=huber", "training.gradient_accumulation_steps=2"],
                     id="mlp on steps, huber"),
        pytest.param(["data=steps", "model=lstm", "loss=physics_informed", "loss.monotonicity_weight=0.3",
                      "loss.smoothness_weight=0.2"], id="lstm, physics-informed"),
    ],
)  # fmt: skip
def test_members_together_are_those_alone_to_1e_9(options: list[str], tmp_path: Path) -> None:
    """C15: of a loss with several terms and masks, too; each fold has the scale of its own targets."""
    both = [*options, "members.seeds=2", "members.folds=2"]
    together = run(tmp_path, "together", *both, "training.engine=cohort")
    assert [len(cohort["members"]) for cohort in together.read_json("plan.json")["cohorts"]] == [4]
    ours, theirs = rows(together), rows(run(tmp_path, "alone", *both, "training.engine=eager"))
    assert ours.keys() == theirs.keys() and len(ours) > 20
    for key, values in theirs.items():
        assert set(values) - {"grad_norm"} <= set(ours[key])
        for name in set(values) - {"grad_norm"}:
            assert ours[key][name] == pytest.approx(values[name], rel=1e-9, abs=1e-9), (key, name)


def test_prediction_from_the_folder_is_that_of_training(tmp_path: Path) -> None:
    """Scale of the targets and number of quantiles are those that the member was trained with."""
    options = ["task=battery", "loss=quantile", "loss.levels=[0.1,0.5,0.8,0.9]", "training.num_epochs=2"]
    made = train(overrides=options, runs=tmp_path, name="run")
    arrays = np.load(made.member_folder("seed42") / "predictions.npz")
    assert {"val_prediction", "val_quantile_0.1", "val_quantile_0.8"} <= set(arrays)
    known = BatterySynthetic(name="battery_synthetic").load()
    table = predict(made.path, {"x": known.columns["x"][arrays["val_index"]]})
    np.testing.assert_allclose(table["prediction"], arrays["val_prediction"], rtol=1e-5)
    np.testing.assert_allclose(table["quantile_0.8"], arrays["val_quantile_0.8"], rtol=1e-5)
    scales = read_state(made.member_folder("seed42") / "best.pt")["scales"]
    y = known.columns["y"][read_state(made.member_folder("seed42") / "best.pt")["split_idx"]["train"]]
    assert (scales["target_mean"], scales["target_std"]) == pytest.approx((y.mean(), y.std()), rel=1e-4)


def test_targets_of_zero_under_mape_are_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """C41."""
    with caplog.at_level(logging.WARNING, logger="paceline"):
        run(tmp_path, "run", "data=rows", "data.zeros=10", "loss=mape", "training.num_epochs=1", "members.seeds=2")
    found = [text for text in caplog.messages if "nearer to 0" in text]
    assert len(found) == 1 and "training targets are nearer to 0 than" in found[0] and "of them 0" in found[0]
