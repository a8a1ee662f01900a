"""The commands. Arguments are Hydra's: `paceline train task=pain model=gru training.num_epochs=15`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from paceline.errors import PacelineError

app = typer.Typer(
    name="paceline",
    help="Train small and medium PyTorch models, alone or many together.\n\n"
    "Start with: paceline train task=pain members.seeds=5",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="group choices and config values")
]
Use = Annotated[
    list[Path] | None, typer.Option("--use", metavar="FILE.py", help="your own recipe, losses, models or trackers")
]
ConfigDir = Annotated[Path | None, typer.Option("--config-dir", help="your own YAML options (default ./configs)")]
Config = Annotated[Path | None, typer.Option("--config", help="start from a run's config.yaml instead of composing")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a run, such as runs/demo")]


@app.command()
def train(
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="name of the run's folder")] = None,
    runs: Annotated[Path, typer.Option(help="where runs are made")] = Path("runs"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a run of the same name")] = False,
    config: Config = None,
    use: Use = None,
    config_dir: ConfigDir = None,
) -> None:
    """Train every member of a run (seeds x folds x variants).

    Example: paceline train task=pain model=gru training.num_epochs=15 members.seeds=5 --name first
    """
    from paceline.cli.running import train_command

    train_command(overrides or [], name=name, runs=runs, overwrite=overwrite, config=config, use=use or [],
                  config_dir=config_dir)  # fmt: skip


@app.command()
def resume(run: RunPath, use: Use = None) -> None:
    """Go on with an interrupted run, bit for bit as if it had never stopped.

    Example: paceline resume runs/first
    """
    from paceline.cli.running import resume_command

    resume_command(run, use or [])


@app.command()
def evaluate(
    run: RunPath,
    part: Annotated[str, typer.Option(help="val or test; an opening of test data is put on record")] = "val",
    use: Use = None,
) -> None:
    """Evaluate the selected states of a run again.

    Example: paceline evaluate runs/first --part test
    """
    from paceline.cli.results import evaluate_command

    evaluate_command(run, part, use or [])


@app.command()
def predict(
    run: RunPath,
    source: Annotated[Path, typer.Argument(metavar="INPUT.npz", help="x (N, T, F) or (N, F), and lengths (N,)")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="the CSV to write")] = None,
    member: Annotated[list[str] | None, typer.Option(help="use this member only (repeat for several)")] = None,
    use: Use = None,
) -> None:
    """Predict new input from a run's folder alone; members are averaged.

    Example: paceline predict runs/first new.npz -o predictions.csv
    """
    from paceline.cli.results import predict_command

    predict_command(run, source, output, member or [], use or [])


@app.command()
def report(run: RunPath) -> None:
    """Write a run's report.html again and print its tables.

    Example: paceline report runs/first
    """
    from paceline.cli.results import report_command

    report_command(run)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="run folders, RUN:VARIANT, or CSV files")],
    metric: Annotated[list[str] | None, typer.Option(help="what to compare (repeat for several)")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the result as JSON")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="write a page with a plot")] = None,
    redrawn: Annotated[bool, typer.Option("--redrawn", help="CSV: every seed drew its own folds")] = False,
) -> None:
    """Test whether runs differ: every one with the first, on the same data and splits.

    A CSV file of scores has the columns seed, fold (optional) and one per metric.

    Example: paceline compare runs/first runs/second --metric test_f1_macro --html compare.html
    """
    from paceline.cli.comparing import compare_command

    compare_command(runs, metric or [], json_file, html_file, redrawn=redrawn)


@app.command(name="runs")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="the folder of the runs")] = Path("runs"),
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the list as JSON")] = None,
) -> None:
    """List the runs of a folder, the best first, and write its index.html.

    Example: paceline runs
    """
    from paceline.cli.comparing import runs_command

    runs_command(folder, json_file)


@app.command(name="config")
def show_config(
    overrides: Overrides = None, config: Config = None, use: Use = None, config_dir: ConfigDir = None
) -> None:
    """Print the resolved configuration as YAML; nothing is loaded or written.

    Example: paceline config task=pain model=gru
    """
    from paceline.cli.results import config_command

    config_command(overrides or [], config, use or [], config_dir)


@app.command()
def plan(overrides: Overrides = None, config: Config = None, use: Use = None, config_dir: ConfigDir = None) -> None:
    """Print how a run would train: cohorts, engines, processes. Loads the data, trains and writes nothing.

    Example: paceline plan task=pain members.seeds=5 members.folds=5
    """
    from paceline.cli.results import plan_command

    plan_command(overrides or [], config, use or [], config_dir)


@app.command()
def tasks(use: Use = None) -> None:
    """List the tasks with their models, data and losses.

    Example: paceline tasks
    """
    from paceline.cli.results import tasks_command

    tasks_command(use or [])


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="the recipe's name, a Python identifier")],
    folder: Annotated[Path, typer.Option(help="where the file is written")] = Path(),
) -> None:
    """Write a recipe of your own: data, model and task in one short file that trains.

    Example: paceline new blobs
    """
    from paceline.cli.scaffolding import new_command

    new_command(name, folder)


def run() -> None:
    """Run the app; a user's mistake is one error on stderr and exit code 2, without a traceback."""
    try:
        app()
    except PacelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
