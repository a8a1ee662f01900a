"""What a run's config has otherwise than its recipe, for whoever reads the run later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paceline.config.compose import compose
from paceline.config.tree import Tree, flatten
from paceline.errors import ConfigError
from paceline.run.config import CHOICES, RunConfig, plain_sections, resolve
from paceline.run.recipe import Recipe, options


def changed(config: RunConfig, recipe: Recipe | None) -> list[dict[str, Any]]:
    """Return a row `key`, `value`, `default` for each value of the config that is not the recipe's default.

    The defaults are those of the recipe for the same choices of model, data and loss; the choices have rows of their
    own. A value without a default, such as the path of a file, has no `default`. Without a recipe the core's defaults
    count. Empty where the defaults alone are not a valid config.
    """
    tree = config.tree()
    try:
        defaults = _of_core(tree) if recipe is None else _of_recipe(tree, recipe)
    except ConfigError:  # a key of the recipe that is only valid together with one of the user's
        return []
    known = dict(flatten(defaults))
    rows = []
    for key, value in flatten(tree):
        if key == "schema_version" or (key in known and known[key] == value):
            continue
        rows.append({"key": key, "value": value} | ({"default": known[key]} if key in known else {}))
    return rows


def _of_core(tree: Tree) -> Tree:
    sections = {name: section.model_dump(mode="json") for name, section in plain_sections({}).items()}
    given = {name: tree[name] for name in (*CHOICES, "tracking")}
    return {**given, **sections, "device": RunConfig.model_fields["device"].default}


def _of_recipe(tree: Tree, recipe: Recipe) -> Tree:
    """The recipe's config with the same choices, and with its own names of them."""
    folders = [recipe.conf] if recipe.conf is not None and recipe.conf.is_dir() else []
    available = options(recipe, [recipe.name])
    task = f"task={recipe.name}"
    base = compose([task], available, folders)
    names = {group: base[group]["name"] for group in CHOICES}
    choices = [f"{group}={tree[group]['name']}" for group in CHOICES[1:] if names[group] != tree[group]["name"]]
    composed = compose([task, *choices], available, folders) if choices else base
    required = _required(composed, tree, recipe)
    for group, name in required:
        composed[group][name] = tree[group][name]
    defaults = resolve(composed, recipe).tree()
    for group, name in required:
        del defaults[group][name]
    for group in CHOICES:
        defaults[group]["name"] = names[group]
    return defaults


def _required(composed: Mapping[str, Any], tree: Tree, recipe: Recipe) -> list[tuple[str, str]]:
    """The keys of the chosen sections that have no default anywhere."""
    return [
        (group, name)
        for group in CHOICES
        for name, field in recipe.sections(group)[tree[group]["name"]].model_fields.items()
        if field.is_required() and name not in composed[group]
    ]
