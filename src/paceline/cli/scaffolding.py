"""`paceline new` and `paceline scaffold`: working files to start from, a recipe's or a group's own layout."""

from __future__ import annotations

import importlib.util
import keyword
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from rich.text import Text

from paceline.checkpoint.files import write_text_atomic
from paceline.cli.console import make_console
from paceline.config.suggest import hint
from paceline.errors import ConfigError
from paceline.recipes import BUILT_IN


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
    make_console().print(Text(
        f"wrote {path}. Next:\n"
        f"  paceline train --use {path} task={name} members.seeds=3 --name {name}\n"
        f"  paceline resume runs/{name} --use {path}\n"
        f"  paceline predict runs/{name} INPUT.npz --use {path}"
    ), soft_wrap=True)  # fmt: skip


def scaffold_command(task: str, folder: Path, *, force: bool) -> None:
    """Write the files that a group's own document has, as thin shims over paceline."""
    templates = dict(_files_below(_templates(task)))
    if folder.exists() and not folder.is_dir():
        raise ConfigError("the path is a file", where="DIR", got=str(folder), hint="a new folder")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        there = [name for name in sorted(templates) if (folder / name).exists()]
        raise ConfigError("the folder is not empty", where=str(folder), got=", ".join(there) or "other files",
                          hint="another folder, or --force to write over files of these names")  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError("the folder cannot be made", where=str(folder), got=error.strerror) from None
    for name, template in sorted(templates.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(folder / name, template.read_text(encoding="utf-8"))
    page = templates["README.md"].read_text(encoding="utf-8")
    commands = [line.removeprefix("$ ") for line in page.splitlines() if line.startswith("$ ")]
    make_console().print(Text(
        f"wrote {_counted(templates)}. Next:\n  cd {folder}\n" + "\n".join(f"  {c}" for c in commands)
    ), soft_wrap=True)  # fmt: skip


def _counted(names: Iterable[str]) -> str:
    """List files by name, those in folders by their number."""
    tops = Counter(name.partition("/")[0] + ("/" if "/" in name else "") for name in names)
    return ", ".join(f"{top} ({n} files)" if top.endswith("/") else top for top, n in sorted(tops.items()))


def _files_below(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """Yield the path of every file as it is in the new folder, with its template."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files_below(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name.removesuffix(".txt"), entry


def _templates(task: str) -> Traversable:
    """Return the folder of a recipe's scaffold. Raises ConfigError naming the recipes that have one."""
    found = {name: files("paceline.recipes") / name / "compat" / "scaffold" for name in BUILT_IN}
    known = [name for name, templates in found.items() if templates.is_dir()]
    if task not in known:
        raise ConfigError("there is no scaffold for a task of that name", where="TASK", got=task,
                          hint=hint(task, known))  # fmt: skip
    return found[task]
