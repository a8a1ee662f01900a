"""`paceline lr-find`: a learning-rate range test, as a table, a picture where asked for, and the line to use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paceline.cli.options import Config, ConfigDir, Overrides, Use

if TYPE_CHECKING:
    from paceline.api.rates import LearningRates

ROWS = 12  # of the table, at most


def lr_find(
    overrides: Overrides = None,
    lowest: Annotated[float, typer.Option(help="the first learning rate")] = 1e-7,
    highest: Annotated[float, typer.Option(help="the last one, where the loss does not break off before")] = 10.0,
    steps: Annotated[int, typer.Option(help="optimizer steps, each at a higher rate")] = 200,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE.png", help="write a picture")] = None,
    config: Config = None,
    use: Use = None,
    config_dir: ConfigDir = None,
) -> None:
    """Find a learning rate: train a copy at rates that rise from step to step, and see where the loss falls fastest.

    Nothing is written but the picture. Every seed and fold of the first variant is tried.

    Example: paceline lr-find task=pain model=gru members.seeds=3 -o rates.png
    """
    from paceline.api.rates import lr_find as find

    show(find(overrides=overrides or [], lowest=lowest, highest=highest, steps=steps, out=out, config=config,
              use=use or [], config_dir=config_dir))  # fmt: skip
    if out is not None:
        typer.echo(f"picture: {out}")


def show(found: LearningRates) -> None:
    """Print a table, and the line to use."""
    from rich.table import Table

    from paceline.cli.console import make_console

    console = make_console()
    columns = [f"loss of {test.member}" for test in found.tests[:4]]
    table = Table("learning rate", *columns, box=None, pad_edge=False)
    longest = max(len(test.smoothed) for test in found.tests)
    for i in range(0, longest, max(1, longest // ROWS)):
        losses = [f"{test.smoothed[i]:.4g}" if i < len(test.smoothed) else "-" for test in found.tests[:4]]
        table.add_row(f"{found.rates[i]:.2e}", *losses)
    console.print(table)
    for test in found.tests:
        best = "falls nowhere" if test.suggestion is None else f"falls fastest at {test.suggestion:.2e}"
        end = "" if test.broke_off is None else f", breaks off at {test.broke_off:.2e}"
        console.print(f"{test.member}: the loss {best}, is lowest at {test.lowest_at:.2e}{end}", soft_wrap=True)
    if found.suggestion is None:
        console.print("no rate made the loss fall: look at the data, the loss and the model", soft_wrap=True)
    else:
        console.print(f"use it: training.learning_rate={found.suggestion:.2g}", soft_wrap=True)
