"""The commands that set runs beside each other: `compare` and `runs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from paceline.cli.console import make_console
from paceline.errors import RunError


def compare_command(
    sources: Sequence[str], metrics: Sequence[str], json_file: Path | None, html_file: Path | None, *, redrawn: bool
) -> None:
    """Compare, print, and write the files asked for."""
    from paceline.report.compare import compare
    from paceline.report.compare_page import write_comparison_json, write_comparison_page
    from paceline.report.compare_text import comparison_text

    for option, target in (("--json", json_file), ("--html", html_file)):
        if target is not None:
            _check_folder(option, target)
    found = compare(sources, metrics, redrawn=redrawn)
    console = make_console()
    for part in comparison_text(found):
        console.print(part)
    if json_file is not None:
        write_comparison_json(found, json_file)
        console.print(Text(f"written: {json_file}"), soft_wrap=True)
    if html_file is not None:
        write_comparison_page(found, html_file)
        console.print(Text(f"written: {html_file}"), soft_wrap=True)


def runs_command(folder: Path, json_file: Path | None) -> None:
    """List the runs of a folder, best first, and write its index.html."""
    from paceline.report.leaderboard import leaderboard, write_leaderboard_json
    from paceline.report.leaderboard_page import leaderboard_text, write_index

    if json_file is not None:
        _check_folder("--json", json_file)

    found = leaderboard(folder)
    console = make_console()
    for part in leaderboard_text(found):
        console.print(part)
    if json_file is not None:
        write_leaderboard_json(found, json_file)
        console.print(Text(f"written: {json_file}"), soft_wrap=True)
    console.print(Text(f"index: {write_index(found)}"), soft_wrap=True)


def _check_folder(option: str, target: Path) -> None:
    """Say at once, not after the work, that a file cannot be written there."""
    if not target.absolute().parent.is_dir() or target.is_dir():
        raise RunError("the file cannot be written: no such folder", where=option, got=str(target))
