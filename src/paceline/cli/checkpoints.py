"""`paceline checkpoint ...`: look after the checkpoints of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from paceline.api.checkpoints import Found

app = typer.Typer(
    help="Verify, list or prune the checkpoints of a run; publish its weights for other programs.\n\n"
    "Example: paceline checkpoint verify runs/first",
    no_args_is_help=True,
    rich_markup_mode=None,
)
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a run, such as runs/demo")]


@app.command()
def verify(run: RunPath) -> None:
    """Read every checkpoint and every file of weights; exit with 1 if one is damaged.

    Example: paceline checkpoint verify runs/first
    """
    from paceline.api.checkpoints import checkpoints, published

    steps, files = [found for found in checkpoints(run) if not found.aside], published(run)
    damaged = [found for found in (*steps, *files) if found.problem is not None]
    for found in damaged:
        _say(f"damaged: {found.path}: {found.problem}")
    _say(f"{_count(len(steps), 'checkpoint')} and {_count(len(files), 'file')} of weights read, {len(damaged)} damaged")
    if damaged:
        raise typer.Exit(1)


@app.command(name="list")
def list_steps(run: RunPath) -> None:
    """List every checkpoint of every cohort, read and verified.

    Example: paceline checkpoint list runs/first
    """
    from paceline.api.checkpoints import checkpoints

    _table(checkpoints(run))


@app.command()
def prune(
    run: RunPath,
    keep_last: Annotated[int, typer.Option("--keep-last", metavar="N", help="verified ones to keep in each cohort")],
) -> None:
    """Remove all but the last N checkpoints of every cohort that verify: never the last good one, never others' files.

    Example: paceline checkpoint prune runs/first --keep-last 1
    """
    from paceline.api.checkpoints import prune

    removed = prune(run, keep_last)
    for cohort, steps in removed.items():
        if steps:
            _say(f"{cohort}: removed {', '.join(f'step {step}' for step in steps)}")
    _say(f"{_count(sum(map(len, removed.values())), 'checkpoint')} removed")


@app.command()
def publish(
    run: RunPath,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="default: RUN/published")] = None,
) -> None:
    """Write every member's best weights as safetensors, with config and classes beside as JSON.

    Example: paceline checkpoint publish runs/first -o weights
    """
    from paceline.api.checkpoints import publish

    for folder in publish(run, out):
        _say(f"written: {folder}")


def _table(rows: Sequence[Found]) -> None:
    from time import localtime, strftime

    from rich.table import Table
    from rich.text import Text

    from paceline.cli.console import make_console

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("cohort", "step", "bytes", "written", "ok"):
        table.add_column(name, justify="right" if name in ("step", "bytes") else "left", no_wrap=name != "ok")
    for row in rows:
        written = strftime("%Y-%m-%d %H:%M:%S", localtime(row.seconds))
        cells = (row.owner, str(row.step), f"{row.bytes:,}", written, row.problem or "yes")
        table.add_row(*(Text(cell) for cell in cells))
    make_console().print(table if rows else Text("the run has no checkpoint"))


def _say(text: str) -> None:
    from rich.text import Text

    from paceline.cli.console import make_console

    make_console().print(Text(text), soft_wrap=True)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")
