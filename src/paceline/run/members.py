"""The members of a run: every variant x seed x fold, each with its own resolved config."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paceline.config.compose import GROUPS, compose
from paceline.config.tree import Tree, difference, merge, put
from paceline.errors import ConfigError
from paceline.run.config import CHOICES, RunConfig, resolve
from paceline.run.recipe import Recipe, conf_folders, options
from paceline.train.config import MOST_MEMBERS
from paceline.types import Member

LONGEST_NAME = 150  # characters: `<variant>-seed<n>-fold<k>` names folders
OF_THE_RUN = ("device", "numerics", "schema_version", "tracking")  # one process trains all members


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One point of the grid `members.vary`; the base config has the name ""."""

    name: str
    config: RunConfig


def variants(config: RunConfig, recipe: Recipe, config_dir: Path | None = None) -> list[Variant]:
    """Span the grid of `members.vary`. Raises ConfigError for a key or value that the config would refuse."""
    names = variant_names(config)
    if len(set(names)) < len(names):
        raise ConfigError("two variants are the same", where="members.vary", got=dict(config.members.vary))
    if max(map(len, names)) > LONGEST_NAME:
        raise ConfigError("the name of a variant would be too long for a folder", where="members.vary",
                          got=max(names, key=len), hint="an option of your own, configs/model/NAME.yaml")  # fmt: skip
    points = _points(config)
    return [
        Variant(name=name, config=vary(config, point, recipe, config_dir) if point else config)
        for name, point in zip(names, points, strict=True)
    ]


def variant_names(config: RunConfig) -> list[str]:
    """Return the names of the grid's points, in order; [""] where nothing varies."""
    return [_label(point) for point in _points(config)]


def _points(config: RunConfig) -> list[dict[str, Any]]:
    grid = config.members.vary
    number = math.prod(len(values) for values in grid.values())
    if number > MOST_MEMBERS:
        raise ConfigError(f"more than {MOST_MEMBERS} variants", where="members.vary", got=number)
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def expand(config: RunConfig, names: list[str]) -> list[Member]:
    """Return the members in order: variant, then seed, then fold."""
    folds: list[int | None] = [None] if config.members.folds is None else list(range(config.members.folds))
    number = len(names) * len(config.members.seeds) * len(folds)
    if number > MOST_MEMBERS:
        raise ConfigError(f"more than {MOST_MEMBERS} members", where="members", got=number)
    return [
        Member(variant=name, seed=seed, fold=fold) for name in names for seed in config.members.seeds for fold in folds
    ]


def vary(config: RunConfig, point: Mapping[str, Any], recipe: Recipe, config_dir: Path | None) -> RunConfig:
    """Return the config at one point of the grid.

    A dotted key replaces a value. A group (`model: lstm`) replaces the section by the option's; what the user had
    changed in the section before is carried over. Raises ConfigError at `members.vary.<key>`.
    """
    try:
        return _varied(config, point, recipe, config_dir)
    except ConfigError as error:
        inside = error.where.partition(".")[0] in {*RunConfig.model_fields, *(key.partition(".")[0] for key in point)}
        where = f"members.vary.{error.where}" if inside and not error.where.startswith("members") else error.where
        raise ConfigError(error.what, where=where, got=error.got or None, hint=error.hint) from error


def _varied(config: RunConfig, point: Mapping[str, Any], recipe: Recipe, config_dir: Path | None) -> RunConfig:
    tree = config.tree()
    for key, value in point.items():
        if key in CHOICES and key != "task":
            tree[key] = _chosen(tree, key, str(value), recipe, config_dir)
        elif key in GROUPS or key.partition(".")[0] in OF_THE_RUN:
            raise ConfigError("this cannot vary within a run", where="members.vary", got=key)
        else:
            put(tree, key, value)
    return resolve(tree, recipe)


def _chosen(tree: Tree, group: str, name: str, recipe: Recipe, config_dir: Path | None) -> Tree:
    def option(choice: str) -> Tree:
        overrides = [f"task={recipe.name}", f"{group}={choice}"]
        composed = compose(overrides, options(recipe, [recipe.name]), conf_folders(recipe, config_dir))
        own: Tree = resolve(composed, recipe).tree()[group]
        return own

    carried = difference(option(tree[group]["name"]), tree[group])
    return merge(option(name), carried)


def _label(point: Mapping[str, Any]) -> str:
    """Name a variant by its values: `lstm`, `learning_rate0.001`, `lstm-batch_size64`."""
    parts = [str(v) if k in GROUPS else f"{k.rpartition('.')[2]}{v}" for k, v in point.items()]
    return "-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", part).strip("_.-") for part in parts)
