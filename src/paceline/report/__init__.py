"""The report of a run: `write(run_folder)` makes `report.html`; `table` prints the same result on a terminal."""

from __future__ import annotations

from paceline.report.page import render, write

__all__ = ["render", "write"]
