"""The command line. `main` answers `--help` without importing torch; each command imports what it needs."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the entry point `paceline`."""
    from paceline.launch.process import calm_collector
    from paceline.launch.signals import Stopped, signals

    try:
        with signals():  # first of all: what follows takes its time
            from paceline.cli.app import run

            calm_collector()
            run()
    except Stopped as stopped:
        print("error: interrupted", file=sys.stderr)
        sys.exit(stopped.exit_code)
