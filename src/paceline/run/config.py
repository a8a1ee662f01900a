"""RunConfig: everything that decides a run, validated and frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import SerializeAsAny

from paceline.config import Section
from paceline.config.suggest import hint
from paceline.config.tree import Tree, flatten
from paceline.config.validate import keys, nearest_keys, validate
from paceline.data.config import DataConfig
from paceline.errors import ConfigError
from paceline.losses import LossConfig
from paceline.models.config import ModelConfig
from paceline.run.recipe import Recipe
from paceline.tasks.config import TaskConfig
from paceline.track.config import TrackerConfig
from paceline.train.config import MembersConfig, NumericsConfig, TrainingConfig

CHOICES = ("task", "model", "data", "loss")


class RunConfig(Section):
    """One section per owner. The four choices are validated against the recipe's sections, by their `name`."""

    schema_version: Literal[1] = 1
    task: SerializeAsAny[TaskConfig]
    model: SerializeAsAny[ModelConfig]
    data: SerializeAsAny[DataConfig]
    loss: SerializeAsAny[LossConfig]
    members: MembersConfig = MembersConfig()
    training: TrainingConfig = TrainingConfig()
    tracking: dict[str, SerializeAsAny[TrackerConfig]] = {}
    numerics: NumericsConfig = NumericsConfig()
    device: str = "auto"

    def tree(self) -> Tree:
        """Return the resolved config as plain values, ready for YAML."""
        return self.model_dump(mode="json")


PLAIN: dict[str, type[Section]] = {"members": MembersConfig, "training": TrainingConfig, "numerics": NumericsConfig}


def resolve(tree: Mapping[str, Any], recipe: Recipe) -> RunConfig:
    """Judge a composed or reloaded tree. Raises ConfigError naming the dotted path and the nearest valid name."""
    known = _keys(tree, recipe)
    for key in tree:
        if key not in RunConfig.model_fields:
            raise ConfigError("unknown config key", where=str(key), got=tree[key], hint=nearest_keys(str(key), known))
    sections: dict[str, Any] = {}
    for group in CHOICES:
        sections[group] = _choice(group, _mapping(tree, group), recipe, known)
    sections |= plain_sections(tree, known)
    sections["tracking"] = tracking_sections(tree, recipe.sections("tracking"))
    rest = {key: tree[key] for key in ("schema_version", "device") if key in tree}
    return validate(RunConfig, {**sections, **rest})


def plain_keys() -> list[str]:
    """Return every dotted key of the sections that every run has."""
    return ["device", *PLAIN, *(key for name, section in PLAIN.items() for key in keys(section, name))]


def _keys(tree: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Return every dotted key that a tree with these choices accepts."""
    found = [*RunConfig.model_fields, *plain_keys()]
    for group in CHOICES:
        chosen = tree[group].get("name") if isinstance(tree.get(group), Mapping) else None
        section = recipe.sections(group).get(chosen) if isinstance(chosen, str) else None
        found += keys(section, group) if section else []
    return found


def plain_sections(tree: Mapping[str, Any], known: Sequence[str] = ()) -> dict[str, Section]:
    """Judge the sections that every run has. The grid of `members.vary` may be nested: its keys become dotted."""
    sections = {name: _mapping(tree, name) for name in PLAIN}
    grid = sections["members"].get("vary")
    if isinstance(grid, Mapping):
        sections["members"] = {**sections["members"], "vary": dict(flatten(grid))}
    return {name: validate(PLAIN[name], section, name, known) for name, section in sections.items()}


def _choice(group: str, tree: Mapping[str, Any], recipe: Recipe, known: Sequence[str]) -> Section:
    sections = recipe.sections(group)
    name = tree.get("name")
    if not isinstance(name, str) or name not in sections:
        raise ConfigError(f"there is no {group} of that name", where=f"{group}.name", got=name,
                          hint=hint(str(name), sections))  # fmt: skip
    section: type[Section] = sections[name]
    return validate(section, tree, group, known)


def tracking_sections(tree: Mapping[str, Any], known: Mapping[str, type[TrackerConfig]]) -> dict[str, Section]:
    """Judge the section `tracking`, an entry per tracker."""
    chosen = _mapping(tree, "tracking")
    for name in chosen:
        if name not in known:
            raise ConfigError("there is no tracker of that name", where=f"tracking.{name}", got=chosen[name],
                              hint=hint(name, known))  # fmt: skip
    return {name: validate(known[name], _mapping(chosen, name, "tracking."), f"tracking.{name}") for name in chosen}


def _mapping(tree: Mapping[str, Any], key: str, prefix: str = "") -> Mapping[str, Any]:
    value = tree.get(key, {})
    if not isinstance(value, Mapping):
        raise ConfigError("this config key is a section, not a value", where=prefix + key, got=value,
                          hint=f"{prefix}{key}.<key>=...")  # fmt: skip
    return value
