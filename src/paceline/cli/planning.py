"""`paceline plan`: how a run would train, by the table of costs or by a stopwatch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from paceline.cli.console import make_console
from paceline.errors import ConfigError

if TYPE_CHECKING:
    from paceline.types import Plan

ROWS = 20  # cohorts that are listed


def plan_command(
    overrides: Sequence[str],
    *,
    config: Path | None,
    use: Sequence[Path],
    config_dir: Path | None,
    probe: bool,
    out: Path | None,
) -> None:
    """Print the plan that `train` would make, or the one that is fastest here; write it where asked."""
    from paceline.api.runs import configure
    from paceline.run.build import build
    from paceline.run.folder import write_json
    from paceline.run.plan import plan_to_json

    if out is not None and (out.exists() or not out.parent.is_dir()):
        problem = "the file exists already" if out.exists() else "the folder does not exist"
        raise ConfigError(problem, where="--out", got=str(out), hint="--out plan.json")
    resolved, recipe = configure(overrides=list(overrides), config=config, use=use, config_dir=config_dir)
    prepared = build(resolved, recipe, config_dir=config_dir)
    console, plan = make_console(), prepared.plan
    if probe:
        from paceline.run.plan import make_plan
        from paceline.run.probe import Probed
        from paceline.train.runtime import resolve_device

        device = resolve_device(resolved.device)
        costs = Probed(device, lambda text: console.print(Text(text), soft_wrap=True))
        plan = make_plan(prepared.jobs, device, costs=costs)
    show(plan, console)
    if out is not None:
        write_json(out, plan_to_json(plan))
        console.print(Text(f"use it: paceline train ... --plan {out}"), soft_wrap=True)


def show(plan: Plan, console: Console) -> None:
    """Print a plan."""
    table = Table("cohort", "members", "engine", "whole step", "batches", box=None, pad_edge=False)
    for cohort in plan.cohorts[:ROWS]:
        compiled = "compiled" if cohort.compile else "as it is"
        batches = {"whole": "shuffled", "cut": "shuffled, cut", "by_length": "by length, cut"}[cohort.batches]
        if cohort.engine == "estimator":
            compiled, batches = "-", "all rows"
        table.add_row(Text(cohort.id), str(len(cohort.members)), cohort.engine, compiled, batches)
    console.print(table)
    if len(plan.cohorts) > ROWS:
        console.print(Text(f"and {len(plan.cohorts) - ROWS} more"))
    words = f"{plan.processes} processes" if plan.processes > 1 else "one process"
    threads = f"{plan.threads} threads each" if plan.threads > 1 else "one thread each"
    console.print(Text(f"on {plan.device}, {words}, {threads}"))
