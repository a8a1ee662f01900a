"""The tables of the page as plain values: a heading and a kind per column, cells as text or safe markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from paceline.report.files import Json
from paceline.report.heat import Strip, strip
from paceline.report.results import (
    MemberResult,
    Metric,
    headline_of,
    metrics_of,
    selection_metric,
    variants_of,
)
from paceline.report.words import BEYOND, before, better, beyond, capital, count, finite, label, shorten, show, split_of

Cell = str | Markup
_SHORT = 28  # characters of a name that is not broken over lines


@dataclass(frozen=True, kw_only=True)
class Table:
    """`columns` are (heading, kind); kind is `name`, `text`, `number`, `why` or `plot` and only chooses the look.

    `title` names the table for a reader who does not see the page.
    """

    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    title: str = "table"


def metric_table(summary: Json) -> Table | None:
    """Every metric with mean, interval, standard deviation, n, and a dot for each member."""
    rows = metrics_of(summary)
    if not rows:
        return None
    several = any(len(finite(row.values)) > 1 for row in rows)
    columns = [
        ("metric", "name"),
        ("mean", "number"),
        ("95\u202f% interval", "number"),
        ("std", "number"),
        ("n", "number"),
    ]
    methods = {row.short_method for row in rows if row.interval and row.method}
    samples = any(row.samples for row in rows)
    columns += [("over samples", "number")] if samples else []
    columns += [("members", "plot")] if several else []
    columns += [("method", "text")] if len(methods) > 1 else []
    shown = {"samples": samples, "members": several, "method": len(methods) > 1}
    cells = [_metric_row(row, rows, index, shown) for index, row in enumerate(rows)]
    caption = f"Interval of the mean: {methods.pop()}. " if len(methods) == 1 else ""
    if samples:
        caption += (
            "Over samples: 95\u202f% interval over draws of the samples measured on, training held fixed (bootstrap). "
        )
    if any(beyond(row.name, row.interval) for row in rows):
        caption += f"{capital(BEYOND)}. "
    if several:
        caption += "Dots are members, the bar is the interval; one metric has one scale on all splits."
    return Table(columns=columns, rows=cells, caption=caption.strip(), title="metrics")


def _metric_row(row: Metric, rows: Sequence[Metric], index: int, shown: Mapping[str, bool]) -> list[Cell]:
    arrow = {"higher": "\u00a0↑", "lower": "\u00a0↓"}.get(better(row.name), "")
    code = Markup("_<wbr>").join(row.name.split("_"))
    name = Markup('{}<span class="way" title="{}">{}</span> <code>{}</code>').format(
        capital(label(row.name)), f"{better(row.name)} is better" if arrow else "", arrow, code
    )
    cells: list[Cell] = [name, show(row.mean, row.places), row.range_text, row.std_text, str(row.n)]
    if shown["samples"]:
        cells.append(row.samples_text)
    if shown["members"]:
        cells.append(metric_strip(row, f"strip-{index}", limits_for(row.name, rows)))
    return [*cells, row.short_method] if shown["method"] else cells


def variant_table(summary: Json) -> Table | None:
    """The main metrics of each variant side by side; None where nothing was varied."""
    variants = variants_of(summary)
    names = [row.name for row in headline_of(summary, limit=2)]
    if not variants or not names:
        return None
    tables = [{row.name: row for row in variant.metrics} for variant in variants]
    found = {name: [table[name] for table in tables if name in table] for name in names}
    places = {
        name: min((row.places for row in rows if row.places is not None), default=None) for name, rows in found.items()
    }
    columns = [("variant", "name"), ("members", "number")]
    for name in names:
        columns += [(label(name), "number"), ("95\u202f% interval", "number")]
    rows: list[list[Cell]] = []
    for index, (variant, table) in enumerate(zip(variants, tables, strict=True)):
        cells: list[Cell] = [variant.name, f"{len(variant.members):,}"]
        for name in names:
            one = table.get(name)
            cells += [show(one.mean, places[name]), one.range_with(places[name])] if one else [show(None), show(None)]
        first = table.get(names[0])
        cells.append(metric_strip(first, f"variant-{index}", limits_for(names[0], found[names[0]])) if first else "")
        rows.append(cells)
    judged = selection_metric(summary)
    by = f" by {label(judged)}" if judged else ""
    caption = f"Best first{by}; dots: {label(names[0])}. Metrics and classes below are those of {variants[0].name}."
    return Table(columns=[*columns, ("members", "plot")], rows=rows, caption=caption, title="variants")


def metric_strip(row: Metric, id: str, limits: tuple[float, float] | None = None, width: int = 150) -> Markup:
    """The members' values of one metric as dots, with the mean and its interval."""
    title = f"{label(row.name)}: {count(len(finite(row.values)), 'member')}, mean {show(row.mean, row.places)}"
    drawn = strip(
        Strip(id=id, title=title, values=row.values, mean=row.mean, interval=row.interval, limits=limits, width=width)
    )
    return Markup(drawn)  # noqa: S704 - well-formed by construction, every text escaped


def limits_for(name: str, rows: Sequence[Metric]) -> tuple[float, float] | None:
    """A common range for the strips of one metric on all splits, so that their positions can be compared."""
    same = [row for row in rows if before(split_of(row.name)[1]) == before(split_of(name)[1])]
    edges = [edge for row in same for edge in [*finite(row.values), *(row.interval or ()), *finite([row.mean])]]
    if not edges:
        return None
    low, high = min(edges), max(edges)
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def member_table(summary: Json, members: Sequence[MemberResult]) -> Table | None:
    """One row per member: what it is, how it ended, what it chose and why, and its main result."""
    if not members:
        return None
    main = headline_of(summary, limit=1)
    short = max(len(member.id) for member in members) <= _SHORT
    columns: list[tuple[str, str]] = [("member", "id" if short else "name wide")]
    columns += [("variant", "text")] if any(member.variant for member in members) else []
    columns += [("seed", "number")]
    columns += [("fold", "number")] if any(member.fold is not None for member in members) else []
    columns += [
        ("status", "text"),
        ("epochs", "number"),
        ("chosen", "number"),
        ("smoothed", "number"),
        ("raw", "number"),
    ]
    columns += [("raw best", "number")]
    columns += [(label(main[0].name), "number")] if main and split_of(main[0].name)[0] == "test" else []
    columns += [("why", "why")]
    names = [name for name, _ in columns]
    rows = [_member_row(member, names, main[0].name if main else "") for member in members]
    return Table(columns=columns, rows=rows, title="members")


def _member_row(member: MemberResult, names: Sequence[str], main: str) -> list[Cell]:
    chosen = member.chosen
    best = show(chosen.raw_best_value)
    if chosen.raw_best_epoch is not None:
        best = f"{best} at {chosen.raw_best_epoch:g}"
    cells: dict[str, Cell] = {
        "member": member.id,
        "variant": member.variant,
        "seed": whole(member.seed),
        "fold": whole(member.fold),
        "status": Markup('<span class="tag {}">{}</span>').format(f"is-{member.status}", member.status),
        "epochs": whole(member.epochs),
        "chosen": whole(chosen.epoch),
        "smoothed": show(chosen.smoothed),
        "raw": show(chosen.value),
        "raw best": best,
        "why": ". ".join(capital(part).rstrip(".") for part in (chosen.reason, member.stopped) if part),
    }
    return [cells[name] if name in cells else show(member.metrics.get(main)) for name in names]


def share_bar(share: float, value: str, extra: str = "", css: str = "bar") -> Markup:
    """A number with a bar below that is filled by a share of it, and a smaller figure beside."""
    within = f"{min(1.0, max(0.0, share)):.4f}"
    beside = Markup(" <i>{}</i>").format(extra) if extra else Markup("")
    return Markup('<span class="{}" style="--share:{}"><b>{}</b>{}</span>').format(css, within, value, beside)


def brief(name: str, limit: int = 32) -> Cell:
    """A name, cut in the middle where it is long; then the whole of it is the tooltip."""
    short = shorten(name, limit)
    return name if short == name else Markup('<span title="{}">{}</span>').format(name, short)


def whole(value: float | None) -> str:
    """A seed, a fold, an epoch: no separators, no decimals unless it has some."""
    return show(None) if value is None else f"{value:.15g}"
