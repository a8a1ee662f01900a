"""`python -m paceline.worker RUN COHORT [--use FILE.py]`: train one cohort; one JSON object per line on stdout."""

from __future__ import annotations

import argparse
import json
import logging
import os
import threading
import time
from contextlib import suppress

from paceline.api.runs import open_with_recipe
from paceline.errors import InterruptedRunError, PacelineError
from paceline.launch.process import calm_collector
from paceline.launch.signals import signals, stop_main_thread
from paceline.launch.workers import BEAT_SECONDS
from paceline.run.execute import train_cohort
from paceline.run.shared import open_shared
from paceline.run.start import reopen
from paceline.track.journal import to_line
from paceline.train.control import Stopped
from paceline.types import Cohort, Record

_WRITING = threading.Lock()
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
        write('{"event":"records","records":[' + rows + "]}\n")
        self._waiting, self._said = {}, time.monotonic()


class Warnings(logging.Handler):
    """Reports what the training has to say; the console belongs to another process."""

    def emit(self, record: logging.LogRecord) -> None:
        say({"event": "warning", "text": record.getMessage()})


def say(event: dict[str, object]) -> None:
    """Print one event."""
    write(json.dumps(event) + "\n")


def write(line: str) -> None:
    """Write a line in one piece, past Python's buffer: two threads report, and one may be writing at the very end."""
    left = line.encode()
    with _WRITING, suppress(BrokenPipeError):  # the parent is gone: the watch ends the training
        while left:
            left = left[os.write(1, left) :]


def main() -> int:
    """Train the cohort; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paceline.worker", description=__doc__)
    parser.add_argument("run")
    parser.add_argument("cohort")
    parser.add_argument("--use", action="append", default=[])
    parser.add_argument("--thin", action="store_true", help="report only what a progress line needs")
    arguments = parser.parse_args()
    calm_collector()
    try:
        with signals(patient=True) as control:  # the parent tells once, a scheduler perhaps every process as well
            _report_and_watch()
            run, recipe = open_with_recipe(arguments.run, arguments.use)
            prepared = reopen(run, recipe, *open_shared(run))
            logging.getLogger("paceline").addHandler(Warnings(logging.WARNING))
            train_cohort(run, prepared, arguments.cohort, control=control, observer=Reporter(thin=arguments.thin),
                         changed=lambda change: say({"event": "changed", "change": dict(change)}))  # fmt: skip
    except (InterruptedRunError, Stopped) as error:
        return error.exit_code
    except PacelineError as error:
        say({"event": "error", "what": error.what, "where": error.where, "got": error.got, "hint": error.hint})
        return error.exit_code
    return 0


def _report_and_watch() -> None:
    """Show that this process lives; save and end when the parent is gone."""

    def watch() -> None:
        while os.read(0, 4096):  # not through a buffer: its lock would be held when the process ends
            pass
        stop_main_thread()

    def beat() -> None:
        while True:
            say({"event": "alive"})
            time.sleep(BEAT_SECONDS)

    for task in (watch, beat):
        threading.Thread(target=task, daemon=True).start()


if __name__ == "__main__":
    code = main()
    # All is written. The interpreter's own end would wait 1.5 s for the compiler's processes, which end with this one.
    os._exit(code)
