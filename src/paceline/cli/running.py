"""The commands that train: signals, progress, the tables at the end."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.logging import RichHandler

from paceline.cli.progress import progress_view
from paceline.cli.results import print_results
from paceline.errors import TrainingError
from paceline.run.folder import Run
from paceline.train.control import LoopControl

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def train_command(
    overrides: Sequence[str],
    *,
    name: str | None,
    runs: Path,
    overwrite: bool,
    config: Path | None,
    use: Sequence[Path],
    config_dir: Path | None,
) -> None:
    """Train, with live progress, and print the results."""
    from paceline.api.runs import train

    console = Console()
    control = LoopControl()
    with _logging(console), signals(control), progress_view(console) as view:
        run = train(
            overrides=list(overrides), config=config, use=use, config_dir=config_dir, runs=runs, name=name,
            overwrite=overwrite, control=control, observer=view,
        )  # fmt: skip
    _end(run, console)


def resume_command(path: Path, use: Sequence[Path]) -> None:
    """Resume, with live progress, and print the results."""
    from paceline.api.runs import resume

    console = Console()
    control = LoopControl()
    with _logging(console), signals(control), progress_view(console) as view:
        run = resume(path, use=use, control=control, observer=view)
    _end(run, console)


@contextmanager
def signals(control: LoopControl) -> Iterator[None]:
    """Ctrl-C or SIGTERM once: finish the step, save, exit 130 or 143; twice: exit now."""

    def handle(number: int, frame: FrameType | None) -> None:
        if control.interrupted:
            os._exit(EXIT_CODES[signal.Signals(number)])
        control.interrupt(EXIT_CODES[signal.Signals(number)])

    before = {number: signal.signal(number, handle) for number in EXIT_CODES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(run: Run, console: Console) -> None:
    print_results(run, console)
    failed = run.summary["failed"]
    if failed:
        raise TrainingError(f"{len(failed)} of {len(run.members)} members failed", where=", ".join(failed[:5]),
                            hint="a lower training.learning_rate or training.gradient_clip.value=1")  # fmt: skip


@contextmanager
def _logging(console: Console) -> Iterator[None]:
    """Show the package's warnings on the same console as the progress."""
    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    logger = logging.getLogger("paceline")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
