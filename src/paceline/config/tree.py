"""Plain nested dicts: dotted access, differences, YAML in and out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from paceline.config.reading import YAML_BYTES, Dumper, parse_yaml, read_text
from paceline.errors import ConfigError

Tree = dict[str, Any]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, leaf) pairs; an empty mapping is a leaf."""
    for name, value in tree.items():
        path = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping) and value:
            yield from flatten(value, path)
        else:
            yield path, value


def put(tree: Tree, path: str, value: Any) -> None:
    """Set the value at a dotted path, making the sections on the way."""
    *sections, last = path.split(".")
    for section in sections:
        child = tree.get(section)
        if not isinstance(child, dict):
            child = tree[section] = {}
        tree = child
    tree[last] = value


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> Tree:
    """Return `base` with `top` laid over it, section by section; neither is changed."""
    merged = dict(base)
    for name, value in top.items():
        below = merged.get(name)
        merged[name] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def undot(tree: Mapping[str, Any]) -> Tree:
    """Turn dotted keys (`{"training.num_epochs": 3}`) into sections; nested mappings are kept."""
    plain: Tree = {}
    for name, value in tree.items():
        nested: Tree = {}
        put(nested, str(name), undot(value) if isinstance(value, Mapping) else value)
        plain = merge(plain, nested)
    return plain


def difference(base: Mapping[str, Any], other: Mapping[str, Any]) -> Tree:
    """Return what differs in `other`; a section whose `name` changed is given whole."""
    changed: Tree = {}
    for name, value in other.items():
        below = base.get(name)
        if below == value:
            continue
        same_choice = (
            isinstance(below, Mapping) and isinstance(value, Mapping) and below.get("name") == value.get("name")
        )
        if same_choice:
            changed[name] = difference(below, value)  # type: ignore[arg-type]  # narrowed by same_choice
        else:
            changed[name] = value
    return changed


def read_yaml(path: Path) -> Tree:
    """Read a mapping from a YAML file (see `parse_yaml`). Raises ConfigError when it is missing or not a mapping."""
    try:
        tree = parse_yaml(read_text(path, YAML_BYTES))
    except OSError as error:
        raise ConfigError("the config file cannot be read", where=str(path), got=str(error)) from None
    except ValueError as error:
        raise ConfigError("the config file is not valid YAML", where=str(path), got=str(error)) from None
    if not isinstance(tree, dict):
        raise ConfigError("the config file must hold a mapping", where=str(path), got=type(tree).__name__)
    return tree


def to_yaml(tree: Mapping[str, Any]) -> str:
    """Write a plain tree as YAML, keys in their given order."""
    text: str = yaml.dump(
        dict(tree), Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120
    )
    return text
