"""`--use FILE.py`: a user's own recipe, losses, models and trackers. Command line and API only, never a config."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from paceline.errors import ConfigError
from paceline.losses import LossConfig
from paceline.models.config import ModelConfig
from paceline.run.recipe import Extension, Recipe, check_registered
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
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(
            f"the file fails to import: {type(error).__name__}: {error}", where=f"{path}{_line(error, path)}",
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


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _entries(entries: object, kind: str, section: type, path: Path) -> Mapping[str, type]:
    if not isinstance(entries, Mapping):
        raise ConfigError(f"`{kind}` must be a dict of name -> section", where=str(path), got=type(entries).__name__)
    for name, entry in entries.items():
        check_registered(str(name), where=f"{path}: {name}")
        if not (isinstance(entry, type) and issubclass(entry, section)):
            raise ConfigError(f"`{kind}` holds something other than a {section.__name__}", where=f"{path}: {name}",
                              got=entry)  # fmt: skip
        if inspect.isabstract(entry):
            raise ConfigError(f"`{kind}` holds a section without `build`", where=f"{path}: {name}",
                              got=entry.__name__)  # fmt: skip
    return entries


def _line(error: BaseException, path: Path) -> str:
    """Return `:line` of the user's own file, the deepest one in the traceback."""
    own = os.path.abspath(path)  # as the import system names it
    if isinstance(error, SyntaxError) and error.filename == own:
        return f":{error.lineno}"
    line, traceback = "", error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == own:
            line = f":{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return line
