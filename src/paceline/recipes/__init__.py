"""The recipes by name: those of the package, and those that other packages offer as entry points `paceline.recipes`."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING

from paceline.config.suggest import hint
from paceline.errors import ConfigError

if TYPE_CHECKING:
    from paceline.run.recipe import Recipe

# task -> module with a `recipe`
BUILT_IN = {"battery": "paceline.recipes.battery.recipe", "pain": "paceline.recipes.pain.recipe"}


def names() -> list[str]:
    """Return every task that can be chosen."""
    return sorted({*BUILT_IN, *(point.name for point in _entry_points())})


def find(name: str) -> Recipe:
    """Return the recipe of a task. Raises ConfigError naming the nearest."""
    if name in BUILT_IN:
        found: Recipe = importlib.import_module(BUILT_IN[name]).recipe
        return found
    for point in _entry_points():
        if point.name == name:
            loaded: Recipe = point.load()
            return loaded
    raise ConfigError("there is no task of that name", where="task", got=name, hint=hint(name, names()))


def _entry_points() -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group="paceline.recipes"))
