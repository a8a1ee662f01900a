"""The register of openings of test data: one line whenever a run or a command evaluates on it."""

from __future__ import annotations

import json
import time
from pathlib import Path

REGISTER = "test_openings.jsonl"


def record_opening(runs: Path, *, fingerprint: str, run: str, by: str) -> None:
    """Append one opening, unless the same run has recorded it for the same purpose already (a resumed run has)."""
    if any(line["run"] == run and line["by"] == by for line in _lines(runs) if line["fingerprint"] == fingerprint):
        return
    line = {"fingerprint": fingerprint, "run": run, "by": by, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / REGISTER).open("a", encoding="utf-8") as register:
        register.write(json.dumps(line) + "\n")


def count_openings(runs: Path, fingerprint: str) -> int:
    """Return how often the test data of this fingerprint has been opened, by any run in the folder."""
    return sum(line["fingerprint"] == fingerprint for line in _lines(runs))


def _lines(runs: Path) -> list[dict[str, str]]:
    try:
        text = (runs / REGISTER).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]
