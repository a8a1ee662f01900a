"""Commands around training: `prove`, `ui`, `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paceline.cli.completion import complete_override
from paceline.cli.options import ConfigDir, Use


def prove(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [KEY=VALUE]...",
            help="a run whose configuration to take, or task=NAME; values",
            autocompletion=complete_override,
        ),
    ] = None,
    kills: Annotated[int, typer.Option(help="how many times the training is killed")] = 5,
    seed: Annotated[int, typer.Option(help="of the instants")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="keep the folder of both trainings")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the proof as JSON")] = None,
    use: Use = None,
    config_dir: ConfigDir = None,
) -> None:
    """Train once whole and once killed at random instants and resumed, and compare every bit.

    Example: paceline prove task=pain training.num_epochs=3
    """
    from paceline.cli.proving import prove_command

    prove_command(words or [], use=use or [], config_dir=config_dir, kills=kills, seed=seed, keep=keep,
                  json_file=json_file)  # fmt: skip


def ui(
    path: Annotated[Path, typer.Argument(metavar="[RUN|FOLDER]", help="a run, or the folder of the runs")] = Path(
        "runs"
    ),
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="where to serve (default: the first free one from 5000)")
    ] = None,
) -> None:
    """Show in MLflow what was sent there, on this machine alone, until Ctrl-C.

    Example: paceline ui runs --port 5001
    """
    from paceline.cli.serving import ui_command

    ui_command(path, port)


def doctor(
    runs: Annotated[Path, typer.Option(help="where runs are made")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Try what training needs on this machine, and say what to do where something is missing.

    Example: paceline doctor
    """
    from paceline.cli.doctor import doctor_command

    doctor_command(runs, as_json=as_json)
