"""What the members predicted, gathered for the page: one part, the leading variant, and intervals over members.

Shapes: N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paceline.evaluate.predictions import Floats, Predictions, pooled
from paceline.evaluate.statistics import Interval, Score, summarise
from paceline.report.files import RunFiles, items, section, sections
from paceline.report.results import leading_members
from paceline.report.words import clean, count, label, numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class One:
    """The predictions of one member, or those of the folds of one seed, joined (then `fold` is None).

    temperature: the member's, as fitted on validation and kept; 1 without one, and on the part that it was fitted on.
    """

    seed: int
    fold: int | None
    found: Predictions
    temperature: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """What the members of the leading variant predicted for one part: test where it was opened, else validation.

    `members` are one by one. In `sets` the folds of one seed are joined where they are of different samples, so that
    each set has a sample at most once; `joined` says that they are. `n_train` and `n_part`: mean sizes of the parts of
    the splits. `redrawn`: every seed drew its own split.
    """

    part: str
    classes: Sequence[str]
    members: Sequence[One]
    sets: Sequence[One]
    joined: bool
    redrawn: bool
    n_train: float | None
    n_part: float | None

    @property
    def samples(self) -> int:
        """How many different samples were predicted."""
        return len(np.unique(np.concatenate([one.found.index for one in self.members])))

    @property
    def words(self) -> str:
        """`test part, 5 members`, `validation parts of 5 folds, joined for each of 3 seeds`."""
        part = label(f"{self.part}_part")
        if not self.joined:
            return self.words_of_members
        folds = len({one.fold for one in self.members})
        seeds = f" for each of {count(len(self.sets), 'seed')}" if len(self.sets) > 1 else ""
        return f"{part}s of {count(folds, 'fold')}, joined{seeds}"

    @property
    def words_of_members(self) -> str:
        """`test part, 5 members`, `validation parts of 15 members`."""
        part, members = label(f"{self.part}_part"), count(len(self.members), "member")
        return f"{part}s of {members}" if self.joined else f"{part}, {members}"

    def interval(self, values: Sequence[float], of: Sequence[One]) -> Interval:
        """Mean and 95 % interval of one value of each member, or of each set, made as for the metrics of the run."""
        scores: list[Score] = [(one.seed, one.fold, value) for one, value in zip(of, values, strict=True)]
        fixed = self.part == "test"
        one_split = not self.redrawn and len({one.fold for one in of}) == 1
        distinct = len({score[:2] for score in scores}) == len(scores) and len({one.fold is None for one in of}) == 1
        if not distinct or not (one_split or fixed or (self.n_train and self.n_part)):
            return Interval(mean=_mean(values), std=None, low=None, high=None, n=len(values), method="no interval")
        return summarise(scores, self.n_train, self.n_part, redrawn=self.redrawn, fixed_part=fixed)


def predicted(files: RunFiles) -> Predicted | None:
    """Gather the stored predictions; None where no member of the leading variant has any.

    Nothing is opened here: predictions on the test part exist only where the run opened it.
    """
    trained = [member for member in leading_members(files.summary) if not member.failed]
    held = [(member, files.predictions.get(member.id, {})) for member in trained]
    part = next((part for part in ("test", "val") if any(part in found for _, found in held)), None)
    if part is None:
        return None
    fitted = _temperatures(files) if part == "test" else {}
    members = [
        One(
            seed=int(member.seed or 0),
            fold=None if member.fold is None else int(member.fold),
            found=found[part],
            temperature=fitted.get(member.id, 1.0),
        )
        for member, found in held
        if part in found
    ]
    sets, joined = _sets(members)
    splits = sections(files.splits, "splits")
    return Predicted(
        part=part,
        classes=_names(files, members[0].found),
        members=members,
        sets=sets,
        joined=joined,
        redrawn=section(files.environment, "config", "members").get("split_seed") == "per_seed",
        n_train=_mean([len(items(split, "train")) for split in splits]),
        n_part=_mean([len(items(split, part)) for split in splits]),
    )


def _sets(members: Sequence[One]) -> tuple[list[One], bool]:
    """Join the folds of each seed, where that gives each sample at most once for every seed."""
    by_seed: dict[int, list[One]] = {}
    for one in members:
        by_seed.setdefault(one.seed, []).append(one)
    joined = [(seed, pooled((seed, one.found) for one in ones)) for seed, ones in by_seed.items()]
    if len(by_seed) == len(members) or any(len(found) > 1 for _, found in joined):
        return list(members), False
    return [One(seed=seed, fold=None, found=found[0]) for seed, found in joined], True


def _temperatures(files: RunFiles) -> dict[str, float]:
    """The temperatures that were kept, by member."""
    found: dict[str, float] = {}
    for row in sections(files.summary, "members"):
        fit = section(row, "decision", "temperature")
        values = [value for value in numbers(fit.get("values")) if value]
        if fit.get("kept") is True and len(values) == 1:
            found[clean(row.get("id"))] = values[0]
    return found


def _names(files: RunFiles, found: Predictions) -> list[str]:
    """The names of the classes; their numbers where the run folder does not have them."""
    if found.probability is None:
        return []
    names = [clean(name) for name in items(files.splits, "classes")]
    n_classes = found.probability.shape[1]
    return names if len(names) == n_classes else [str(k) for k in range(n_classes)]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def chosen_probability(found: Predictions) -> Floats:
    """The probability of the true class of each sample (N,)."""
    assert found.probability is not None
    chosen: Floats = found.probability[np.arange(len(found.y)), found.y].astype(np.float64)
    return chosen
