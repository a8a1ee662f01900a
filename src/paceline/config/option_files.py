"""YAML options as Hydra asks for them, read like every other file that someone may have sent: bounded, and plain.

Nothing in them is computed. An interpolation (`${...}`) could read the environment, or write one text into another
until memory ends, so it is an error here, before Hydra sees it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from paceline.config.reading import YAML_BYTES, parse_yaml, read_text
from paceline.errors import ConfigError

SCHEME = "options"
MAX_OPTIONS = 64  # that one option may stand for: Hydra composes each as often as it is named


class OptionFiles(ConfigSource):
    """A folder of group folders with `.yaml` files, `options://<folder>` in a search path."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self._weights: dict[Path, int] = {}  # options read so far -> how many they are with what they are based on

    @staticmethod
    def scheme() -> str:
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """Return an option. Raises ConfigError naming the file for whatever is no plain mapping."""
        path = self._path(config_path)
        self._weigh(path, ())
        tree, header = _read(path)
        return ConfigResult(provider=self.provider, path=self.full_path(), config=OmegaConf.create(tree), header=header)

    def _weigh(self, path: Path, above: tuple[Path, ...]) -> int:
        """Count the options that an option stands for. Raises ConfigError for a circle, and for too many."""
        if path in above:
            raise ConfigError("an option is based on itself", where=str(path), got="defaults")
        if path not in self._weights:
            tree, _ = _read(path)
            based_on = [self._path(name) for name in _bases(tree, path.parent.relative_to(self.path), str(path))]
            weight = 1 + sum(self._weigh(base, (*above, path)) for base in based_on if base.is_file())
            if weight > MAX_OPTIONS:
                raise ConfigError(f"an option is based on more than {MAX_OPTIONS} others", where=str(path))
            self._weights[path] = weight
        return self._weights[path]

    def available(self) -> bool:
        return self.is_group("")

    def is_group(self, config_path: str) -> bool:
        return self._is_below(config_path) and Path(self.path, config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        return self._is_below(config_path) and self._path(config_path).is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        found: list[str] = []
        for name in os.listdir(Path(self.path, config_path)):
            self._list_add_result(found, os.path.join(config_path, name), name, results_filter)
        return sorted(set(found))

    def _path(self, config_path: str) -> Path:
        """The file of an option, `<group>/<name>`."""
        return Path(self.path, config_path if config_path.endswith(".yaml") else f"{config_path}.yaml")

    def _is_below(self, config_path: str) -> bool:
        """Whether a name stays in this folder: `model=../../other` does not."""
        plain = Path(config_path)
        return not plain.is_absolute() and ".." not in plain.parts and "\0" not in config_path


def refuse_interpolation(tree: object, where: str) -> None:
    """Raise ConfigError for the first text with `${` in it, a key or a value."""
    found = _first_interpolation(tree, "")
    if found is not None:
        key, text = found
        raise ConfigError("a config value is never computed: ${...} is not read", where=f"{where}: {key}", got=text,
                          hint="write the value itself")  # fmt: skip


def register() -> None:
    """Make the scheme known to Hydra; doing it again changes nothing."""
    Plugins.instance().register(OptionFiles)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str | None]]:
    """Return an option's content and Hydra's header (`# @package ...`)."""
    try:
        text = read_text(path, YAML_BYTES)
        tree, header = parse_yaml(text), ConfigSource._get_header_dict(text[:512])
    except (OSError, ValueError) as error:
        raise ConfigError("a YAML option is not valid YAML", where=str(path), got=str(error)) from None
    if not isinstance(tree, dict | None):
        raise ConfigError("a YAML option must hold a mapping", where=str(path), got=type(tree).__name__)
    refuse_interpolation(tree or {}, where=str(path))
    return tree or {}, header


def _bases(tree: Mapping[str, Any], group: Path, where: str) -> list[str]:
    """Return what `defaults` names, as `<group>/<name>`. Raises ConfigError where it is no list of names."""
    entries = tree.get("defaults", [])
    found: list[str] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        place = ""
        if isinstance(entry, str):
            names = [entry.partition("@")[0]]
        elif isinstance(entry, dict) and len(entry) == 1 and isinstance(next(iter(entry)), str):
            key, value = next(iter(entry.items()))
            place = key.split()[-1].partition("@")[0] if key.strip() else ""
            names = value if isinstance(value, list) else [value]
        else:
            names = [entry]
        if not isinstance(entries, list) or not all(name is None or isinstance(name, str) for name in names):
            raise ConfigError("`defaults` must be a list of names", where=where, got=entry, hint="- group: name")
        folder = Path(place[1:]) if place.startswith("/") else group / place
        found += [name[1:] if name.startswith("/") else str(folder / name) for name in names if name]
    return found


def _first_interpolation(value: object, path: str) -> tuple[str, str] | None:
    if isinstance(value, str):
        return (path, value) if "${" in value else None
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list | tuple):
        pairs = list(enumerate(value))
    for key, child in pairs:
        place = f"{path}.{key}" if path else str(key)
        if "${" in str(key):
            return place, str(key)
        found = _first_interpolation(child, place)
        if found is not None:
            return found
    return None
