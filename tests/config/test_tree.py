"""Plain trees: random ones go through difference and overlay, and through YAML, and come back the same."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import pytest
import yaml

from paceline.config.suggest import hint, nearest
from paceline.config.tree import difference, flatten, merge, put, read_yaml, to_yaml, undot
from paceline.errors import ConfigError
from paceline.run.folder import overlay

pytestmark = pytest.mark.fast

NUMBERS = [None, True, False, 0, -3, 1e-4, 1e-5, 0.1, 1e30]
LEAVES = [*NUMBERS, "", "gru", "1e-4", "no", "null", "é ü: #", "a\nb", [], [1, 2], ["a"], {}]
CHOICES = {"gru": ["hidden_size", "num_layers"], "conv_gru": ["channels", "hidden_size"], "mlp": ["sizes"]}


def random_section(rng: random.Random, depth: int) -> dict[str, Any]:
    """A section of fixed keys, whose values vary; one of them may be a choice, whose keys depend on its name."""
    tree: dict[str, Any] = {key: rng.choice(LEAVES) for key in ("a", "b", "c")}
    name = rng.choice(list(CHOICES))
    tree["choice"] = {"name": name, **{key: rng.choice(LEAVES) for key in CHOICES[name]}}
    if depth:
        tree["inner"] = random_section(rng, depth - 1)
    return tree


def random_config(rng: random.Random) -> dict[str, Any]:
    return {**random_section(rng, 2), "model": random_section(rng, 0)["choice"], "training": random_section(rng, 1)}


@pytest.mark.parametrize("seed", range(40))
def test_a_difference_laid_over_its_base_gives_the_other_tree(seed):
    rng = random.Random(seed)
    base, other = random_config(rng), random_config(rng)
    before = copy.deepcopy((base, other))
    changes = difference(base, other)
    assert overlay(base, changes) == other
    assert (base, other) == before
    assert difference(base, base) == {}


@pytest.mark.parametrize("seed", range(40))
def test_a_difference_survives_yaml(seed):
    rng = random.Random(100 + seed)
    base, other = random_config(rng), random_config(rng)
    changes = yaml.safe_load(to_yaml(difference(base, other))) or {}
    assert overlay(yaml.safe_load(to_yaml(base)), changes) == other


def test_a_section_whose_name_changed_is_given_whole():
    base = {"model": {"name": "gru", "hidden_size": 64, "dropout": 0.3}, "device": "cpu"}
    other = {"model": {"name": "conv_gru", "channels": [8], "dropout": 0.3}, "device": "cpu"}
    assert difference(base, other) == {"model": other["model"]}
    assert overlay(base, {"model": other["model"]})["model"] == other["model"]


def test_a_section_of_the_same_name_gives_only_what_changed():
    base = {"model": {"name": "gru", "hidden_size": 64, "dropout": 0.3}}
    other = {"model": {"name": "gru", "hidden_size": 8, "dropout": 0.3}}
    assert difference(base, other) == {"model": {"hidden_size": 8}}


def test_putting_makes_the_sections_on_the_way():
    tree: dict[str, Any] = {"a": 5}
    put(tree, "a.b.c", 1)
    put(tree, "a.b.d", 2)
    put(tree, "e", 3)
    assert tree == {"a": {"b": {"c": 1, "d": 2}}, "e": 3}


def test_flattening_and_dotted_keys_are_inverse():
    tree = {"a": {"b": {"c": 1}, "d": [2]}, "e": {}}
    assert dict(flatten(tree)) == {"a.b.c": 1, "a.d": [2], "e": {}}
    assert undot(dict(flatten(tree))) == tree
    assert undot({"a.b": {"c": 1}, "a": {"d": [2]}, "e": {}}) == tree


def test_merging_changes_neither_tree():
    base, top = {"a": {"b": 1, "c": 2}}, {"a": {"c": 3}, "d": 4}
    assert merge(base, top) == {"a": {"b": 1, "c": 3}, "d": 4}
    assert (base, top) == ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}, "d": 4})


@pytest.mark.parametrize("value", [1e-5, 2e-3, 1e30, math.pi, 123456789.123])
def test_floats_are_written_so_that_yaml_reads_them_as_the_same_floats(value):
    assert yaml.safe_load(to_yaml({"x": value})) == {"x": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot be read"), ("a: [1", "not valid YAML"), ("- 1", "must hold a mapping"), ("", "must hold a mapping"),
     (b"\xff\xfe\x00", "cannot be read"), ("!!python/object/apply:os.getcwd []", "not valid YAML")],
    ids=["missing", "broken", "list", "empty", "binary", "code"],
)  # fmt: skip
def test_a_file_that_is_no_yaml_mapping_is_one_error(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("learning_rat", "training.learning_rate"),
        ("training.learning_rat", "training.learning_rate"),
        ("training.learning", "training.learning_rate"),
        ("bach_size", "training.batch_size"),
        ("zzz", None),
    ],
)
def test_the_nearest_name_is_found_by_its_whole_or_its_last_part(name, expected):
    assert nearest(name, ["training.learning_rate", "training.batch_size", "device"]) == expected


def test_a_hint_names_the_nearest_and_lists_the_valid():
    assert hint("gur", ["gru", "conv_gru"]) == "gru (valid: conv_gru, gru)"
    assert hint("zzz", ["gru", "conv_gru"]) == "one of: conv_gru, gru"
    assert hint("zzz", [f"n{i:02}" for i in range(20)]).endswith("n11, ...")
