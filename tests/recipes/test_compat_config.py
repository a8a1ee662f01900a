"""`prepare_config`: the guide's flat dict, its defaults, and what they become in paceline's own config."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

from paceline.config.tree import flatten
from paceline.errors import ConfigError, PacelineError
from paceline.recipes.pain.compat import OPTIONS, base_config, prepare_config
from paceline.recipes.pain.compat.config import run_name, tree
from paceline.recipes.pain.recipe import recipe
from paceline.run.config import RunConfig, resolve
from paceline.train.selection import Selector

pytestmark = pytest.mark.fast


def resolved(**overrides) -> RunConfig:
    return resolve(tree(prepare_config("x", overrides)), recipe)


def leaf(config: RunConfig, path: str) -> object:
    return dict(flatten(config.tree()))[path]


@pytest.mark.parametrize(
    ("key", "default", "path", "expected"),  # the key, the guide's default; what stands where in paceline's config
    [
        pytest.param("rnn_type", "gru", "model.name", "gru", id="A3"),
        pytest.param("hidden_size", 256, "model.hidden_size", 256, id="A5"),
        pytest.param("num_layers", 2, "model.num_layers", 2, id="A6"),
        pytest.param("dropout", 0.3, "model.dropout", 0.3, id="A7"),
        pytest.param("bidirectional", False, "model.bidirectional", False, id="A8"),
        pytest.param("lr", 2e-3, "training.learning_rate", 2e-3, id="A9"),
        pytest.param("weight_decay", 1e-5, "training.weight_decay", 1e-5, id="A10"),
        pytest.param("epochs", 60, "training.num_epochs", 60, id="A11"),
        pytest.param("batch_size", 64, "training.batch_size", 64, id="A12"),
        pytest.param("valid_size", 0.1, "data.split.val_fraction", 0.1, id="A13"),
        pytest.param("seed", 42, "data.split.seed", 42, id="A14"),
        pytest.param("patience", 8, "training.early_stopping.patience", 8, id="A15"),
        pytest.param("min_improvement", 5e-4, "training.selection.min_delta", 5e-4, id="A16"),
        pytest.param("metric_for_best", "macro_f1", "training.selection.metric", "val_f1_macro", id="A17"),
        pytest.param("warmup_epochs", 5, "training.schedule.warmup_epochs", 5, id="A18"),
        pytest.param("scheduler", "plateau", "training.schedule.name", "plateau", id="A19"),
        pytest.param("scheduler_factor", 0.5, "training.schedule.factor", 0.5, id="A20"),
        pytest.param("scheduler_patience", 3, "training.schedule.patience", 3, id="A21"),
        pytest.param("scheduler_threshold", 1e-3, "training.schedule.threshold", 1e-3, id="A22"),
        pytest.param("scheduler_cooldown", 0, "training.schedule.cooldown", 0, id="A23"),
        pytest.param("max_grad_norm", 5.0, "training.gradient_clip.value", 5.0, id="A24"),
        pytest.param("num_workers", 4, "data.loader.num_workers", 0, id="A25"),  # the data is in memory
        pytest.param("pin_memory", True, "data.loader.pin_memory", True, id="A26"),
        pytest.param("ema_alpha", 0.1, "training.selection.ema_alpha", 0.1, id="A27"),
        pytest.param("label_smoothing", 0.05, "loss.label_smoothing", 0.05, id="A29"),
        pytest.param("use_focal_loss", False, "loss.name", "cross_entropy", id="A30"),
        pytest.param("use_class_weights", False, "loss.class_weights", "none", id="A31"),
    ],
)
def test_every_key_has_the_guide_s_default_and_reaches_paceline(key, default, path, expected):
    assert prepare_config("x", {})[key] == base_config[key] == default
    assert type(base_config[key]) is type(default)
    assert leaf(resolved(), path) == expected


def test_the_base_config_has_the_guide_s_keys_and_no_others():
    """A1: 27 are checked above; the others are `run_name` and `tensorboard`."""
    assert len(base_config) == 29
    assert {"run_name", "tensorboard"} < set(base_config)
    config = prepare_config("mine", {"lr": 1e-3})
    assert set(config) == {*base_config, *OPTIONS}
    assert (config["run_name"], config["lr"]) == ("mine", 1e-3)


def test_a_run_without_a_name_is_named_after_its_layer_and_the_time():
    """A2."""
    assert base_config["run_name"] is None
    assert re.fullmatch(r"LSTM_\d{8}_\d{6}", run_name(prepare_config(None, {"rnn_type": "lstm"})))
    assert run_name(prepare_config("mine")) == "mine"


@pytest.mark.parametrize("kind", ["gru", "lstm", "rnn"])
def test_the_kind_of_layer_is_chosen_by_its_key(kind):
    """A4."""
    assert resolved(rnn_type=kind).model.name == kind


def test_another_kind_of_layer_is_a_value_error_that_names_the_choices():
    """A4."""
    with pytest.raises(ValueError, match="gru, lstm, rnn") as caught:
        prepare_config("x", {"rnn_type": "transformer"})
    assert isinstance(caught.value, PacelineError)


@pytest.mark.parametrize(
    ("metric", "canonical"), [("accuracy", "val_accuracy"), ("val_loss", "val_loss"), ("macro_f1", "val_f1_macro")]
)
def test_the_metric_that_is_smoothed_and_selected_is_the_config_s(metric, canonical):
    """A17."""
    selection = resolved(metric_for_best=metric).training.selection
    assert selection.metric == canonical
    assert selection.maximise == (metric != "val_loss")


@pytest.mark.parametrize(
    ("key", "wrong", "named"),
    [
        pytest.param("metric_for_best", "f1", "macro_f1", id="A17"),
        pytest.param("scheduler", "step", "plateau, none", id="A19"),
        ("smoothing", "mean", "smoothing"),
        ("scheduler_metric", "loss", "raw, ema"),
        ("lr", 0, "lr"),
        ("lr", "fast", "lr"),
        ("epochs", 0, "epochs"),
        ("valid_size", 1.5, "valid_size"),
        ("dropout", 1.0, "dropout"),
        ("ema_alpha", 0, "ema_alpha"),
        ("label_smoothing", 1, "label_smoothing"),
        ("num_workers", -1, "num_workers"),
        ("seed", -1, "seed"),
        ("optimizer", "lion", "optimizer"),
        ("focal_gamma", -1, "focal_gamma"),
        ("data", 3, "data"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_under_its_own_key(key, wrong, named):
    more = {"use_focal_loss": True} if key == "focal_gamma" else {}
    with pytest.raises(ConfigError) as caught:
        prepare_config("x", {key: wrong, **more})
    assert caught.value.where == key
    assert named in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 4


def test_without_a_scheduler_the_rate_is_constant_after_the_warm_up():
    """A19: the recorded rates are in the tests of training."""
    schedule = resolved(scheduler="none").training.schedule
    assert (schedule.name, schedule.warmup_epochs) == ("none", 5)


def test_none_turns_clipping_and_stopping_off():
    """A59."""
    training = resolved(max_grad_norm=None, patience=None).training
    assert training.gradient_clip.value is None
    assert not training.early_stopping.enabled


def test_own_keys_are_kept_and_refused_when_strict():
    """A32."""
    before = copy.deepcopy(base_config)
    config = prepare_config("x", {"foo": 1, "nested": {"a": [1]}})
    assert config["foo"] == 1
    config["nested"]["a"].append(2)
    config["lr"] = 1.0
    assert base_config == before
    assert prepare_config("x", {"foo": 1})["lr"] == 2e-3
    with pytest.raises(ConfigError, match="unknown config key"):
        prepare_config("x", {"foo": 1}, strict=True)


def test_a_key_that_looks_like_a_mistyped_one_is_a_warning(caplog):
    prepare_config("x", {"hiden_size": 8, "foo": 1})
    assert [record.message for record in caplog.records] == [
        "the config key 'hiden_size' is not known and changes nothing: 'hidden_size' was meant?"
    ]


def test_what_a_dict_of_one_s_own_leaves_out_is_as_in_the_guide_s_code():
    """A54."""
    settled = resolve(tree({"rnn_type": "gru", "lr": np.float64(1e-3)}), recipe)
    assert settled.training.learning_rate == 1e-3
    assert settled.loss.label_smoothing == 0.0
    assert settled.training.selection.min_delta == 0.0
    assert settled.training.schedule.warmup_epochs == 5


def test_nothing_that_the_recipe_sets_differently_leaks_into_the_guide_s_config():
    """Every value is the guide's or the core's own default, whatever the recipe prefers."""
    from paceline.api.runs import configure

    preferred, _ = configure("pain", {"model": "gru"})
    core = resolve({"task": {"name": "pain"}, "model": {"name": "gru"}, "data": {"name": "given"},
                    "loss": {"name": "cross_entropy"}}, recipe)  # fmt: skip
    recipes_own = {key for key, value in flatten(preferred.tree()) if dict(flatten(core.tree())).get(key) != value}
    said = {key for key, _ in flatten(tree(prepare_config("x")))}
    given = dict(flatten(resolved().tree()))
    unsaid = {key for key in recipes_own - said if given.get(key) == dict(flatten(preferred.tree()))[key]}
    assert unsaid == set()


SPIKE = [0.5, 0.5, 0.99, 0.5, 0.5]


@pytest.mark.parametrize(("smoothing", "epoch"), [(None, 3), ("ema", 3), ("median_ema", 1)])
def test_the_guide_s_smoothing_chooses_a_spike_and_the_median_does_not(smoothing, epoch):
    """A69: of .5, .5, .99, .5, ... the EMA chooses epoch 3, its default here; the median EMA chooses epoch 1."""
    training = resolved(**({} if smoothing is None else {"smoothing": smoothing})).training
    selector = Selector(training.selection, training.early_stopping)
    smoothed = [selector.observe(value, i, i).smoothed for i, value in enumerate(SPIKE, start=1)]
    assert selector.record()["epoch"] == epoch
    if epoch == 3:
        assert smoothed[2] == pytest.approx(0.549, abs=1e-12)


@pytest.mark.parametrize(("gain", "improves"), [(5e-4, False), (5.1e-4, True)])
def test_an_improvement_exceeds_the_best_smoothed_value_by_the_bound(gain, improves):
    """A16: with alpha 1 the EMA is the value itself."""
    training = resolved(ema_alpha=1.0).training
    selector = Selector(training.selection, training.early_stopping)
    selector.observe(0.0, 1, 1)
    assert selector.observe(gain, 2, 2).improved is improves


def test_mixed_precision_is_on_with_cuda_and_nowhere_else():
    """A97: by itself."""
    import torch

    from paceline.train.runtime import amp_enabled

    amp = resolved().training.amp
    assert amp_enabled(amp, torch.device("cuda"))
    assert not amp_enabled(amp, torch.device("cpu"))
    assert not amp_enabled(resolved(use_amp=False).training.amp, torch.device("cuda"))


def test_without_the_package_tensorboard_training_goes_on_with_a_line(monkeypatch, caplog):
    """A79: it is on by default, so its absence is no error."""
    import importlib.util

    from paceline.recipes.pain.compat.tracking import sections

    assert sections(prepare_config("x", {"tensorboard": False})) == {}
    assert set(sections(prepare_config("x"))) == {"tensorboard"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert sections(prepare_config("x")) == {}
    assert len(caplog.messages) == 1 and "pip install tensorboard" in caplog.text


def test_the_tag_of_the_smoothed_f1_is_there_where_that_is_selected_by():
    """A76."""
    from paceline.recipes.pain.compat.tracking import tags

    assert set(tags(prepare_config("x")).values()) == {
        "Loss/train", "Loss/val", "F1/macro", "F1/macro_ema", "LR", "F1_class", "ConfusionMatrix"
    }  # fmt: skip
    for other in ({"metric_for_best": "accuracy"}, {"smoothing": "none"}):
        assert "F1/macro_ema" not in tags(prepare_config("x", other)).values()
