"""The list of runs on a terminal of 80 columns, and as `index.html` with links to the reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from paceline.checkpoint.files import write_text_atomic
from paceline.report.leaderboard import Entry, Group, Leaderboard
from paceline.report.results import Metric
from paceline.report.tables import Cell, Table, limits_for, metric_strip
from paceline.report.template import render_page
from paceline.report.words import better, clean, count, label, show

CAUTION = (
    "Runs are sorted by the mean of the metric that chose their weights. The first is not thereby best: part of its "
    "lead over many others is luck. Ask paceline compare."
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that the template shows."""

    title: str
    heading: str
    lead: str
    groups: list[tuple[str, str, str, Table]]
    caution: str = CAUTION


def leaderboard_text(found: Leaderboard) -> list[RenderableType]:
    """What `paceline runs` prints, in order; names are printed as text, never as rich markup."""
    parts: list[RenderableType] = []
    for group in found.groups:
        heading = Text(group.heading, style="bold")
        heading.append(f"  {_by(group)}", style="dim")
        parts += [heading, _grid(group), Text("")]
    return [*parts, Padding(Text(CAUTION, style="dim"), (0, 0, 0, 2), expand=False)]


def write_index(found: Leaderboard) -> Path:
    """Write `index.html` into the folder and return its path."""
    target = found.folder / "index.html"
    write_text_atomic(target, render_page("leaderboard.html", page_of(found)), durable=False)
    return target


def page_of(found: Leaderboard) -> Page:
    """Gather the tables."""
    runs = sum(len(group.entries) for group in found.groups)
    folder = clean(found.folder.resolve().name)
    return Page(
        title=f"{folder} · paceline runs",
        heading=folder,
        lead=f"{count(runs, 'run')}, the best first in each table.",
        groups=[(g.heading, g.metric, better(g.metric), _table(g, index)) for index, g in enumerate(found.groups)],
    )


def _by(group: Group) -> str:
    way = better(group.metric)
    return f"{group.metric}, {way} is better" if way else group.metric


def _grid(group: Group) -> Grid:
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    grid.add_column("run", overflow="fold", min_width=8)
    grid.add_column("model", overflow="fold", min_width=5)
    for heading in ("members", "mean", "95 % interval", "made"):
        grid.add_column(heading, justify="right", no_wrap=True)
    told = any(entry.status != "finished" for entry in group.entries)
    if told:
        grid.add_column("status", overflow="fold", min_width=10)
    for entry in group.entries:
        cells = [entry.name, _model(entry), _members(entry), *_figures(entry.result), entry.day]
        grid.add_row(*(Text(cell) for cell in [*cells, *([entry.status] if told else [])]))
    return grid


def _model(entry: Entry) -> str:
    return f"{entry.model} ({entry.variant})" if entry.variant else entry.model


def _members(entry: Entry) -> str:
    if entry.done < entry.members:
        return f"{entry.done} of {entry.members}"
    return f"{entry.members:,}" + (f" (-{entry.failed})" if entry.failed else "")


def _figures(row: Metric | None) -> tuple[str, str]:
    return (show(None), show(None)) if row is None else (show(row.mean, row.places), row.range_text)


def _table(group: Group, index: int) -> Table:
    rows = [entry.result for entry in group.entries if entry.result is not None]
    tests = any(entry.test for entry in group.entries)
    columns = [("run", "name"), ("model", "text"), ("members", "number"), (label(group.metric), "number")]
    columns += [("95\u202f% interval", "number"), ("each", "plot")]
    columns += (
        [(f"test {label(group.metric, with_split=False)}", "number"), ("95\u202f% interval", "number")] if tests else []
    )
    columns.append(("made", "text"))
    cells: list[list[Cell]] = []
    for number, entry in enumerate(group.entries):
        strip: Cell = ""
        if entry.result is not None:
            strip = metric_strip(entry.result, f"run-{index}-{number}", limits_for(group.metric, rows))
        test = list(_figures(entry.test)) if tests else []
        cells.append([_name(entry), _model(entry), _members(entry), *_figures(entry.result), strip, *test, entry.day])
    return Table(columns=columns, rows=cells, title=f"runs: {group.heading}")


def _name(entry: Entry) -> Cell:
    """The run with a link to its report, where there is one, and its status, where it is not simply finished."""
    name: Cell = entry.name
    if (entry.path / "report.html").is_file():
        name = Markup('<a href="{}/report.html">{}</a>').format(quote(entry.path.name), entry.name)
    if entry.status == "finished":
        return name
    css = "state" if entry.status == "unfinished" else "state is-failed"
    return Markup('{} <span class="{}">{}</span>').format(name, css, entry.status)
