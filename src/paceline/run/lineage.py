"""What was changed in a run after it was made: `lineage.json`, one entry per resume that changed something.

The entry is written before the files that it speaks of, so that a run that was killed in between can be brought to
what was decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paceline.config.tree import Tree, flatten, put
from paceline.errors import RunError
from paceline.run.folder import Run, write_json

NAME = "lineage.json"
SCHEMA_VERSION = 1
TRACKING = "tracking"  # changed as a whole: its keys depend on which trackers there are
Pair = list[Any]  # [before, now]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One resume under changes. `steps`: of each cohort then in training, the step from which on they hold."""

    steps: Mapping[str, int]
    config: Mapping[str, Pair] = field(default_factory=dict)
    scope: Mapping[str, Pair] = field(default_factory=dict)
    data: Pair | None = None  # fingerprints

    @property
    def any(self) -> bool:
        return bool(self.config or self.scope or self.data)


def read_lineage(run: Run) -> list[Change]:
    """Return the changes of a run, the first one first. Raises RunError where the file is damaged."""
    if not (run.path / NAME).exists():
        return []
    content = run.read_json(NAME)
    entries = content.get("changes")
    if content.get("schema_version") != SCHEMA_VERSION or not isinstance(entries, list):
        raise RunError("the lineage of the run cannot be read", where=str(run.path / NAME),
                       got=f"schema_version {content.get('schema_version')!r:.20}")  # fmt: skip
    return [_read(entry, f"{run.path / NAME}, entry {i}") for i, entry in enumerate(entries, start=1)]


def append(run: Run, change: Change) -> None:
    """Write down one more change."""
    changes = [*read_lineage(run), change]
    entries = [
        {"steps": dict(c.steps), "config": dict(c.config), "scope": dict(c.scope), "data": c.data} for c in changes
    ]
    write_json(run.path / NAME, {"schema_version": SCHEMA_VERSION, "changes": entries})


def config_made_with(run: Run) -> Mapping[str, Any]:
    """Return the config that a run was made with. Raises RunError where its record is damaged."""
    config = run.read_json("environment.json").get("config", {})
    if not isinstance(config, Mapping):
        raise RunError("the record of the run's config is damaged", where=str(run.path / "environment.json"),
                       got=type(config).__name__)  # fmt: skip
    return config


def in_force(made_with: Mapping[str, Any], changes: Sequence[Change]) -> Tree:
    """Return the config that a run has now, from the one it was made with."""
    tree = _copied(made_with)
    for change in changes:
        for key, (_, now) in change.config.items():
            put(tree, key, now)
    return tree


def scope_in_force(made_with: Mapping[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """Return the scope that a run was last trained in."""
    scope = dict(made_with)
    for change in changes:
        scope |= {key: now for key, (_, now) in change.scope.items()}
    return {key: value for key, value in scope.items() if value is not None}


def data_made_with(run: Run) -> str | None:
    """Return the fingerprint of the data that the run was made with, where it has other data now."""
    return next((change.data[0] for change in read_lineage(run) if change.data), None)


def config_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Pair]:
    """Return [before, now] by dotted key of everything in which two configs differ; `tracking` is one key."""
    flat = [
        {**dict(flatten({k: v for k, v in tree.items() if k != TRACKING})), TRACKING: tree.get(TRACKING, {})}
        for tree in (before, now)
    ]
    keys = dict.fromkeys([*flat[0], *flat[1]])
    return {key: [flat[0].get(key), flat[1].get(key)] for key in keys if flat[0].get(key) != flat[1].get(key)}


def _copied(tree: Mapping[str, Any]) -> Tree:
    return {name: _copied(value) if isinstance(value, Mapping) else value for name, value in tree.items()}


def _read(entry: object, where: str) -> Change:
    try:
        assert isinstance(entry, dict)
        steps, config, scope, data = (entry[name] for name in ("steps", "config", "scope", "data"))
        pairs = [*config.values(), *scope.values(), *([] if data is None else [data])]
        assert all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
        assert all(type(step) is int and step >= 0 for step in steps.values())
        return Change(steps=steps, config=config, scope=scope, data=data)
    except (AssertionError, AttributeError, KeyError, TypeError) as error:
        raise RunError("the lineage of the run is damaged", where=where, got=type(error).__name__) from None
