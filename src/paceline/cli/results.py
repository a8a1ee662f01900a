"""The commands that show and use results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pandas import DataFrame

    from paceline.run.folder import Run


def print_results(run: Run, console: Console) -> None:
    """Print the tables of a finished run and where its report is."""
    from paceline.report.files import read
    from paceline.report.table import terminal_tables

    files = read(run.path)
    for part in terminal_tables(files.summary, files.histories):
        console.print(part)
    if (run.path / "report.html").is_file():
        console.print(Text(f"report: {run.path / 'report.html'}"), soft_wrap=True)


def evaluate_command(path: Path, part: str, use: Sequence[Path]) -> None:
    """Evaluate a run again and print the metrics."""
    from paceline.api.using import evaluate
    from paceline.report.results import metrics_of
    from paceline.report.table import metrics_table

    result = evaluate(path, part, use=use)
    console = Console()
    for variant in result["variants"] or [{"name": "", "metrics": result["metrics"]}]:
        if variant["name"]:
            console.print(Text(variant["name"]))
        rows = metrics_of({"metrics": variant["metrics"]})
        for shown in metrics_table(rows) if rows else ["no member has a result"]:
            console.print(shown)
    console.print(Text(f"written: {path / f'evaluation_{part}.json'}"), soft_wrap=True)


def predict_command(path: Path, source: Path, output: Path | None, members: Sequence[str], use: Sequence[Path]) -> None:
    """Predict: to a CSV file, to a pipe as CSV, to a terminal as a table."""
    from paceline.api.using import predict

    table = predict(path, source, members=members, output=output, use=use)
    console = Console()
    if output is None and console.is_terminal:
        console.print(_predictions(table), width=10_000, crop=False)
    elif output is None:
        console.out(table.to_csv(index_label="sample"), end="", highlight=False)
    else:
        console.print(Text(f"{len(table)} predictions written to {output}"), soft_wrap=True)


def _predictions(found: DataFrame) -> Table:
    """One row per sample, numbers as in the other tables; a file or a pipe gets all digits."""
    from numpy import floating

    from paceline.report.words import show

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("sample", *found.columns):
        table.add_column(Text(str(name)), justify="left" if name == "prediction" else "right", no_wrap=True)
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
    print_results(run, Console())


def config_command(overrides: Sequence[str], config: Path | None, use: Sequence[Path], config_dir: Path | None) -> None:
    """Print the resolved config."""
    from paceline.api.runs import configure
    from paceline.config.tree import to_yaml

    resolved, _ = configure(overrides=list(overrides), config=config, use=use, config_dir=config_dir)
    Console().out(to_yaml(resolved.tree()), end="", highlight=False)


def plan_command(overrides: Sequence[str], config: Path | None, use: Sequence[Path], config_dir: Path | None) -> None:
    """Print the plan that `train` would make."""
    from paceline.api.runs import configure
    from paceline.run.build import build

    resolved, recipe = configure(overrides=list(overrides), config=config, use=use, config_dir=config_dir)
    plan = build(resolved, recipe, config_dir=config_dir).plan
    table = Table("cohort", "members", "engine", "whole step", box=None, pad_edge=False)
    for cohort in plan.cohorts[:20]:
        compiled = "compiled" if cohort.compile else "as it is"
        table.add_row(Text(cohort.id), str(len(cohort.members)), cohort.engine, compiled)
    console = Console()
    console.print(table)
    if len(plan.cohorts) > 20:
        console.print(Text(f"and {len(plan.cohorts) - 20} more"))
    words = f"{plan.processes} processes" if plan.processes > 1 else "one process"
    threads = f"{plan.threads} threads each" if plan.threads > 1 else "one thread each"
    console.print(Text(f"on {plan.device}, {words}, {threads}"))


def tasks_command(use: Sequence[Path]) -> None:
    """List the recipes."""
    from paceline import recipes
    from paceline.run.use import load_extension

    found = [recipes.find(name) for name in recipes.names()]
    extensions = [load_extension(path) for path in use]
    found += [extension.recipe for extension in extensions if extension.recipe is not None]
    table = Table("task", "models", "data", "losses", "what it is for", box=None, pad_edge=False)
    for recipe in found:
        cells = (recipe.name, *(", ".join(recipe.sections(g)) for g in ("model", "data", "loss")), recipe.description)
        table.add_row(*(Text(cell) for cell in cells))
    console = Console()
    console.print(table)
    console.print(Text("\ntrain one: paceline train task=NAME     your own: paceline new NAME"))
