"""Which is better? Every arm against the first, on each metric, with what the three sources of variance allow to say.

The verdict stands on the t test over members or folds (training seeds; with folds training data, too), after Holm's
correction where there are several tests. The paired bootstrap adds the third source, the samples measured on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from paceline.config.suggest import hint
from paceline.errors import RunError
from paceline.evaluate.bootstrap import SampleInterval
from paceline.evaluate.paired import Difference, McNemar, SignFlip, difference, holm, sign_flip_test
from paceline.evaluate.statistics import Interval, summarise
from paceline.report.compare_arms import Arm, common_metrics, read_arms
from paceline.report.compare_checks import check_comparable
from paceline.report.compare_samples import on_samples
from paceline.report.words import count

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One test: arm `b` against arm `a` on one metric. Differences are b minus a. `p` is adjusted for several tests."""

    metric: str
    a: str
    b: str
    difference: Difference
    p: float | None = None
    flips: SignFlip | None = None
    samples: SampleInterval | None = None
    mcnemar: McNemar | None = None

    @property
    def found(self) -> bool:
        """A difference that the adjusted p-value takes for real."""
        return self.p is not None and self.p < ALPHA


@dataclass(frozen=True, kw_only=True)
class Side:
    """One arm on one metric: its interval by itself, its members' values, and how many failed."""

    name: str
    metric: str
    interval: Interval
    values: tuple[float | None, ...]
    failed: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that the text, the JSON and the page show. `notes` are sentences on what to know."""

    metrics: tuple[str, ...]
    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    data: str = ""
    fingerprint: str = ""

    @property
    def tests(self) -> int:
        """How many tests Holm's correction counts."""
        return sum(pair.difference.p is not None for pair in self.pairs)

    def side(self, name: str, metric: str) -> Side:
        return next(side for side in self.sides if (side.name, side.metric) == (name, metric))


def compare(sources: Sequence[str], metrics: Sequence[str] = (), *, redrawn: bool = False) -> Comparison:
    """Compare run folders (`RUN` or `RUN:VARIANT`) and CSV files: every one with the first.

    metrics: names such as `test_f1_macro`; by default the first that the first run's report shows and all have.
    redrawn: in CSV files every seed drew its own folds. Raises RunError where data or splits differ, saying how.
    """
    arms = read_arms(sources, redrawn=redrawn)
    notes = check_comparable(arms)
    chosen = _metrics(arms, metrics)
    pairs = [_pair(arms[0], arm, metric) for metric in chosen for arm in arms[1:]]
    adjusted = holm([pair.difference.p for pair in pairs])
    sides = [_side(arm, metric) for metric in chosen for arm in arms]
    return Comparison(
        metrics=tuple(chosen),
        sides=tuple(sides),
        pairs=tuple(replace(pair, p=p) for pair, p in zip(pairs, adjusted, strict=True)),
        notes=(*notes, *_notes(arms, chosen)),
        data=arms[0].design.data,
        fingerprint=arms[0].design.fingerprint,
    )


def _metrics(arms: Sequence[Arm], wanted: Sequence[str]) -> list[str]:
    known = common_metrics(arms)
    if not known:
        listed = "; ".join(f"{arm.name}: {', '.join(list(arm.scores)[:6]) or 'none'}" for arm in arms)
        raise RunError("the runs have no metric in common", where=", ".join(arm.where for arm in arms), got=listed)
    for name in wanted:
        if name not in known:
            raise RunError(
                "not all of them have a metric of that name", where="--metric", got=name, hint=hint(name, known)
            )
    return list(dict.fromkeys(wanted)) or known[:1]


def design_of(arms: Sequence[Arm], metric: str) -> dict[str, Any]:
    """Return the keywords on the design that `summarise` and `difference` share, from an arm with a record of it."""
    arm = next((arm for arm in arms if arm.design.splits), arms[0])
    n_train, n_test = arm.design.sizes(metric, len(arm.folds)) or (None, None)
    fixed = metric.startswith("test_") and bool(arm.design.splits)
    redrawn = arm.design.redrawn and (fixed or n_train is not None)
    return {"n_train": n_train, "n_test": n_test, "redrawn": redrawn, "fixed_part": fixed}


def _side(arm: Arm, metric: str) -> Side:
    scores = arm.scores[metric]
    values = tuple(value if math.isfinite(value) else None for _, _, value in scores)
    interval = summarise(scores, **design_of([arm], metric))
    return Side(name=arm.name, metric=metric, interval=interval, values=values, failed=arm.failed)


def _pair(a: Arm, b: Arm, metric: str) -> Pair:
    found = difference(a.scores[metric], b.scores[metric], **design_of([a, b], metric))
    flips = sign_flip_test(found.values) if found.paired and len(found.values) > 1 else None
    samples, exact = on_samples(a, b, metric)
    return Pair(metric=metric, a=a.name, b=b.name, difference=found, flips=flips, samples=samples, mcnemar=exact)


def _notes(arms: Sequence[Arm], metrics: Sequence[str]) -> list[str]:
    notes = []
    for arm in arms:
        if arm.failed:
            n = arm.failed + max(len(scores) for scores in arm.scores.values())
            notes.append(
                f"{arm.failed} of {count(n, 'member')} of {arm.name} failed and are left out: if the method made them "
                "fail, its figures are too good."
            )
    if any(metric.startswith("val_") for metric in metrics) and any(arm.folders for arm in arms):
        notes.append(
            "Validation figures chose the weights and are too good on both sides; a part that chose nothing is fairer."
        )
    if any(not arm.design.splits and arm.folds != [None] for arm in arms):
        notes.append(
            "The sizes of the parts are not known: with k folds, k - 1 times as many samples train as are measured on."
        )
    left = [name for name in common_metrics(arms) if name not in metrics]
    if left:
        more = f" and {len(left) - 6} more" if len(left) > 6 else ""
        notes.append(f"Not compared: {', '.join(left[:6])}{more} (--metric NAME, also several).")
    return notes
