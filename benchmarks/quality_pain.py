"""Macro F1 of one fixed configuration beside a random forest, on the four robot-failure sets; and on pain_synthetic.

    python3 x.py bench quality_pain --json quality_pain.json    # ten redraws of every cross-validation, some minutes
    python3 x.py bench quality_pain --quick                     # two redraws of the two smallest sets: a look
    python3 x.py bench quality_pain --choose                    # how the configuration was chosen

What is measured, and what the configuration was chosen on, stands in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from arms.outcome import Bound, json_target, write_json
from quality.arms import TREES, Division, cross_validated, unselected
from quality.choose import CANDIDATES, CHOSEN, MEMBERS, TRIES, choose
from quality.data import DEFAULT, SETS
from quality.figures import of_set, overall
from stacked.outcome import environment

import paceline

OURS = CANDIDATES[CHOSEN]
REDRAWS = 10  # divisions of each set; per fold, the probabilities of MEMBERS seeds are averaged
QUICK = ("lp2", "lp3")
BAR = -0.02
BOUND = Bound("at least", BAR, 0.0)
SYNTHETIC = ["data=pain_synthetic", "members.folds=5"]  # all else is the recipe's default


def on_robot_failures(folder: Path, processes: int, *, quick: bool) -> dict[str, Any]:
    """Return the figures of every set; prints a line as each is done."""
    names = QUICK if quick else tuple(SETS)
    redraws, members = (2, 2) if quick else (REDRAWS, MEMBERS)
    divisions = [
        Division(name=n, folder=folder, folds=SETS[n], redraw=r, members=members, overrides=tuple(OURS))
        for n in names
        for r in range(redraws)
    ]
    found, rows = {}, []
    with contextlib.ExitStack() as stack:
        do = map
        if processes > 1:
            context = multiprocessing.get_context("spawn")
            do = stack.enter_context(ProcessPoolExecutor(processes, mp_context=context)).map
        for division, folds in zip(divisions, do(cross_validated, divisions), strict=True):
            rows += folds
            if division.redraw == redraws - 1:
                found[division.name] = of_set(rows) | {"n_folds": division.folds, "members": members}
                print(line(division.name, found[division.name]), flush=True)
                rows = []
    return found


def on_synthetic(runs: Path) -> dict[str, Any]:
    """Return macro F1 and accuracy of the recipe's defaults, of the forest and of the ceiling, over the same folds."""
    summary = paceline.train("pain", SYNTHETIC, runs=runs, name="synthetic").summary
    sides = {"ours": summary["metrics"], **{name: row["metrics"] for name, row in summary["references"].items()}}
    keys = ("val_f1_macro", "val_accuracy")
    return {name: {key: {k: row[key][k] for k in ("mean", "ci95", "n")} for key in keys} for name, row in sides.items()}


def line(name: str, found: Mapping[str, Any]) -> str:
    low, high = found["difference"]["ci95"]
    return (
        f"{name:<6}{found['ours']:8.3f}{found['single member']:8.3f}{found['forest']:8.3f}"
        f"{found['difference']['mean']:+12.3f}   {low:+.3f} to {high:+.3f}"
    )


def report(sets: Mapping[str, Any], synthetic: Mapping[str, Any] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "quality_pain",
        "unit": "macro F1",
        "results": {name: found["difference"]["mean"] for name, found in sets.items()},
        "ratios": {"ours - forest": overall(sets)["mean"]},
        "overall": overall(sets),
        "sets": dict(sets),
        "pain_synthetic": synthetic,
        "configuration": {"name": CHOSEN, "overrides": unselected(OURS), "forest": f"{TREES} trees"},
        "choice": json.loads(TRIES.read_text(encoding="utf-8")),
        "environment": environment(options),
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="x.py bench quality_pain", description=__doc__.splitlines()[0])
    json_target(parser)
    parser.add_argument("--quick", action="store_true", help="two redraws of two sets, two members: a look")
    parser.add_argument("--data", type=Path, default=DEFAULT, metavar="FOLDER", help="of robot_failures_*.csv")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="side by side; no figure depends on it"
    )
    parser.add_argument("--choose", action="store_true", help="score the candidates on training parts instead")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-quality-") as folder:
        if not (args.data / "robot_failures_long.csv").is_file():
            parser.error(f"--data: no robot_failures_long.csv in {args.data}")
        if args.choose:
            return choose(Path(folder), args.data, args.json)
        print(f"{'set':<6}{'ours':>8}{'single':>8}{'forest':>8}{'ours-forest':>12}   95 % interval (corrected)")
        sets = on_robot_failures(args.data, 1 if args.quick else args.processes, quick=args.quick)
        synthetic = None if args.quick else on_synthetic(Path(folder))
    seconds = round(time.perf_counter() - started, 1)
    result = report(sets, synthetic, {"quick": args.quick, "processes": args.processes, "seconds": seconds})
    low, high = result["overall"]["ci95"]
    difference = result["ratios"]["ours - forest"]
    members = next(iter(sets.values()))["members"]
    print(f"\nours: mean of {members} members' probabilities; single: one member alone")
    print(f"ours - forest  {difference:+.4f} ({low:+.3f} to {high:+.3f})   {BOUND.verdict(difference)}")
    for name, row in (synthetic or {}).items():
        print(f"pain_synthetic, 5 folds: {name:<8} {row['val_f1_macro']['mean']:.3f}")
    write_json(args.json, result)
    return 1 if difference < BAR and not args.quick else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
