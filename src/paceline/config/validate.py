"""Judging a tree: pydantic checks keys and types, and the error names the dotted path and the nearest valid name."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from paceline.config.section import Section
from paceline.config.suggest import hint, nearest
from paceline.errors import ConfigError

SectionType = TypeVar("SectionType", bound=Section)


def validate(
    section: type[SectionType], tree: Mapping[str, Any], path: str = "", elsewhere: Sequence[str] = ()
) -> SectionType:
    """Return the section that `tree` describes. `path` is where it stands in the config.

    `elsewhere` are the keys of the whole config: an unknown key may be one of theirs without its section. Raises
    ConfigError for the first unknown key, wrong type or value out of range.
    """
    _refuse_huge(tree, path)
    try:
        return section.model_validate(dict(tree))
    except ValidationError as error:
        raise _explain(error, section, path, elsewhere) from None


def _refuse_huge(value: object, path: str) -> None:
    """Raise ConfigError for whole numbers that no array can hold: nothing that a config counts is as large."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _refuse_huge(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_huge(inner, path)
    elif type(value) is int and value.bit_length() > 63:
        raise ConfigError("a number is too large", where=path, got=f"{value.bit_length():,} bits")


def keys(section: type[BaseModel], path: str = "") -> Iterator[str]:
    """Yield every dotted key that a section accepts."""
    for name, field in section.model_fields.items():
        dotted = f"{path}.{name}" if path else name
        yield dotted
        for inner in _sections(field.annotation):
            yield from keys(inner, dotted)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _sections(argument)


def _explain(error: ValidationError, section: type[Section], path: str, elsewhere: Sequence[str]) -> ConfigError:
    # An unknown key first: it is the likeliest mistake, and often the cause of the others.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    valid = list(keys(section, path))
    where = ".".join([path] * bool(path) + [str(part) for part in first["loc"] if _is_key(part)])
    got = first.get("input")
    if first["type"] == "extra_forbidden":
        return ConfigError("unknown config key", where=where, got=got, hint=nearest_keys(where, [*valid, *elsewhere]))
    if first["type"] == "missing":
        return ConfigError("a required config value is missing", where=where, hint=f"{where}=...")
    message = first["msg"].removeprefix("Value error, ").replace("tuple", "list")
    return ConfigError(f"a config value is not valid: {message[0].lower()}{message[1:]}", where=where, got=got)


def _is_key(part: object) -> bool:
    """Leave out pydantic's own labels for the branches of a union."""
    return isinstance(part, int) or (isinstance(part, str) and part.isidentifier() and part not in _BRANCHES)


_BRANCHES = {"int", "float", "str", "bool", "list", "tuple", "literal", "none"}


def nearest_keys(where: str, valid: Sequence[str]) -> str:
    """Name the keys of that name elsewhere, else the nearest key: of the same section, then of any.

    Where no key is near, name all of the section.
    """
    section, _, name = where.rpartition(".")
    siblings = sorted({key.rpartition(".")[2] for key in valid if key.rpartition(".")[0] == section})
    top = where.partition(".")[0]  # a namesake deep inside another section is a coincidence
    near = [key for key in valid if key.partition(".")[0] == top or key.count(".") <= max(where.count("."), 1)]
    same = sorted({key for key in near if key.rpartition(".")[2] == name})
    if same:
        return " or ".join(same)
    if nearest(name, siblings) is not None:
        return f"{section}.{hint(name, siblings)}".lstrip(".")
    return nearest(name, near) or hint(name, siblings or valid)
