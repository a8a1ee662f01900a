"""Hints: what a run's own results suggest to change, each with the figures it rests on and the config key.

Every rule is a pure function of the evidence and says nothing without it. The thresholds are conventions, chosen so
that a sound training gets no hint.
"""

from __future__ import annotations

from statistics import fmean

from paceline.report import hints_of_curves as curves
from paceline.report.evidence import Evidence, Hint, evidence_of
from paceline.report.files import RunFiles, items, section
from paceline.report.words import clean, count, number, show

_WEAK = 0.5  # a class that is found less often than missed
_SOUND = 0.7  # mean recall of the other classes from which on it is not the training that is too weak
_IMBALANCE = 3  # times as many samples of one class as of another
_FEW = 30  # validation samples below which the choice of an epoch is a matter of single samples
_RARE = 10  # training samples of a class


def hints(files: RunFiles) -> list[Hint]:
    """Return the hints of a run, the most useful first; none before it has finished."""
    evidence = evidence_of(files)
    if not evidence.members:
        return []
    found: list[Hint] = []
    for rule in (curves.not_finite, curves.nothing_learned, curves.unstable, curves.stopped_in_warmup,
                 curves.too_short):  # fmt: skip
        found += rule(evidence)
    if not found:  # a training that did not work says little about classes, and nothing about its selection
        for rule in (curves.overfitting, weak_classes, curves.lagging_selection):
            found += rule(evidence)
    for rule in (accuracy_of_imbalance, few_members, few_samples):
        found += rule(evidence)
    return [hint for hint in found if hint.change]


def weak_classes(e: Evidence) -> list[Hint]:
    """Classes that are rarely found, though they are rare in training or the others are found."""
    table = section(e.summary, "per_class", "test") or section(e.summary, "per_class", "val")
    columns = zip(items(table, "classes"), items(table, "recall"), items(table, "support"), strict=False)
    recalls = {clean(c): r for c, recall, support in columns if (r := number(recall)) is not None and number(support)}
    trained = dict(zip(e.classes, e.counts("train"), strict=False))
    most = max(trained.values(), default=0.0)
    weak: dict[str, float] = {}
    for name, recall in sorted(recalls.items(), key=lambda row: row[1]):
        others = [value for other, value in recalls.items() if other != name]
        rare = 2 * trained.get(name, most) <= most
        if recall < _WEAK and others and (rare or fmean(others) >= _SOUND):
            weak[name] = recall
    if not weak:
        return []
    (name, lowest), *more = weak.items()
    listed = [f"“{name}” has a recall of {show(lowest, 2)}", *(f"“{n}” of {show(r, 2)}" for n, r in more[:2])]
    beyond = f" and {len(more) - 2} more of less than {show(_WEAK, 2)}" if len(more) > 2 else ""
    rest = [recall for name, recall in recalls.items() if name not in weak]
    seen = f"Class {', '.join(listed)}{beyond}" + (f" (mean of the others {show(fmean(rest), 2)})" if rest else "")
    return [Hint(rule="weak_class", seen=seen, why="most of their samples are missed", change=_for_a_rare_class(e))]


def _for_a_rare_class(e: Evidence) -> str:
    """What gives a class more weight and is not in use yet; weights and the focal loss are not for use together."""
    loss = section(e.config, "loss")
    kind, weighted = loss.get("name", "cross_entropy"), loss.get("class_weights", "none") != "none"
    changes = ["loss.class_weights=balanced", "loss=focal"] if kind == "cross_entropy" and not weighted else []
    repeated = section(e.config, "training", "oversample").get("factor", 1) != 1
    return e.options(*changes, *([] if changes or repeated else ["training.oversample.factor=balanced"]))


def accuracy_of_imbalance(e: Evidence) -> list[Hint]:
    """Classes of very different sizes, and a metric that hardly sees the small ones."""
    counts = e.counts("train")
    known = [n for n in counts if n]
    if not known or max(known) < _IMBALANCE * min(known) or {m.chosen.metric for m in e.members} != {"val_accuracy"}:
        return []
    top = counts.index(max(known))
    name = e.classes[top] if top < len(e.classes) else str(top)
    seen = f"Epochs are chosen by accuracy, and {max(known):g} of {sum(known):g} training samples are of class “{name}”"
    why = "that favours the epochs that name it most"
    change = e.options("training.selection.metric=val_f1_macro")
    return [Hint(rule="accuracy_of_imbalance", seen=seen, why=why, change=change)]


def few_members(e: Evidence) -> list[Hint]:
    """One or two seeds of one split."""
    if any(member.fold is not None for member in e.members):
        return []
    n = len([member for member in e.members if not member.failed])
    texts = {1: ("There is one member", "without spread there is no interval"),
             2: ("There are two members", "their t interval is 12.7 standard errors wide to each side, with five it is "
                 "2.8")}  # fmt: skip
    if n not in texts:
        return []
    seen, why = texts[n]
    return [Hint(rule="few_members", seen=seen, why=why, change=e.options("members.seeds=5"))]


def few_samples(e: Evidence) -> list[Hint]:
    """A validation part of so few samples that one of them moves the metric, or a class of few training samples."""
    by_value = section(e.config, "data", "split").get("rule") == "value"  # one split by nature
    if len(e.splits) != 1 or by_value or section(e.config, "task").get("name") == "given":
        return []
    n, train, val = e.size("val"), e.counts("train"), e.counts("val")
    rarest = min(train, default=_RARE)
    if 0 < n < _FEW:
        of = f", {min(val):g} of the rarest class" if val else ""
        moved = (
            f"one of them moves an accuracy by {show(1 / n, 3)}" if e.classes else "a mean error of so few says little"
        )
        seen, why = f"Validation has {count(n, 'sample')}{of}", moved
    elif rarest < _RARE:
        at = train.index(rarest)
        name = e.classes[at] if at < len(e.classes) else str(at)
        seen, why = f"Training has {count(int(rarest), 'sample')} of class “{name}”", "a single split says little of it"
    else:
        return []
    folds = min([5, *(int(a + b) for a, b in zip(train, val, strict=False))])  # each fold has a sample of each class
    change = e.options(f"members.folds={folds}") if folds > 1 else ""
    return [Hint(rule="few_samples", seen=seen, why=why, change=change)]
