"""All runs of a folder, those of one task and data beside each other, the best by its selection metric first."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from paceline.checkpoint.files import write_text_atomic
from paceline.errors import PacelineError, RunError
from paceline.report.files import Json, items, section, sections
from paceline.report.results import Metric, metrics_of, selection_metric, variant_names
from paceline.report.words import better, clean, number
from paceline.run.contained import refuse_foreign_entries
from paceline.run.folder import Run

SCHEMA_VERSION = 1
Key = tuple[str, str, str, str, str]  # task, data, split, metric, fingerprint


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run. `done` of `members` have finished; `failed` of them failed. `result` is the selection metric.

    `test` is the same metric on the test part, where it was opened. `status` is `finished`, `failed`, `unfinished` or
    `damaged: <why>`. `when` is the time it was made, in seconds since 1970.
    """

    name: str
    path: Path
    status: str
    task: str = ""
    model: str = ""
    data: str = ""
    fingerprint: str = ""
    split: str = ""
    metric: str = ""
    variant: str = ""
    members: int = 0
    done: int = 0
    failed: int = 0
    result: Metric | None = None
    test: Metric | None = None
    when: float = 0.0

    @property
    def group(self) -> Key:
        """Runs with the same of these can be ranked."""
        return self.task, self.data, self.split, self.metric, self.fingerprint

    @property
    def day(self) -> str:
        """The local date on which the run was made."""
        return time.strftime("%Y-%m-%d", time.localtime(self.when)) if self.when else ""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that can be ranked, the best first, those without a result last. `heading` names task, data and metric."""

    heading: str
    metric: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """The runs of a folder."""

    folder: Path
    groups: tuple[Group, ...]


def leaderboard(folder: Path) -> Leaderboard:
    """Read all runs in a folder. Raises RunError where there is none; a damaged run is listed as such."""
    if not folder.is_dir():
        raise RunError("there is no such folder", where=str(folder), hint="paceline runs FOLDER (default: runs)")
    entries = [_entry(Run(path)) for path in sorted(folder.iterdir()) if Run(path).is_run() and path.name[0] != "."]
    if not entries:
        hint = f"paceline runs {folder.parent}" if Run(folder).is_run() else "paceline train task=pain members.seeds=5"
        raise RunError("the folder holds no runs", where=str(folder), hint=hint)
    ranked = sorted(entries, key=lambda entry: (entry.group, *_rank(entry)))
    found = [(key, tuple(own)) for key, own in groupby(ranked, key=lambda entry: entry.group)]
    names = [key[:4] for key, _ in found]
    groups = [Group(heading=_heading(key, names.count(key[:4]) > 1), metric=key[3], entries=own) for key, own in found]
    return Leaderboard(folder=folder, groups=tuple(groups))


def to_tree(found: Leaderboard) -> dict[str, Any]:
    """Return the list as plain values for JSON."""
    runs = [entry for group in found.groups for entry in group.entries]
    return {
        "schema_version": SCHEMA_VERSION,
        "folder": str(found.folder),
        "runs": [{**asdict(entry), "path": str(entry.path), "day": entry.day} for entry in runs],
    }


def write_leaderboard_json(found: Leaderboard, target: Path) -> None:
    """Write the list as JSON, whole or not at all."""
    write_text_atomic(target, json.dumps(to_tree(found), indent=1, allow_nan=False) + "\n", durable=False)


def _rank(entry: Entry) -> tuple[float, float]:
    """Return what is smaller for a better run; without a result the newest first."""
    mean = entry.result.mean if entry.result else None
    if mean is None:
        return math.inf, -entry.when
    return (mean if better(entry.metric) == "lower" else -mean), -entry.when


def _heading(key: Key, ambiguous: bool) -> str:
    task, data, split, _, fingerprint = key
    what = "a task given in Python" if task == "given" else task or "unknown task"
    where = "data given in Python" if data == "given" else data or "unknown data"
    both = "task and data given in Python" if task == data == "given" else f"{what} on {where}"
    split = "split given" if split.startswith("one given split") else split
    text = both + (f", {split}" if split else "")
    return f"{text} ({fingerprint.removeprefix('sha256:')[:8] or 'no fingerprint'})" if ambiguous else text


def _entry(run: Run) -> Entry:
    made = Entry(name=clean(run.name), path=run.path, status="unfinished", when=_time(run.path))
    try:
        refuse_foreign_entries(run.path)
        config = run.config
        task, model, data = (clean(section(config, name).get("name")) for name in ("task", "model", "data"))
        metric = clean(section(config, "training", "selection").get("metric"))
        splits = _read(run, "splits.json")
        made = replace(made, task=task, model=model, data=data, metric=metric,
                       fingerprint=clean(splits.get("fingerprint")), split=_split(splits))  # fmt: skip
        plan = _read(run, "plan.json")
        members = sum(len(items(cohort, "members")) for cohort in sections(plan, "cohorts"))
        done = sum((run.path / "logs" / f"{clean(c.get('id'))}.done").is_file() * len(items(c, "members"))
                   for c in sections(plan, "cohorts"))  # fmt: skip
        made = replace(made, members=members, done=done)
        return _with_results(made, _read(run, "summary.json"))
    except (PacelineError, OSError, ValueError) as error:
        what = error.what if isinstance(error, PacelineError) else str(error)
        return replace(made, status=f"damaged: {clean(what)}")


def _with_results(made: Entry, summary: Json) -> Entry:
    if not summary:
        return made
    metric = made.metric or selection_metric(summary)
    rows = {row.name: row for row in metrics_of(summary)}
    variants = variant_names(summary)
    members = sections(summary, "members")
    return replace(
        made,
        status=clean(summary.get("status")),
        metric=metric,
        variant=variants[0] if variants else "",
        members=len(members) or made.members,
        done=len(members) or made.done,
        failed=len(items(summary, "failed")),
        result=rows.get(metric),
        test=rows.get(f"test_{metric.partition('_')[2]}"),
    )


def _split(tree: Json) -> str:
    """How the data was divided: `one stratified split (seed 42)`, `5 group folds, redrawn for every seed`."""
    entries = sections(tree, "splits")
    if not entries:
        return ""
    seed = tree.get("seed")
    rule, folds = clean(tree.get("rule")), number(entries[0].get("n_folds"))
    drawn = ", redrawn for every seed" if seed is None else f" (seed {clean(seed)})"
    return (f"{folds:.0f} {rule} folds" if folds else f"one {rule} split") + drawn


def _read(run: Run, name: str) -> Mapping[str, Any]:
    return run.read_json(name) if (run.path / name).is_file() else {}


def _time(folder: Path) -> float:
    """The time when the run was made: its environment is written once."""
    try:
        return float(number((folder / "environment.json").stat().st_mtime) or 0.0)
    except OSError:
        return 0.0
