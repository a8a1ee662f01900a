"""The command line. `main` answers `--help` without importing torch; each command imports what it needs."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the entry point `paceline`."""
    from paceline.cli.main import run

    run()
