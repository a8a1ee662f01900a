"""The top of the page: what was run, the main figures, one sentence of verdict, and what to know before using them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from paceline.report.audit import checks
from paceline.report.files import Json, RunFiles, items, section, sections
from paceline.report.findings import findings
from paceline.report.results import (
    MemberResult,
    Metric,
    chosen_epochs,
    headline_of,
    interval_words,
    leading_members,
    leading_words,
    members_of,
    selection_metric,
)
from paceline.report.tables import metric_strip
from paceline.report.words import better, capital, clean, count, duration, finite, label, number, show, split_of


@dataclass(frozen=True, kw_only=True)
class Card:
    """One main figure."""

    name: str
    mean: str
    interval: str
    samples: str  # the interval over draws of the samples measured on
    method: str
    members: str
    strip: Markup | None


@dataclass(frozen=True, kw_only=True)
class Headline:
    """`facts` are (name, value); `warnings` are sentences; `notes` say what the interval does and does not cover."""

    facts: Sequence[tuple[str, str]]
    sentence: str
    cards: Sequence[Card]
    warnings: Sequence[str]
    notes: Sequence[str]


def headline(files: RunFiles) -> Headline:
    """Build the top of the page."""
    summary = files.summary
    members = members_of(summary)
    rows = headline_of(summary)
    warnings = [] if summary else ["This run has not finished: there is no summary yet."]
    broken = [check.name for check in checks(sections(files.splits, "splits")) if not check.ok]
    if broken:
        warnings.append(f"Not met, by the audit of the split: {', '.join(broken)}.")
    return Headline(
        facts=_facts(files, members),
        sentence=_sentence(summary, rows),
        cards=[_card(row, index) for index, row in enumerate(rows)],
        warnings=[*warnings, *findings(files)],
        notes=[note for note in (_coverage(files, rows), _baseline(files, rows)) if note],
    )


def _facts(files: RunFiles, members: Sequence[MemberResult]) -> list[tuple[str, str]]:
    summary = files.summary
    varied = section(files.environment, "config", "members", "vary")
    named = [
        (name, ", ".join(clean(choice) for choice in items(varied, name)) or clean(summary.get(name)))
        for name in ("task", "model", "data")
    ]
    found = [(name, value) for name, value in named if value not in ("", "given")]  # `given`: a Python object
    if members:
        found.append(("members", f"{len(members):,}"))
    seconds = number(summary.get("seconds"))
    if seconds is not None:
        found.append(("training time", duration(seconds)))
    return [*found, ("status", clean(summary.get("status") or "not finished"))]


def _sentence(summary: Json, rows: Sequence[Metric]) -> str:
    if not rows:
        return "There is no result yet: no member has finished."
    row = rows[0]
    members = leading_members(summary)
    over = f" on average over {count(len(finite(row.values)), 'member')}" if row.n > 1 and finite(row.values) else ""
    start = leading_words(summary)  # begins with a name, whose case is its own
    name = label(row.name) if start else capital(label(row.name))
    text = f"{start}{name} is {show(row.mean, row.places)}{over} ({interval_words(row)})"
    rule, epochs = selection_metric(summary), chosen_epochs(members)
    if rule and epochs:
        text += f"; the weights were chosen on {label(rule)}, at {epochs}"
    return text + "."


def _card(row: Metric, index: int) -> Card:
    known = finite(row.values)
    low_high = f"{show(min(known), row.places)} to {show(max(known), row.places)}" if len(known) > 1 else ""
    way = better(row.name)
    return Card(
        name=capital(label(row.name)) + (" (lower is better)" if way == "lower" else ""),
        mean=show(row.mean, row.places),
        interval=row.range_text if row.interval else "",
        samples=row.samples_text if row.samples else "",
        method=row.short_method if row.interval else interval_words(row),
        members=low_high,
        strip=metric_strip(row, f"card-{index}", width=300) if len(known) > 1 else None,
    )


def _coverage(files: RunFiles, rows: Sequence[Metric]) -> str:
    """What the intervals cover: training, and the samples that happen to be measured on (an accuracy's at least)."""
    if not rows or not (rows[0].interval or rows[0].samples):
        return ""
    text = f"Interval: {rows[0].method}." if rows[0].interval and rows[0].method else ""
    if rows[0].samples:
        return f"{text} Over samples: {rows[0].samples_method}.".strip()
    accuracy = next((row for row in rows if split_of(row.name)[1] == "accuracy"), None)
    splits = sections(files.splits, "splits")
    if accuracy is None or accuracy.mean is None or not splits:
        return text
    part = split_of(accuracy.name)[0]
    n = len(items(splits[0], part))
    if n and 0 < accuracy.mean < 1 and len({tuple(items(split, part)) for split in splits}) == 1:
        error = math.sqrt(accuracy.mean * (1 - accuracy.mean) / n)
        text += f" Another draw of {n:,} {label(f'{part}_samples')} would move an accuracy of {show(accuracy.mean, 3)}"
        text += f" by about ±{show(error, 3)} (binomial standard error)."
    return text


def _baseline(files: RunFiles, rows: Sequence[Metric]) -> str:
    """The accuracy of always naming the class that is most frequent in the training part."""
    accuracy = next((row for row in rows if split_of(row.name)[1] == "accuracy"), None)
    splits = sections(files.splits, "splits")
    if accuracy is None or not splits:
        return ""
    counts = section(splits[0], "class_counts")
    train = [number(n) or 0.0 for n in items(counts, "train")]
    here = [number(n) or 0.0 for n in items(counts, split_of(accuracy.name)[0])]
    if not train or len(here) != len(train) or not sum(here):
        return ""
    top = train.index(max(train))
    return (
        f"Always naming the most frequent training class would reach an accuracy of {show(here[top] / sum(here), 3)}."
    )
