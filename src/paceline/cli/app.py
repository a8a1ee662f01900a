"""The commands. Arguments are Hydra's: `paceline train task=pain model=gru training.num_epochs=15`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from paceline.cli.around import doctor, prove, ui
from paceline.cli.checkpoints import app as checkpoint_app
from paceline.cli.options import Config, ConfigDir, Overrides, RunPath, Use
from paceline.cli.rates import lr_find
from paceline.errors import PacelineError, visible

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

app.add_typer(checkpoint_app, name="checkpoint")


@app.command()
def train(
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="name of the run's folder")] = None,
    runs: Annotated[Path, typer.Option(help="where runs are made")] = Path("runs"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a run of the same name")] = False,
    config: Config = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="a plan by `paceline plan -o`, in place of `auto`")
    ] = None,
    use: Use = None,
    config_dir: ConfigDir = None,
) -> None:
    """Train every member of a run (seeds x folds x variants).

    Example: paceline train task=pain model=gru training.num_epochs=15 members.seeds=5 --name first
    """
    from paceline.cli.running import train_command

    train_command(overrides or [], name=name, runs=runs, overwrite=overwrite, config=config, plan=plan,
                  use=use or [], config_dir=config_dir)  # fmt: skip


@app.command()
def resume(
    run: RunPath,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="values to change from here on, on record")
    ] = None,
    inexact: Annotated[
        bool, typer.Option("--inexact", help="go on although processor, torch build, device or threads are others")
    ] = False,
    accept_changed_data: Annotated[
        bool, typer.Option("--accept-changed-data", help="go on although the data changed")
    ] = False,
    use: Use = None,
) -> None:
    """Go on with an interrupted run, bit for bit as if it had never stopped; or with more epochs, which is recorded.

    Example: paceline resume runs/first
    """
    from paceline.cli.running import resume_command

    resume_command(run, overrides or [], inexact=inexact, accept_changed_data=accept_changed_data, use=use or [])


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
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="a .csv, .npz or .ts file, raw as in training")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="the CSV to write")] = None,
    member: Annotated[list[str] | None, typer.Option(help="use this member only (repeat for several)")] = None,
    per_member: Annotated[bool, typer.Option("--per-member", help="a row per member and sample, no average")] = False,
    probabilities: Annotated[
        bool | None,
        typer.Option(help="show those of the classes (default: yes, but not in data=challenge's submission)"),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="without fitted temperatures and tuned thresholds")] = False,
    use: Use = None,
) -> None:
    """Predict new input from a run's folder alone; members are averaged.

    Example: paceline predict runs/first new.csv -o predictions.csv
    """
    from paceline.cli.results import predict_command

    predict_command(run, source, output, member or [], per_member=per_member, probabilities=probabilities, raw=raw,
                    use=use or [])  # fmt: skip


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
def plan(
    overrides: Overrides = None,
    config: Config = None,
    use: Use = None,
    config_dir: ConfigDir = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="time the ways to train on this machine, some seconds each")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write the plan, for `paceline train --plan`")] = None,
) -> None:
    """Print how a run would train: cohorts, engines, processes. Loads the data and trains nothing.

    Example: paceline plan task=pain members.seeds=5 members.folds=5 --probe -o plan.json
    """
    from paceline.cli.planning import plan_command

    plan_command(overrides or [], config=config, use=use or [], config_dir=config_dir, probe=probe, out=out)


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


@app.command()
def scaffold(
    task: Annotated[str, typer.Argument(help="the recipe: battery or pain")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="where the files are written; new or empty")],
    force: Annotated[bool, typer.Option("--force", help="write into a folder that is not empty")] = False,
) -> None:
    """Write a group's own scripts and module names, as thin files over paceline.

    Example: paceline scaffold pain my_project
    """
    from paceline.cli.scaffolding import scaffold_command

    scaffold_command(task, folder, force=force)


app.command(name="lr-find")(lr_find)
for command in (prove, ui, doctor):
    app.command()(command)


def run() -> None:
    """Run the app; a user's mistake is one error on stderr and exit code 2, without a traceback."""
    try:
        app()
    except PacelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except MemoryError as error:
        reason = " ".join(visible(str(error)).split())
        print(f"error: there is not enough memory\ngot: {reason or 'no free memory'}", file=sys.stderr)
        sys.exit(1)
