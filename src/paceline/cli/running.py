"""The commands that train: signals, progress, the tables at the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from paceline.cli.console import make_console
from paceline.cli.progress import progress_view
from paceline.cli.results import print_results
from paceline.errors import TrainingError
from paceline.launch.signals import signals
from paceline.run.folder import Run


def train_command(
    overrides: Sequence[str],
    *,
    name: str | None,
    runs: Path,
    overwrite: bool,
    config: Path | None,
    plan: Path | None,
    use: Sequence[Path],
    config_dir: Path | None,
) -> None:
    """Train, with live progress, and print the results."""
    from paceline.api.runs import train

    console = make_console()
    with logged(console), signals() as control, progress_view(console) as view:
        run = train(
            overrides=list(overrides), config=config, plan=plan, use=use, config_dir=config_dir, runs=runs, name=name,
            overwrite=overwrite, control=control, observer=view,
        )  # fmt: skip
    _end(run, console)


def resume_command(
    path: Path, overrides: Sequence[str], *, inexact: bool, accept_changed_data: bool, use: Sequence[Path]
) -> None:
    """Resume, with live progress, and print the results."""
    from paceline.api.runs import resume

    console = make_console()
    with logged(console), signals() as control, progress_view(console) as view:
        run = resume(path, list(overrides), inexact=inexact, accept_changed_data=accept_changed_data, use=use,
                     control=control, observer=view)  # fmt: skip
    _end(run, console)


def _end(run: Run, console: Console) -> None:
    print_results(run, console)
    failed = run.summary["failed"]
    if failed:
        raise TrainingError(f"{len(failed)} of {len(run.members)} members failed", where=", ".join(failed[:5]),
                            hint="a lower training.learning_rate or training.gradient_clip.value=1")  # fmt: skip


@contextmanager
def logged(console: Console) -> Iterator[None]:
    """Show what the package has to say on the same console as the progress."""
    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    logger = logging.getLogger("paceline")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
