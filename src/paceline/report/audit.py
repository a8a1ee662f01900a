"""The section on the data: parts, classes, checks, and how often the test part was opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from paceline.report.files import Json, RunFiles, items, section, sections
from paceline.report.tables import Cell, Table, share_bar, whole
from paceline.report.words import clean, count, label, number, percent

_DETAIL = 240  # letters of what a check says; counts of many classes stand in a table of their own
_CAUTION = "Figures chosen after looking at a test part are optimistic."


@dataclass(frozen=True, kw_only=True)
class SplitView:
    """`note` stands under the table of class counts where it shows the first of several splits."""

    facts: Sequence[tuple[str, str]]
    fingerprint: str
    sizes: Table | None
    classes: Table | None
    note: str
    checks: Sequence[CheckRow]
    openings: str
    caution: str


def split_view(files: RunFiles) -> SplitView | None:
    """Gather what `splits.json` says; None where there is none."""
    tree = files.splits
    splits = sections(tree, "splits")
    if not splits:
        return None
    classes = items(tree, "classes")
    facts = [(name, clean(tree.get(name))) for name in ("source", "rule") if tree.get(name)]
    facts += [("split seed", whole(number(tree.get("seed"))))] if number(tree.get("seed")) is not None else []
    facts += [("samples", f"{number(tree.get('n')):,.0f}")] if number(tree.get("n")) is not None else []
    facts += [("classes", f"{len(classes):,}")] if classes else []
    table = class_counts(classes, splits[0])
    if len(splits) == 1:
        facts += [(label(f"{part}_samples"), f"{len(items(splits[0], part)):,}") for part in ("train", "val", "test")]
    times = number(files.summary.get("test_openings"))
    several = table is not None and len(splits) > 1
    return SplitView(
        facts=facts,
        fingerprint=clean(tree.get("fingerprint")),
        sizes=part_sizes(splits) if len(splits) > 1 else None,
        classes=table,
        note=f"Shown: the first of {count(len(splits), 'split')}." if several else "",
        checks=checks(splits),
        openings=_openings(times),
        caution=_CAUTION if times is not None and times > 1 else "",
    )


def _openings(times: float | None) -> str:
    if times is None:
        return ""
    if times == 0:
        return "The test part of these data has not been opened."
    often = "once" if times == 1 else f"{times:,.0f} times"
    return f"The test part of these data has been opened {often}, over all runs on record."


def part_sizes(splits: Sequence[Json]) -> Table:
    """Samples per part, one row per split (seed, fold)."""
    folds = any(split.get("fold") is not None for split in splits)
    columns = [("split", "name"), ("train", "number"), ("validation", "number"), ("test", "number")]
    rows: list[list[Cell]] = []
    for split in splits:
        name = f"seed {whole(number(split.get('seed')))}"
        if folds:
            name += f", fold {whole(number(split.get('fold')))}"
        rows.append([name, *(f"{len(items(split, part)):,}" for part in ("train", "val", "test"))])
    return Table(columns=columns, rows=rows, title="samples per part of each split")


def class_counts(classes: Sequence[object], split: Json) -> Table | None:
    """Samples per class and part of one split, with the class's share of the part."""
    counts = section(split, "class_counts")
    parts = [part for part in ("train", "val", "test") if any(number(n) for n in items(counts, part))]
    if not classes or not parts:
        return None
    columns = [("class", "name"), *((label(f"{part}_samples").split()[0], "share") for part in parts)]
    rows: list[list[Cell]] = []
    values = {part: [number(n) or 0.0 for n in items(counts, part)] for part in parts}
    for index, name in enumerate(classes):
        cells = [_count_bar(values[part], index) for part in parts]
        rows.append([clean(name), *cells])
    return Table(columns=columns, rows=rows, title="samples per class and part")


def _count_bar(values: Sequence[float], index: int) -> Markup:
    value = values[index] if index < len(values) else 0.0
    share = value / sum(values) if sum(values) else 0.0
    top = max(values, default=0.0) or 1.0
    return share_bar(value / top, f"{value:,.0f}", percent(share))


@dataclass(frozen=True, kw_only=True)
class CheckRow:
    """One check of the audit over all splits."""

    name: str
    ok: bool
    detail: str


def checks(splits: Sequence[Json]) -> list[CheckRow]:
    """Checks by name; where one failed, the details of the failures (at most three)."""
    found: dict[str, list[Json]] = {}
    for split in splits:
        for row in sections(split, "audit"):
            found.setdefault(clean(row.get("name")), []).append(row)
    made: list[CheckRow] = []
    for name, rows in found.items():
        failed = [row for row in rows if row.get("ok") is not True]
        details = list(dict.fromkeys(clean(row.get("detail")) for row in failed or rows))
        shown = "; ".join(details[:3] if failed else details[:1])
        if failed and len(rows) > 1:
            shown = f"in {len(failed)} of {len(rows)} splits: {shown}"
        elif len(rows) > 1 and len(details) == 1:
            shown = f"{shown} (all {len(rows)} splits)"
        elif len(rows) > 1:
            shown = f"{shown} (first of {len(rows)} splits)"
        cut = shown if len(shown) <= _DETAIL else f"{shown[:_DETAIL]}…"
        made.append(CheckRow(name=name, ok=not failed, detail=cut))
    return made
