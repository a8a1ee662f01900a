"""Shell completion of `KEY=VALUE`: groups with their options, and every key of the config. Imports no torch."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel

GROUPS = ("data", "model", "loss")


def complete_override(incomplete: str) -> list[str]:
    """Return what a started argument could become. An error in what was typed so far completes to nothing."""
    from paceline.errors import PacelineError

    try:
        return sorted(text for text in _candidates(incomplete) if text.startswith(incomplete))
    except PacelineError:
        return []


def _candidates(incomplete: str) -> Iterator[str]:
    from paceline import recipes

    typed, equals, _ = incomplete.partition("=")
    sections = _sections()
    if not equals:
        yield from (f"{name}=" for name in ("task", *GROUPS))
        for name, section in sections.items():
            chosen = f"{name}.name"  # by its group
            yield from (f"{key}=" for key, field in _fields(section, name) if key != chosen and not _is_section(field))
        return
    if typed == "task":
        yield from (f"task={name}" for name in recipes.names())
    elif typed in GROUPS:
        found = {option for task in recipes.BUILT_IN for option in recipes.find(task).sections(typed)}
        yield from (f"{typed}={option}" for option in found)
    else:
        known = {dotted: field for name, section in sections.items() for dotted, field in _fields(section, name)}
        if typed in known:
            yield from (f"{typed}={value}" for value in _values(known[typed]))


def _sections() -> Mapping[str, type[BaseModel]]:
    """The sections that every run has, under their names in the config."""
    from paceline.run.config import RunConfig

    return {
        name: annotation
        for name, field in RunConfig.model_fields.items()
        if isinstance(annotation := field.annotation, type) and issubclass(annotation, BaseModel)
    }


def _fields(section: type[BaseModel], path: str) -> Iterator[tuple[str, Any]]:
    """Yield every dotted key below `path` with its annotation."""
    for name, field in section.model_fields.items():
        dotted, annotation = f"{path}.{name}", field.annotation
        yield dotted, annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _fields(annotation, dotted)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _values(annotation: Any) -> Iterator[str]:
    """The words that a key takes: choices, true and false, null."""
    if typing.get_origin(annotation) is Literal:
        yield from (str(value) for value in typing.get_args(annotation))
    elif annotation is bool:
        yield from ("true", "false")
    elif annotation is type(None):
        yield "null"
    else:
        for argument in typing.get_args(annotation):
            yield from _values(argument)
