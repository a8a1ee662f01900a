"""`--use FILE.py`: a user's own recipe, losses, models and trackers. Command line and API only, never a config."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

from pydantic import ValidationError

from paceline.errors import ConfigError, PacelineError
from paceline.losses import LossConfig
from paceline.models.config import ModelConfig
from paceline.run.blame import line_in
from paceline.run.recipe import Extension, Recipe, check_sections
from paceline.track.config import TrackerConfig

KINDS: dict[str, type] = {"losses": LossConfig, "models": ModelConfig, "trackers": TrackerConfig}


def load_extension(path: Path) -> Extension:
    """Run a Python file and collect what it defines: `recipe`, `losses`, `models`, `trackers`.

    Raises ConfigError when the file is missing, fails (with its own error and line), or defines none of these.
    """
    if not path.is_file():
        raise ConfigError("the file does not exist", where="--use", got=str(path))
    name = f"paceline_use_{path.stem}_{file_sha256(path)[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError("this is not a Python file", where="--use", got=str(path), hint="a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic resolves annotations through it
    try:
        spec.loader.exec_module(module)
    except PacelineError as error:
        del sys.modules[name]
        within = f": {error.where}" * bool(error.where)
        raise ConfigError(error.what, where=f"{path}{line_in(error, path)}{within}", got=error.got or None,
                          hint=error.hint) from error  # fmt: skip
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if _lacks_its_name(error):
            raise ConfigError("a section is made where its class is wanted", where=f"{path}{line_in(error, path)}",
                              got=f"{error.title}()", hint=f"{error.title}, without brackets") from error  # fmt: skip
        raise ConfigError(
            f"the file fails to import: {type(error).__name__}: {error}", where=f"{path}{line_in(error, path)}",
            hint=f"python {path}",
        ) from error  # fmt: skip
    recipe = getattr(module, "recipe", None)
    if recipe is not None and not isinstance(recipe, Recipe):
        raise ConfigError("`recipe` is not a paceline.Recipe", where=str(path), got=type(recipe).__name__)
    found = {kind: _entries(getattr(module, kind, {}), kind, section, path) for kind, section in KINDS.items()}
    if recipe is None and not any(found.values()):
        raise ConfigError(
            "the file defines nothing to use",
            where=str(path),
            hint="recipe = paceline.Recipe(...), losses = {...}, models = {...} or trackers = {...}",
        )
    return Extension(recipe=recipe, **found)


def _lacks_its_name(error: BaseException) -> TypeGuard[ValidationError]:
    """Whether an object was made of a section; its `name` is the key under which a config chooses the class."""
    return isinstance(error, ValidationError) and any(
        found["type"] == "missing" and found["loc"] == ("name",) for found in error.errors()
    )


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _entries(entries: object, kind: str, section: type, path: Path) -> Mapping[str, type]:
    check_sections(entries, kind, section, where=str(path))
    assert isinstance(entries, Mapping)
    return entries
