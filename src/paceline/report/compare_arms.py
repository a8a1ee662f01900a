"""What is compared: members of a run, or of one of its variants, or scores from a CSV file, all as arms of one form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from paceline.config.suggest import hint
from paceline.errors import RunError
from paceline.evaluate.predictions import Predictions, read_predictions
from paceline.evaluate.statistics import Score
from paceline.report.compare_csv import read_csv
from paceline.report.files import items, section, sections
from paceline.report.results import MemberResult, headline_of, members_of, selection_metric, variant_names
from paceline.report.words import clean
from paceline.run.contained import refuse_foreign_entries
from paceline.run.folder import Run

SplitKey = tuple[int | None, int | None]  # (seed where each drew its own split, fold)
Parts = Mapping[str, tuple[int, ...]]  # train, val, test: indices in the data


@dataclass(frozen=True, kw_only=True)
class Design:
    """On what an arm was trained and measured. `fingerprint` "" and no splits: not known, as for a CSV file."""

    redrawn: bool = False
    fingerprint: str = ""
    data: str = ""
    n: int = 0
    splits: Mapping[SplitKey, Parts] = field(default_factory=dict, repr=False)

    def sizes(self, metric: str, n_folds: int) -> tuple[float, float] | None:
        """Samples of a training part and of the part that `metric` was measured on; by folds alone where not known."""
        part = metric.partition("_")[0]
        if self.splits and part in ("train", "val", "test"):
            each = [(len(parts["train"]), len(parts[part])) for parts in self.splits.values()]
            n_train, n_test = (float(np.mean(numbers)) for numbers in zip(*each, strict=True))
            return (n_train, n_test) if n_train and n_test else None
        return (n_folds - 1, 1) if n_folds > 1 else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """One side of a comparison. `scores` by metric, one of each member that has not failed (NaN where it has none)."""

    name: str
    where: str
    scores: Mapping[str, Sequence[Score]]
    failed: int = 0
    leading: tuple[str, ...] = ()  # the metrics that its report shows first
    design: Design = field(default_factory=Design)
    folders: Mapping[tuple[int, int | None], Path] = field(default_factory=dict)

    @property
    def folds(self) -> list[int | None]:
        """The folds of its members; [None] without folds."""
        found = {fold for scores in self.scores.values() for _, fold, _ in scores}
        return sorted(found, key=lambda fold: -1 if fold is None else fold)

    def predictions(self, part: str) -> list[tuple[int, int | None, Predictions]]:
        """Stored predictions of each member, as (seed, fold, predictions); empty unless all have them."""
        found = []
        for (seed, fold), folder in self.folders.items():
            one = read_predictions(folder / "predictions.npz", [part]).get(part)
            if one is None:
                return []
            found.append((seed, fold, one))
        return found


def read_arms(sources: Sequence[str], *, redrawn: bool = False) -> list[Arm]:
    """Read run folders, `RUN:VARIANT`, and CSV files; a run with variants gives an arm for each.

    `redrawn` says that in CSV files every seed drew its own folds. Raises RunError for what cannot be read, for a run
    that has not finished, for an arm given twice and for fewer than two arms.
    """
    arms = [arm for source in sources for arm in _read(source, redrawn)]
    for where, number in Counter((Path(arm.where).resolve(), arm.name) for arm in arms).items():
        if number > 1:
            raise RunError("the same members were given twice", where=str(where[0]))
    if len(arms) < 2:
        only = arms[0].name if arms else ""
        raise RunError("there is nothing to compare with", where="paceline compare", got=only,
                       hint="two runs, a run with variants, or two CSV files")  # fmt: skip
    named = Counter(arm.name for arm in arms)
    return [replace(arm, name=clean(arm.where)) if named[arm.name] > 1 else arm for arm in arms]


def _read(source: str, redrawn: bool) -> list[Arm]:
    path = Path(source)
    if path.suffix.lower() == ".csv" and not path.is_dir():
        return [
            Arm(name=name, where=source, scores=scores, design=Design(redrawn=redrawn))
            for name, scores in read_csv(path).items()
        ]
    folder, _, variant = source.rpartition(":")
    if path.exists() or not folder:
        return _run_arms(Run(path), source)
    found = {arm.name.partition(":")[2]: arm for arm in _run_arms(Run(folder), folder)}
    if variant not in found:
        raise RunError("the run has no such variant", where=folder, got=variant, hint=hint(variant, found))
    return [found[variant]]


def _run_arms(run: Run, where: str) -> list[Arm]:
    if not run.is_run():
        what = "this folder is not a run" if run.path.is_dir() else "there is no such run or CSV file"
        raise RunError(what, where=where, hint="a folder such as runs/<name>, or scores as file.csv")
    refuse_foreign_entries(run.path)
    summary = run.summary
    members = members_of(summary)
    variants = variant_names(summary) or [""]
    leading = (*(row.name for row in headline_of(summary, limit=3)), selection_metric(summary))
    shared = {"where": where, "leading": leading, "design": _design(run)}
    return [
        _arm(run, variant, [m for m in members if m.variant == variant or not variant], shared) for variant in variants
    ]


def _arm(run: Run, variant: str, members: Sequence[MemberResult], shared: Mapping[str, Any]) -> Arm:
    trained = [member for member in members if not member.failed]
    if not trained:
        what = "all members failed" if members else "the run has no members"
        raise RunError(f"there is nothing to compare: {what}", where=f"{shared['where']}{variant and ':'}{variant}")
    twice = [place for place, times in Counter(_score(m, None)[:2] for m in trained).items() if times > 1]
    if twice:
        raise RunError("the run has a member twice", where=shared["where"], got=f"seed {twice[0][0]}")
    names = dict.fromkeys(name for member in trained for name in member.metrics)
    scores = {name: [_score(member, member.metrics.get(name)) for member in trained] for name in names}
    return Arm(
        name=f"{clean(run.path.resolve().name)}:{variant}" if variant else clean(run.path.resolve().name),
        scores=scores,
        failed=len(members) - len(trained),
        folders={_score(member, None)[:2]: run.member_folder(member.id) for member in trained},
        **shared,
    )


def _score(member: MemberResult, value: float | None) -> Score:
    fold = None if member.fold is None else int(member.fold)
    return int(member.seed or 0), fold, float("nan") if value is None else value


def _design(run: Run) -> Design:
    redrawn = section(run.config, "members").get("split_seed") == "per_seed"
    if not (run.path / "splits.json").is_file():
        return Design(redrawn=redrawn)
    tree = run.read_json("splits.json")
    splits = {
        (entry.get("seed") if redrawn else None, entry.get("fold")): {
            part: tuple(items(entry, part)) for part in ("train", "val", "test")
        }
        for entry in sections(tree, "splits")
    }
    return Design(
        redrawn=redrawn, fingerprint=clean(tree.get("fingerprint")), data=clean(tree.get("source")),
        n=int(tree.get("n") or 0), splits=splits,
    )  # fmt: skip


def common_metrics(arms: Iterable[Arm]) -> list[str]:
    """The metrics that every arm has, those first that the first arm's report shows first, test before validation."""
    arms = list(arms)
    shared = [name for name in arms[0].scores if all(name in arm.scores for arm in arms)]
    leading = [name for name in arms[0].leading if name in shared]
    order = {"test": 0, "val": 1}
    return list(dict.fromkeys([*leading, *sorted(shared, key=lambda name: order.get(name.partition("_")[0], 2))]))
