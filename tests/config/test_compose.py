"""Composition of groups and values, by texts in Hydra's grammar and by mappings; nothing is judged here but grammar."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.api.runs import configure
from paceline.config.compose import parse_values
from paceline.config.tree import to_yaml
from paceline.errors import ConfigError
from paceline.run.config import RunConfig
from tests.contracts.tiny import USE

pytestmark = pytest.mark.fast


def config(*overrides: str, **options: object) -> RunConfig:
    return configure("pain", list(overrides), **options)[0]


@pytest.fixture(autouse=True)
def _empty_folder(workdir: Path) -> None:
    """No ./configs from elsewhere."""


def test_a_recipes_defaults_lie_over_the_core_and_the_users_values_over_both():
    plain = config()
    assert (plain.model.name, plain.data.name, plain.loss.name) == ("conv_gru", "vowels", "cross_entropy")
    assert plain.training.learning_rate == 2e-3  # the recipe's
    assert plain.training.weight_decay == 0.01  # the core's
    changed = config("training.learning_rate=0.1", "model=gru", "model.hidden_size=7")
    assert changed.training.learning_rate == 0.1
    assert (changed.model.name, changed.model.hidden_size) == ("gru", 7)
    assert changed.training.num_epochs == plain.training.num_epochs


@pytest.mark.parametrize("text", ["1e-4", "'1e-4'", "0.0001", '"1e-4"'])
def test_a_rate_written_as_1e_4_is_a_number_even_as_a_string(text):
    """X8."""
    assert config(f"training.learning_rate={text}").training.learning_rate == 1e-4


def test_yaml_that_reads_1e_4_as_a_string_is_coerced(workdir):
    """X8: YAML 1.1 reads `1e-4`, without a dot, as a string."""
    Path("configs/training").mkdir(parents=True)
    Path("configs/training/slow.yaml").write_text("learning_rate: 1e-4\nbatch_size: 16\n")
    assert config("training=slow").training.learning_rate == 1e-4
    Path("run.yaml").write_text(to_yaml(config().tree()).replace("learning_rate: 0.002", "learning_rate: 1e-4"))
    assert configure(config="run.yaml")[0].training.learning_rate == 1e-4


def test_a_mapping_means_the_same_as_texts():
    texts = config("model=gru", "training.num_epochs=3", "members.seeds=[1,2]", "training.gradient_clip.value=null")
    mapping = {
        "model": "gru",
        "training.num_epochs": 3,
        "members": {"seeds": [1, 2]},
        "training": {"gradient_clip.value": None},
    }
    assert configure("pain", mapping)[0] == texts


def test_a_nested_mapping_keeps_the_recipes_other_defaults():
    assert configure("pain", {"training": {"num_epochs": 3}})[0] == config("training.num_epochs=3")


def test_a_mapping_may_hold_a_whole_choice():
    made = configure("pain", {"model": {"hidden_size": 9}})[0]
    assert (made.model.name, made.model.hidden_size) == ("conv_gru", 9)


@pytest.mark.parametrize(
    "given",
    [
        ["members.vary.training.learning_rate=[0.1,0.01]"],
        ["members.vary={training.learning_rate:[0.1,0.01]}"],
        {"members.vary": {"training.learning_rate": [0.1, 0.01]}},
        {"members": {"vary": {"training": {"learning_rate": [0.1, 0.01]}}}},
        {"members.vary.training.learning_rate": [0.1, 0.01]},
    ],
    ids=str,
)
def test_a_grid_may_be_written_nested_or_dotted(given):
    assert configure("pain", given)[0].members.vary == {"training.learning_rate": (0.1, 0.01)}


def test_a_grid_is_the_same_after_the_run_is_configured_from_its_own_config(workdir):
    made = config("members.vary.training.learning_rate=[1e-3,1e-5]", "members.vary.model=[gru,conv_gru]")
    Path("config.yaml").write_text(to_yaml(made.tree()))
    again = configure(config="config.yaml")[0]
    assert again == made
    assert list(again.members.vary) == list(made.members.vary)


def test_seeds_given_as_a_number_count_from_42():
    assert config("members.seeds=5").members.seeds == (42, 43, 44, 45, 46)
    assert config("members.seeds=[7]").members.seeds == (7,)


def test_users_options_come_before_the_recipes(workdir):
    Path("mine/model").mkdir(parents=True)
    Path("mine/model/small.yaml").write_text("name: gru\nhidden_size: 3\n")
    made = config("model=small", config_dir="mine")
    assert (made.model.name, made.model.hidden_size, made.model.num_layers) == ("gru", 3, 2)
    with pytest.raises(ConfigError, match="no model of that name"):
        config("model=small")  # ./configs is looked at unless told otherwise
    Path("mine").rename("configs")
    assert config("model=small").model.hidden_size == 3


@pytest.mark.parametrize("name", ["a b", "a,b", "it's", "a[1]", "a=b", "ünder", "a$b", "a{b}", "back\\slash"])
def test_a_config_folder_may_have_any_name(workdir, name):
    folder = workdir / name / "model"
    folder.mkdir(parents=True)
    (folder / "small.yaml").write_text("name: gru\nhidden_size: 3\n")
    assert config("model=small", config_dir=name).model.hidden_size == 3


def test_the_config_of_a_run_gives_the_same_config_and_takes_values_on_top(workdir):
    made = config("model=gru", "training.schedule.name=cosine", "members.seeds=2")
    Path("config.yaml").write_text(to_yaml(made.tree()))
    assert configure(config="config.yaml")[0] == made
    changed = configure(config="config.yaml", overrides=["training.num_epochs=3"])[0]
    assert changed == configure(config="config.yaml", overrides={"training": {"num_epochs": 3}})[0]
    assert changed.training.num_epochs == 3
    assert changed.training.schedule == made.training.schedule


@pytest.mark.parametrize("given", [["model=gru"], ["+model=gru"], {"model": "gru"}], ids=str)
def test_a_group_cannot_be_chosen_on_top_of_a_config(workdir, given):
    Path("config.yaml").write_text(to_yaml(config().tree()))
    with pytest.raises(ConfigError, match="group cannot be chosen on top"):
        configure(config="config.yaml", overrides=given)


def test_the_task_may_come_from_the_overrides_the_config_or_a_file():
    assert configure(overrides=["task=pain"])[0].task.name == "pain"
    assert configure(overrides={"task": "pain"})[0].task.name == "pain"
    assert configure(use=[USE])[0].task.name == "blobs"
    with pytest.raises(ConfigError, match="no task was chosen"):
        configure()


def test_every_tracker_is_an_option_and_a_recipe_may_have_more_of_them():
    assert "tensorboard" not in config().tracking
    assert config("tracking=tensorboard").tracking["tensorboard"].tags == {}
    grouped = config("tracking=tensorboard_pain", "tracking.tensorboard.axis=step").tracking["tensorboard"]
    assert (grouped.tags["val_f1_macro"], grouped.axis) == ("F1/macro", "step")
    own = config("tracking=tensorboard_pain", "tracking.tensorboard.tags.lr=Rate").tracking["tensorboard"]
    assert own.tags == grouped.tags | {"lr": "Rate"}
    assert configure("pain", {"tracking": "tensorboard"})[0] == config("tracking=tensorboard")


def test_composition_leaves_no_state_behind():
    before = config("model=gru")
    with pytest.raises(ConfigError):
        config("model=nothing")
    assert config("model=gru") == before
    assert config().model.name == "conv_gru"


def test_values_are_parsed_in_hydras_grammar():
    tree = parse_values(["a.b=1", "a.c=[1,2]", "+d=true", "++e=null", "f='x y'", "g={h: 1}", "i="])
    assert tree == {"a": {"b": 1, "c": [1, 2]}, "d": True, "e": None, "f": "x y", "g": {"h": 1}, "i": ""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model", "not of the form key=value"),
        ("--overwrite=1", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("hydra.run.dir=x", "Hydra's own settings"),
        ("training.num_epochs=[1", "cannot be parsed"),
        ("training.learning_rate=1e-3,1e-2", "has several values"),
        ("training.learning_rate=${nothing}", "never computed"),
        ("~model", "not of the form"),
        ("model@x=gru", "cannot be|unknown|no model"),
        ("model=null", "no model of that name"),
        ("tracking=3", "no tracking of that name"),
        ("tracking=tensorbord", "try: tensorboard"),
    ],
)
def test_what_is_no_argument_is_one_error(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        config(text)
    assert len(str(caught.value).splitlines()) <= 4


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [1", "small.yaml"), ("- 1", "small.yaml"), ("!!python/object/apply:os.getcwd []", "small.yaml")],
    ids=["broken", "a list", "code"],
)
def test_a_broken_option_file_is_one_error_that_says_where(workdir, content, message):
    Path("configs/model").mkdir(parents=True)
    Path("configs/model/small.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        config("model=small")
