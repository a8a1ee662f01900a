"""The config values of a run that are not its recipe's defaults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

import paceline
from paceline.api.runs import configure
from paceline.run.defaults import changed
from paceline.run.start import compose_config
from paceline.train.config import TrainingConfig


def rows(*overrides: str) -> dict[str, dict]:
    config, recipe = configure("pain", list(overrides))
    found = changed(config, recipe)
    return {row["key"]: row for row in found}


def test_a_run_of_defaults_has_no_changes():
    assert rows() == {}


def test_values_stand_beside_the_recipes_default_not_the_cores():
    found = rows("training.num_epochs=7", "training.learning_rate=0.002", "members.seeds=2")
    assert found == {
        "training.num_epochs": {"key": "training.num_epochs", "value": 7, "default": 60},
        "members.seeds": {"key": "members.seeds", "value": [42, 43], "default": [42]},
    }


def test_another_model_is_one_row_and_its_own_defaults_are_none():
    found = rows("model=gru", "model.hidden_size=9")
    assert set(found) == {"model.name", "model.hidden_size"}
    assert found["model.name"]["default"] == "conv_gru"


def test_a_grid_has_no_default():
    found = rows("members.vary={model: [gru, conv_gru]}")
    assert found == {"members.vary.model": {"key": "members.vary.model", "value": ["gru", "conv_gru"]}}


def test_a_value_without_a_default_is_no_reason_to_say_nothing():
    class Files(paceline.DataConfig):
        path: str

        def load(self):
            raise AssertionError

    _, pain = configure("pain", [])
    recipe = replace(pain, data={"files": Files}, conf=None)
    config = compose_config(["data.path=/x", "training.num_epochs=3"], recipe, [recipe.name])
    found = {row["key"]: row for row in changed(config, recipe)}
    assert found["data.path"] == {"key": "data.path", "value": "/x"}
    assert set(found) == {"data.path", "training.num_epochs"}


def test_a_run_made_in_python_has_the_cores_defaults(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(40, 3)).astype("float32"), np.arange(40) % 2
    model = torch.nn.Linear(3, 2)
    trainer = paceline.Trainer(model, {"training.num_epochs": 1}, folder=tmp_path, name="one")
    run = trainer.fit((x[:30], y[:30]), (x[30:], y[30:]))
    default = TrainingConfig().num_epochs
    assert default != 1
    assert run.read_json("environment.json")["changed"] == [
        {"key": "training.num_epochs", "value": 1, "default": default}
    ]
