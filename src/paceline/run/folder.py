"""The folder that holds everything about a run, and `Run`, the handle that reads it.

config.yaml plan.json environment.json splits.json summary.json members.csv log.jsonl timing.csv report.html
checkpoints/<cohort>/step-<n>/   logs/<cohort>.jsonl, .timing.csv, .done
init/<sha256>.pt (where weights were given to begin with)
members/<id>/ overrides.yaml history.csv history.json best.pt latest.pt predictions.npz decision.json (where asked for)
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from paceline.checkpoint.files import make_folder, sync_folder, write_text_atomic
from paceline.config.reading import parse_json, read_text
from paceline.config.tree import Tree, read_yaml, to_yaml
from paceline.errors import CheckpointCorruptError, RunError
from paceline.run.contained import refuse_foreign_entries
from paceline.run.schemas import check_schema

MADE_WITH = "config.yaml"
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.", re.IGNORECASE)  # no names of files on Windows


class Run:
    """A run folder. Reading only: what trains, writes through the functions of this package."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def id(self) -> str:
        """What tells this run from an earlier one of the same name; drawn when it was made."""
        return str(self.read_json("environment.json").get("run_id", self.name))

    @property
    def config(self) -> Tree:
        """The resolved config that every member shares."""
        return read_yaml(self.path / "config.yaml")

    @property
    def summary(self) -> dict[str, Any]:
        """Metrics with intervals, members, selection. Raises RunError before the run has finished."""
        return self.read_json("summary.json")

    @property
    def members(self) -> list[str]:
        """Ids of all members, in the order of the plan."""
        return [member for cohort in self.read_json("plan.json")["cohorts"] for member in cohort["members"]]

    def history(self, member: str | None = None) -> dict[str, list[Any]]:
        """Return the equal-length lists of one member (the first, unless named), an entry per evaluation."""
        return self.read_json(f"members/{self._member(member)}/history.json")

    def best(self, member: str | None = None) -> dict[str, Any]:
        """Load `best.pt` of one member: weights on the CPU, config, selection, split, classes, scaler.

        Raises CheckpointCorruptError for a file that is damaged, or of another member.
        """
        from paceline.checkpoint.store import read_state

        name = self._member(member)
        path = self.member_folder(name) / "best.pt"
        cohorts = [c["id"] for c in self.read_json("plan.json")["cohorts"] if name in c["members"]]
        hint = f"delete {self.path}/logs/{cohorts[0]}.done; paceline resume {self.path} then derives the file again"
        try:
            state = read_state(path)
        except CheckpointCorruptError as error:
            raise CheckpointCorruptError(error.what, where=error.where, got=error.got, hint=hint) from error
        check_schema(state, path.name, str(path))
        found = (state.get("member"), state.get("kind", "best"))
        if found != (name, "best"):
            raise CheckpointCorruptError("the file is not what its name says", where=str(path),
                                         got=f"{found[1]} of {found[0]}", hint=hint)  # fmt: skip
        return state

    def member_config(self, member: str) -> Tree:
        """Return a member's resolved config: the run's, with its own differences laid over it."""
        return overlay(self.config, self.member_overrides(member))

    def member_overrides(self, member: str) -> Tree:
        """Return in what a member's config differs from the run's."""
        path = self.member_folder(member) / "overrides.yaml"
        return read_yaml(path) if path.exists() else {}

    def member_folder(self, member: str) -> Path:
        return self.path / "members" / member

    def read_json(self, name: str) -> dict[str, Any]:
        """Read one of the run's JSON files. Raises RunError when it is missing or damaged."""
        path = self.path / name
        try:
            content = parse_json(read_text(path))
        except FileNotFoundError:
            raise RunError(
                f"the run has no {name}",
                where=str(self.path),
                hint=f"paceline resume {self.path}" if self.is_run() else "the path of a run folder",
            ) from None
        except (OSError, ValueError) as error:
            raise RunError(f"{name} of the run cannot be read", where=str(path), got=str(error)) from None
        if not isinstance(content, dict):
            raise RunError(f"{name} of the run is damaged", where=str(path), got=type(content).__name__)
        check_schema(content, name, str(path))
        return content

    def is_run(self) -> bool:
        return (self.path / MADE_WITH).is_file()

    def _member(self, member: str | None) -> str:
        known = self.members
        if member is None:
            return known[0]
        if member not in known:
            raise RunError("the run has no such member", where=str(self.path), got=member, hint=", ".join(known[:5]))
        return member


def open_run(path: Path | str) -> Run:
    """Return the run in a folder. Raises RunError when there is none, or something in it leads out of it."""
    run = Run(path)
    if not run.is_run():
        what = "this folder is not a run" if run.path.is_dir() else "there is no such run"
        raise RunError(what, where=str(path), hint="a folder that holds config.yaml, such as runs/<name>")
    refuse_foreign_entries(run.path)
    return run


def new_name(task: str, model: str) -> str:
    """Return `<task>-<model>-<yyyymmdd-hhmmss>-<4 hex>`."""
    return f"{task}-{model}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def check_name(name: str) -> str:
    """Return the name. Raises RunError unless it is one plain path component."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name) or _DEVICE.fullmatch(name):
        raise RunError("a run's name must be letters, digits, dots, dashes and underscores", where="--name", got=name,
                       hint="--name demo (the folder is chosen with --runs)")  # fmt: skip
    return name


def claim(runs: Path, name: str, *, overwrite: bool) -> Path:
    """Return the path of the new run, after checking that it may be made. Nothing is written or removed yet."""
    path = runs / check_name(name)
    if path.exists() and not overwrite:
        raise RunError("the run exists already", where=str(path),
                       hint=f"--overwrite, another --name, or paceline resume {path}")  # fmt: skip
    if path.exists() and not (Run(path).is_run() or (path.is_dir() and not any(path.iterdir()))):
        raise RunError("the folder exists and is not a run: it is not overwritten", where=str(path))
    return path


def create(path: Path, texts: Mapping[str, str], states: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> Run:
    """Make the run folder with its first files, in one rename: it is there whole or not at all.

    states: files of tensors, by name.

    Where it replaces another, this is put aside: call it within `replacing`.
    """
    making = path.parent / f".{path.name}.{os.getpid()}.making"
    try:
        make_folder(path.parent)
        shutil.rmtree(making, ignore_errors=True)
        for name, text in texts.items():
            target = making / name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomic(target, text)
        for name, state in states.items():
            from paceline.checkpoint.store import write_state

            (making / name).parent.mkdir(exist_ok=True)
            write_state(making / name, state)
        for folder in ("checkpoints", "logs", "members"):
            (making / folder).mkdir(exist_ok=True)
        for folder in ("members", "."):  # names are durable too, or a power cut takes a run and its checkpoints
            sync_folder(making / folder)
        if path.exists():
            path.rename(_aside(path))
        making.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise RunError("the run folder cannot be made", where=str(path), got=str(error)) from None
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Run(path)


@contextmanager
def replacing(path: Path) -> Iterator[None]:
    """A run that `create` replaces inside is removed at the end, or put back where anything inside raises."""
    aside, was_there = _aside(path), path.exists()
    try:
        yield
    except BaseException:
        if aside.exists() or not was_there:  # nothing is trained yet, and the name would be taken
            shutil.rmtree(path, ignore_errors=True)
        if aside.exists():
            aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _aside(path: Path) -> Path:
    return path.parent / f".{path.name}.{os.getpid()}.replaced"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all; numbers that are not finite are refused."""
    write_text_atomic(path, to_json(content))


def to_json(content: Mapping[str, Any]) -> str:
    """Return indented JSON; numbers that are not finite are refused."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def overlay(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Tree:
    """Lay a member's differences over the run's config; a section that names its choice replaces the whole section."""
    laid = dict(base)
    for name, value in overrides.items():
        below = laid.get(name)
        is_part = isinstance(value, Mapping) and isinstance(below, Mapping) and "name" not in value
        laid[name] = overlay(below, value) if is_part else value  # type: ignore[arg-type]  # narrowed by is_part
    return laid


def overrides_text(overrides: Mapping[str, Any]) -> str:
    """Return the text of `overrides.yaml`."""
    return to_yaml(overrides) if overrides else "{}\n"
