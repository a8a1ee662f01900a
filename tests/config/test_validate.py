"""Judging a config: the dotted path, the value and the nearest valid name are in the error, whatever is wrong."""

from __future__ import annotations

import pytest

from paceline.errors import ConfigError
from paceline.recipes.pain.recipe import recipe
from paceline.run.config import resolve

pytestmark = pytest.mark.fast

VALID = {
    "task": {"name": "pain"},
    "model": {"name": "gru"},
    "data": {"name": "vowels"},
    "loss": {"name": "cross_entropy"},
}


def explain(**changes: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        resolve({**VALID, **changes}, recipe)
    assert len(str(caught.value).splitlines()) <= 4
    return caught.value


def test_the_least_config_is_valid_and_complete():
    config = resolve(VALID, recipe)
    assert resolve(config.tree(), recipe) == config


@pytest.mark.parametrize(
    ("changes", "where", "hint"),
    [
        ({"trainig": {}}, "trainig", "training"),
        ({"training": {"bach_size": 3}}, "training.bach_size", "training.batch_size"),
        (
            {"training": {"schedule": {"warmup_epoch": 3}}},
            "training.schedule.warmup_epoch",
            "training.schedule.warmup_epochs",
        ),
        (
            {"training": {"patience": 3}},
            "training.patience",
            "training.early_stopping.patience or training.schedule.pat",
        ),
        ({"training": {"warmup_epochs": 3}}, "training.warmup_epochs", "training.schedule.warmup_epochs"),
        ({"model": {"name": "gru", "hiden_size": 3}}, "model.hiden_size", "model.hidden_size"),
        ({"model": {"name": "gru", "channels": [3]}}, "model.channels", "one of: "),
        ({"data": {"name": "vowels", "split": {"rule": "random", "sed": 1}}}, "data.split.sed", "data.split.seed"),
        ({"model": {"name": "gur"}}, "model.name", "gru"),
        ({"model": {}}, "model.name", "one of: conv_gru, gru"),
        ({"loss": {"name": "cross_entropi"}}, "loss.name", "cross_entropy"),
        ({"tracking": {"tensorbord": {}}}, "tracking.tensorbord", "tensorboard (valid: "),
        ({"training": 5}, "training", "training.<key>=..."),
        ({"model": "gru"}, "model", "model.<key>=..."),
    ],
    ids=str,
)
def test_an_unknown_name_is_named_with_the_nearest_valid_one(changes, where, hint):
    """X8."""
    error = explain(**changes)
    assert error.where == where
    assert error.hint.startswith(hint)


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"training": {"learning_rate": -1}}, "training.learning_rate", "greater than 0"),
        ({"training": {"learning_rate": "fast"}}, "training.learning_rate", "number"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate", "finite"),
        ({"training": {"learning_rate": None}}, "training.learning_rate", "number"),
        ({"training": {"num_epochs": 0}}, "training.num_epochs", "greater than 0"),
        ({"training": {"num_epochs": 2.5}}, "training.num_epochs", "integer"),
        ({"training": {"optimizer": "adamax"}}, "training.optimizer", "'adamw', 'adam' or 'sgd'"),
        ({"training": {"betas": [0.9]}}, "training.betas.1", "missing"),
        ({"training": {"selection": {"metric": "f1_macro"}}}, "training.selection.metric", "starts with val_"),
        ({"training": {"selection": {"metric": "val_loss", "mode": "max"}}}, "training.selection", "better when lower"),
        ({"training": {"schedule": {"name": "step"}}}, "training.schedule.name", "'plateau'"),
        ({"training": {"schedule": {"warmup_epochs": 1, "warmup_ratio": 0.1}}}, "training.schedule", "not both"),
        ({"training": {"gradient_clip": {"value": -1}}}, "training.gradient_clip.value", "greater than or equal to 0"),
        ({"members": {"seeds": [1, 2, 1]}}, "members.seeds", "1 is given twice"),
        ({"members": {"seeds": 0}}, "members.seeds", "at least one seed"),
        ({"members": {"seeds": []}}, "members.seeds", "at least one seed"),
        ({"members": {"seeds": [-1]}}, "members.seeds.0", "greater than or equal to 0"),
        ({"members": {"seeds": "many"}}, "members.seeds", "list"),
        ({"members": {"folds": 1}}, "members.folds", "greater than or equal to 2"),
        ({"members": {"vary": {"model": []}}}, "members.vary", "no values to vary over"),
        ({"members": {"vary": {"members.seeds": [[1]]}}}, "members.vary", "cannot vary"),
        ({"members": {"vary": {"training.learning_rate": 0.1}}}, "members.vary", "list"),
        ({"members": {"split_seed": "maybe"}}, "members.split_seed", "'fixed' or 'per_seed'"),
        ({"data": {"name": "npz"}}, "data.path", "missing"),
        ({"data": {"name": "npz", "path": ""}}, "data.path", "at least 1 character"),
        ({"data": {"name": "vowels", "split": {"val_fraction": 1.5}}}, "data.split.val_fraction", "less than 1"),
        ({"data": {"name": "vowels", "split": {"rule": "value"}}}, "data.split", "values.val"),
        ({"model": {"name": "gru", "dropout": 1.0}}, "model.dropout", "less than 1"),
        ({"model": {"name": "conv_gru", "kernel_size": 4}}, "model.kernel_size", "odd"),
        ({"model": {"name": "conv_gru", "channels": 8}}, "model.channels", "list"),
        ({"schema_version": 2}, "schema_version", "1"),
        ({"device": 3}, "device", "string"),
    ],
    ids=str,
)
def test_a_value_that_is_not_valid_is_named_with_what_is_wrong(changes, where, words):
    error = explain(**changes)
    assert error.where.startswith(where)
    assert words in error.what


def test_an_unknown_key_comes_before_the_errors_that_it_causes():
    error = explain(data={"name": "npz", "pth": "a.npz"})
    assert (error.what, error.where) == ("unknown config key", "data.pth")
    assert error.hint.startswith("data.path")
