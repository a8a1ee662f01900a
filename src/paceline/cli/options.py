"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paceline.cli.completion import complete_override

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="group choices and config values", autocompletion=complete_override),
]
Use = Annotated[
    list[Path] | None, typer.Option("--use", metavar="FILE.py", help="your own recipe, losses, models or trackers")
]
ConfigDir = Annotated[Path | None, typer.Option("--config-dir", help="your own YAML options (default ./configs)")]
Config = Annotated[Path | None, typer.Option("--config", help="start from a run's config.yaml instead of composing")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a run, such as runs/demo")]
