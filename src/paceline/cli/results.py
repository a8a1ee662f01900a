"""The commands that show and use results."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from paceline.cli.console import make_console

if TYPE_CHECKING:
    from pandas import DataFrame

    from paceline.run.folder import Run

HINTS = 3  # the most useful ones; the report has all


def print_results(run: Run, console: Console) -> None:
    """Print the tables of a finished run and where its report is."""
    from paceline.report.files import read
    from paceline.report.findings import findings
    from paceline.report.table import terminal_tables
    from paceline.track.mlflow_record import opened_by

    files = read(run.path)
    for part in terminal_tables(files.summary, findings(files, most=HINTS)):
        console.print(part)
    if (run.path / "tensorboard").is_dir():
        command = shlex.join(["tensorboard", "--logdir", str(run.path / "tensorboard")])
        console.print(Text(f"TensorBoard: {command}"), soft_wrap=True)
    line = opened_by(run.path)
    if line:
        console.print(Text(f"MLflow: {line}"), soft_wrap=True)
    if (run.path / "report.html").is_file():
        console.print(Text(f"report: {run.path / 'report.html'}"), soft_wrap=True)


def evaluate_command(path: Path, part: str, use: Sequence[Path]) -> None:
    """Evaluate a run again and print the metrics."""
    from paceline.api.using import evaluate
    from paceline.report.results import metrics_of
    from paceline.report.table import metrics_table

    result = evaluate(path, part, use=use)
    console = make_console()
    for variant in result["variants"] or [{"name": "", "metrics": result["metrics"]}]:
        if variant["name"]:
            console.print(Text(variant["name"]))
        rows = metrics_of({"metrics": variant["metrics"]})
        for shown in metrics_table(rows) if rows else ["no member has a result"]:
            console.print(shown)
    console.print(Text(f"written: {path / f'evaluation_{part}.json'}"), soft_wrap=True)


def predict_command(
    path: Path,
    source: Path,
    output: Path | None,
    members: Sequence[str],
    *,
    per_member: bool,
    probabilities: bool | None,
    raw: bool,
    use: Sequence[Path],
) -> None:
    """Predict: to a CSV file, to a pipe as CSV, to a terminal as a table."""
    from paceline.api.using import predict
    from paceline.data.csv_text import csv_text

    table = predict(path, source, members=members, per_member=per_member, probabilities=probabilities, raw=raw,
                    output=output, use=use)  # fmt: skip
    console = make_console()
    if output is None and console.is_terminal:
        console.print(_predictions(table), width=10_000, crop=False)
    elif output is None:
        console.out(csv_text(table), end="", highlight=False)
    else:
        console.print(Text(f"{len(table)} predictions written to {output}"), soft_wrap=True)


def _predictions(found: DataFrame) -> Table:
    """One row per sample, numbers as in the other tables; a file or a pipe gets all digits."""
    from numpy import floating

    from paceline.report.words import show

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, kind in ((found.index.name, found.index.dtype.kind), *((n, found[n].dtype.kind) for n in found)):
        table.add_column(Text(str(name)), justify="right" if kind in "iuf" else "left", no_wrap=True)
    for sample, *values in found.itertuples():
        texts = [show(float(value)) if isinstance(value, (float, floating)) else str(value) for value in values]
        table.add_row(*(Text(text) for text in (str(sample), *texts)))
    return table


def report_command(path: Path) -> None:
    """Write the report again and print the tables."""
    from paceline.report import write
    from paceline.run.folder import open_run

    run = open_run(path)
    assert run.summary  # says so when the run is not finished
    write(run.path)
    print_results(run, make_console())


def config_command(overrides: Sequence[str], config: Path | None, use: Sequence[Path], config_dir: Path | None) -> None:
    """Print the resolved config."""
    from paceline.api.runs import configure
    from paceline.config.tree import to_yaml
    from paceline.errors import visible

    resolved, _ = configure(overrides=list(overrides), config=config, use=use, config_dir=config_dir)
    make_console().out(visible(to_yaml(resolved.tree())), end="", highlight=False)


def tasks_command(use: Sequence[Path]) -> None:
    """List the recipes."""
    from paceline import recipes
    from paceline.run.use import load_extension

    found = [recipes.find(name) for name in recipes.names()]
    extensions = [load_extension(path) for path in use]
    found += [extension.recipe for extension in extensions if extension.recipe is not None]
    table = Table("task", "models", "data", "losses", "what it is for", box=None, pad_edge=False)
    for recipe in found:
        choices = (recipe.models, recipe.data, recipe.sections("loss"))  # data given in Python is none of the command's
        cells = (recipe.name, *(", ".join(names) for names in choices), recipe.description)
        table.add_row(*(Text(cell) for cell in cells))
    console = make_console()
    console.print(table)
    console.print(Text("\ntrain one: paceline train task=NAME     your own: paceline new NAME"))
