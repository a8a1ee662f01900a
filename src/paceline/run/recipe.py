"""What a recipe is: data, models and task under names that a config can choose, and its own defaults."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from paceline.config import Section
from paceline.config.compose import Options
from paceline.config.tree import undot
from paceline.data.config import DataConfig, GivenData
from paceline.errors import ConfigError
from paceline.losses import LOSSES, LossConfig
from paceline.models.config import ModelConfig
from paceline.tasks.config import ClassificationConfig, TaskConfig
from paceline.track.config import CONF, TRACKERS, TrackerConfig

GIVEN = "given"  # the name of a task, data or loss that came as a Python object
BASES: dict[str, type[Section]] = {"data": DataConfig, "model": ModelConfig, "loss": LossConfig}
ENTRIES: dict[str, type[Section]] = {
    "data": DataConfig, "models": ModelConfig, "losses": LossConfig, "trackers": TrackerConfig
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One domain. The first entry of `data` and of `models` is the default choice.

    `defaults` are dotted config values that differ from the core's (`{"training.num_epochs": 20}`); a recipe of the
    package keeps them as YAML under `conf` instead (`conf/task/<name>.yaml`, `conf/model/<option>.yaml`).
    """

    name: str
    data: Mapping[str, type[DataConfig]]
    models: Mapping[str, type[ModelConfig]]
    task: type[TaskConfig] = ClassificationConfig
    loss: str = "cross_entropy"
    losses: Mapping[str, type[LossConfig]] = field(default_factory=dict)
    trackers: Mapping[str, type[TrackerConfig]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    conf: Path | None = None
    description: str = ""

    def __post_init__(self) -> None:
        check_registered(self.name, where="")
        for kind, base in ENTRIES.items():
            check_sections(getattr(self, kind), kind, base)
        check_sections({self.name: self.task}, "task", TaskConfig)
        if not self.data or not self.models:
            raise ConfigError("a recipe needs at least one data source and one model", where=self.name)

    def sections(self, group: str) -> Mapping[str, type[Any]]:
        """The choices of one group: name -> section."""
        match group:
            case "task":
                return {self.name: self.task}
            case "model":
                return self.models
            case "data":
                return {**self.data, GIVEN: GivenData}
            case "loss":
                return {**LOSSES, **self.losses}
            case "tracking":
                return {**TRACKERS, **self.trackers}
        raise AssertionError(group)

    def extended(self, extension: Extension) -> Recipe:
        """Return the recipe with a user's own choices added."""
        return replace(
            self,
            models={**self.models, **extension.models},
            losses={**self.losses, **extension.losses},
            trackers={**self.trackers, **extension.trackers},
        )


def check_sections(entries: object, kind: str, base: type[Section], where: str = "") -> None:
    """Raise ConfigError unless `entries` maps names that can be chosen to sections that can be built."""
    if not isinstance(entries, Mapping):
        fix = f'{kind}={{"some_name": {entries.__name__ if isinstance(entries, type) else "SomeClass"}}}'
        raise ConfigError(f"`{kind}` must be a dict of name -> class", where=where, got=_named(entries), hint=fix)
    for name, entry in entries.items():
        place = f"{where}: {name}" if where else str(name)
        check_registered(name, where=place)
        if isinstance(entry, base):
            own = type(entry).__name__
            raise ConfigError(f"`{kind}` holds an object instead of its class", where=place, got=f"{own}(...)",
                              hint=f"{own}, without brackets")  # fmt: skip
        if not (isinstance(entry, type) and issubclass(entry, base)):
            raise ConfigError(f"`{kind}` holds something other than a {base.__name__}", where=place,
                              got=_named(entry))  # fmt: skip
        if inspect.isabstract(entry):
            missing = " and ".join(f"`{method}`" for method in sorted(entry.__abstractmethods__))
            raise ConfigError(f"`{kind}` holds a section without {missing}", where=place, got=entry.__name__)


def _named(thing: object) -> object:
    return thing.__name__ if isinstance(thing, type) else thing


def check_registered(name: object, where: str) -> None:
    """Raise ConfigError for a name that a config cannot choose by."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ConfigError("a registered name must be letters, digits and underscores", where=where, got=name)


@dataclass(frozen=True, kw_only=True)
class Extension:
    """What a `--use FILE.py` brings: a recipe, or losses, models and trackers for an existing one."""

    recipe: Recipe | None = None
    losses: Mapping[str, type[LossConfig]] = field(default_factory=dict)
    models: Mapping[str, type[ModelConfig]] = field(default_factory=dict)
    trackers: Mapping[str, type[TrackerConfig]] = field(default_factory=dict)


def options(recipe: Recipe, tasks: Iterable[str]) -> Options:
    """Return every group's options for composition; `tasks` are all the tasks that could have been chosen."""
    defaults = undot({"task.name": recipe.name, **recipe.defaults})
    default_choice = {"data": next(iter(recipe.data)), "model": next(iter(recipe.models)), "loss": recipe.loss}
    groups: dict[str, dict[str, Any]] = {}
    for group, default in default_choice.items():
        values = defaults.pop(group, {})
        common = {key: values.pop(key) for key in BASES[group].model_fields if key in values}
        if common:
            defaults[group] = common
        # What only some options have as a key is a value of the default option.
        groups[group] = {name: {"name": name} for name in recipe.sections(group)}
        groups[group][default] |= values
    groups["tracking"] = {name: {name: {"enabled": True}} for name in recipe.sections("tracking")}
    task = {"defaults": [{f"override /{group}": name} for group, name in default_choice.items()], **defaults}
    return {"task": {**{name: {} for name in tasks}, recipe.name: task}, **groups}


def conf_folders(recipe: Recipe, config_dir: Path | None) -> list[Path]:
    """Return where YAML options are looked for: the user's folder (`./configs` unless given), the recipe's, ours."""
    own = config_dir if config_dir is not None else Path("configs")
    if config_dir is not None and not config_dir.is_dir():
        raise ConfigError("the config folder does not exist", where="--config-dir", got=str(config_dir))
    return [folder for folder in (own, recipe.conf, CONF) if folder is not None and folder.is_dir()]
