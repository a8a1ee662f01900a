"""Whether two runs of one configuration are the same, bit for bit: every tensor, the log, the order of samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from paceline.checkpoint.store import Store, read_state
from paceline.checkpoint.tree import equal
from paceline.errors import RunError
from paceline.run.folder import Run
from paceline.train.witness import differing_steps, read_batches

SHOWN = 60  # characters of a line of the log


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Where two runs differ, and how much was compared: tensors, lines of the log, steps."""

    differences: tuple[str, ...]
    tensors: int
    lines: int
    steps: int


def compare_bits(run: Run, reference: Run) -> Compared:
    """Compare two finished runs of one plan. When they save, and what that is called, may differ.

    The last checkpoints (weights, moments, schedules, selection, averages, meters), the published weights, the
    predictions, the records line by line, and where `training.log_batches` was set the samples of every step, those
    too that a killed run trained again. Raises RunError where a file is missing.
    """
    cohorts = [cohort["id"] for cohort in reference.read_json("plan.json")["cohorts"]]
    if cohorts != [cohort["id"] for cohort in run.read_json("plan.json")["cohorts"]]:
        raise RunError("the runs have different plans", where=str(run.path), got=str(reference.path))
    trees = [pair for cohort in cohorts for pair in _states(run, reference, cohort)]
    trees += [pair for member in reference.members for pair in _published(run, reference, member)]
    differences = [f"{name}: {path}" for name, mine, theirs in trees for path in equal(mine, theirs)]
    differences.sort(key=lambda text: "cohort.engine." not in text)  # weights and moments first
    lines, orders = 0, 0
    for cohort in cohorts:
        found, count = _lines(run, reference, cohort)
        differences, lines = differences + found, lines + count
        found, count = _order(run, reference, cohort)
        differences, orders = differences + found, orders + count
    tensors = sum(1 for _, _, tree in trees for leaf in _leaves(tree) if isinstance(leaf, Tensor | np.ndarray))
    return Compared(differences=tuple(differences), tensors=tensors, lines=lines, steps=orders)


def _states(run: Run, reference: Run, cohort: str) -> Iterator[tuple[str, Any, Any]]:
    """The cohort's last state in both runs; log lengths aside, as wall times are of different length."""
    found = [Store(r.path / "checkpoints" / cohort).latest() for r in (run, reference)]
    mine, theirs = (None if pair is None else {"at": pair[0], "cohort": pair[1]["cohort"]} for pair in found)
    if theirs is None:
        raise RunError("the run has no checkpoint", where=str(reference.path), got=cohort)
    yield f"checkpoints/{cohort}", mine, theirs


def _published(run: Run, reference: Run, member: str) -> Iterator[tuple[str, Any, Any]]:
    """The files of a member that one of the runs has; None for the one that lacks it."""
    readers = {"best.pt": _without_config, "latest.pt": _without_config, "predictions.npz": _arrays}
    for name, read in readers.items():
        paths = [r.path / "members" / member / name for r in (run, reference)]
        if any(path.exists() for path in paths):
            mine, theirs = (read(path) if path.exists() else None for path in paths)
            yield f"members/{member}/{name}", mine, theirs


def _without_config(path: Path) -> dict[str, Any]:
    """The content of a weights file; when the runs save is part of their configs."""
    return {name: value for name, value in read_state(path).items() if name != "config"}


def _arrays(path: Path) -> dict[str, Any]:
    """Arrays as bytes beside their type and shape: those of text are no tensors."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: [str(a.dtype), list(a.shape), a.tobytes().hex()] for name, a in arrays.items()}


def _lines(run: Run, reference: Run, cohort: str) -> tuple[list[str], int]:
    """The first line of a cohort's record that differs, and how many there are."""
    mine, theirs = (
        (r.path / "logs" / f"{cohort}.jsonl").read_text(encoding="utf-8").splitlines() for r in (run, reference)
    )
    for number, (a, b) in enumerate(zip_longest(mine, theirs), start=1):
        if a != b:
            return [f"logs/{cohort}.jsonl: line {number}: {_apart(a, b)}"], len(theirs)
    return [], len(theirs)


def _apart(a: str | None, b: str | None) -> str:
    """Show two lines from a little before where they part."""
    if a is None or b is None:
        return "missing" if a is None else "one too many"
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    first = max(0, at - SHOWN // 2)
    return f"...{a[first : first + SHOWN]} against ...{b[first : first + SHOWN]}"


def _order(run: Run, reference: Run, cohort: str) -> tuple[list[str], int]:
    mine, theirs = (read_batches(r.path / "logs" / f"{cohort}.batches") for r in (run, reference))
    wrong = differing_steps(mine, dict(theirs))
    return [f"logs/{cohort}.batches: step {wrong[0]} had other samples"] if wrong else [], len(mine)


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, Mapping):
        for value in tree.values():
            yield from _leaves(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _leaves(value)
    else:
        yield tree
