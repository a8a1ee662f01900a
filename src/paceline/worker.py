"""`python -m paceline.worker RUN COHORT [--use FILE.py]`: train one cohort; one JSON object per line on stdout."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from types import FrameType

from paceline.api.runs import open_with_recipe
from paceline.errors import InterruptedRunError, PacelineError
from paceline.run.execute import train_cohort
from paceline.run.start import reopen
from paceline.track.journal import to_line
from paceline.train.control import LoopControl
from paceline.types import Cohort, Record

REPORT_SECONDS = 0.5  # between two reports of records: whoever reads them shares the cores with the training


class Reporter:
    """An observer that prints what it sees, in reports; the whole record is in the journal."""

    def __init__(self, *, thin: bool) -> None:
        self._thin = thin
        self._waiting: dict[object, Record] = {}
        self._said = 0.0

    def start(self, cohort: Cohort, number: int, of: int, num_epochs: int, resumed_at: int) -> None:
        say({"event": "start", "num_epochs": num_epochs, "resumed_at": resumed_at})

    def record(self, cohort: str, record: Record) -> None:
        """Keep the record for the next report; thinned, of a member and split only the latest."""
        key = (record.member, record.split) if self._thin else (record.member, record.split, record.step)
        self._waiting[key] = record
        if time.monotonic() - self._said >= REPORT_SECONDS:
            self._report()

    def end(self, cohort: str, skipped: bool) -> None:
        self._report()
        say({"event": "end", "skipped": skipped})

    def _report(self) -> None:
        rows = ",".join(to_line(record).rstrip("\n") for record in self._waiting.values())
        sys.stdout.write('{"event":"records","records":[' + rows + "]}\n")
        sys.stdout.flush()
        self._waiting, self._said = {}, time.monotonic()


def say(event: dict[str, object]) -> None:
    """Print one event."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Train the cohort; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paceline.worker", description=__doc__)
    parser.add_argument("run")
    parser.add_argument("cohort")
    parser.add_argument("--use", action="append", default=[])
    parser.add_argument("--thin", action="store_true", help="report only what a progress line needs")
    arguments = parser.parse_args()
    control = LoopControl()
    _listen(control)
    try:
        run, recipe = open_with_recipe(arguments.run, arguments.use)
        train_cohort(
            run, reopen(run, recipe), arguments.cohort, control=control, observer=Reporter(thin=arguments.thin)
        )
    except InterruptedRunError as error:
        return error.exit_code
    except PacelineError as error:
        say({"event": "error", "what": error.what, "where": error.where, "got": error.got, "hint": error.hint})
        return error.exit_code
    return 0


def _listen(control: LoopControl) -> None:
    """Save and end on SIGTERM, and when the parent is gone."""

    def handle(number: int, frame: FrameType | None) -> None:
        control.interrupt(143)

    def watch() -> None:
        while os.read(0, 4096):  # not through a buffer: its lock would be held when the process ends
            pass
        control.interrupt(143)

    signal.signal(signal.SIGTERM, handle)
    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
