"""`paceline new`: a recipe of one's own, from a template that is a working file."""

from __future__ import annotations

import importlib.util
import keyword
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.text import Text

from paceline.checkpoint.files import write_text_atomic
from paceline.errors import ConfigError


def new_command(name: str, folder: Path) -> None:
    """Write the template under a new name."""
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_") or not name.isascii():
        raise ConfigError(
            "a recipe's name must be a Python identifier", where="NAME", got=name, hint="paceline new blobs"
        )
    path = folder / f"{name}.py"
    if path.exists():
        raise ConfigError("the file exists already", where=str(path), hint="another name, or --folder")
    if importlib.util.find_spec(name) is not None:
        raise ConfigError("a Python module has that name, and the file would hide it", where="NAME", got=name,
                          hint=f"paceline new my_{name}")  # fmt: skip
    if not folder.is_dir():
        raise ConfigError("the folder does not exist", where="--folder", got=str(folder))
    template = (files("paceline.cli") / "recipe_template.txt").read_text(encoding="utf-8")
    write_text_atomic(path, template.replace("NAME", name))
    Console().print(Text(
        f"wrote {path}. Next:\n"
        f"  paceline train --use {path} task={name} members.seeds=3 --name {name}\n"
        f"  paceline resume runs/{name} --use {path}\n"
        f"  paceline predict runs/{name} INPUT.npz --use {path}"
    ), soft_wrap=True)  # fmt: skip
