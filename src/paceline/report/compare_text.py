"""A comparison on a terminal of 80 columns; plain text in a pipe."""

from __future__ import annotations

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from paceline.report.compare import Comparison, Pair
from paceline.report.compare_words import SOURCES, details, verdict
from paceline.report.words import better, finite, places_for, show


def comparison_text(found: Comparison) -> list[RenderableType]:
    """What `paceline compare` prints, in order; names are printed as text, never as rich markup."""
    parts: list[RenderableType] = []
    for metric in found.metrics:
        way = better(metric)
        heading = Text(metric, style="bold")
        heading.append(f"  {way} is better" if way else "", style="dim")
        parts += [heading, Padding(_sides(found, metric), (0, 0, 0, 2), expand=False), Text("")]
        for pair in found.pairs:
            if pair.metric == metric:
                parts += [*_pair(found, pair), Text("")]
    for note in (*found.notes, SOURCES):
        parts.append(Padding(Text(note, style="dim"), (0, 0, 0, 2), expand=False))
    return parts


def _sides(found: Comparison, metric: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", overflow="fold")
    for heading in ("members", "mean", "95 % interval", "std"):
        table.add_column(heading, justify="right", no_wrap=True)
    for side in [side for side in found.sides if side.metric == metric]:
        one = side.interval
        half = None if one.high is None or one.low is None else (one.high - one.low) / 2
        places = places_for(half)
        bounds = show(None) if half is None else f"{show(one.low, places)} to {show(one.high, places)}"
        members = f"{len(finite(side.values)):,}" + (f" (-{side.failed})" if side.failed else "")
        cells = (side.name, members, show(one.mean, places), bounds, show(one.std, places_for(one.std)))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _pair(found: Comparison, pair: Pair) -> list[RenderableType]:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in details(found, pair):
        table.add_row(Text(name), Text(words))
    return [Text(verdict(found, pair), style="bold green" if pair.found else "bold"), Padding(table, (0, 0, 0, 2))]
