"""State of health with one cell left out: one network by nested choice, beside least squares, a forest and LightGBM.

    python3 x.py bench quality_battery --json quality_battery.json    # some minutes
    python3 x.py bench quality_battery --quick                        # few epochs and candidates: a look

What is measured, and how the configuration is chosen, stands in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arms.outcome import Bound, json_target, write_json
from quality.battery import (
    ALONE,
    HISTORIES,
    INNER_SEEDS,
    OTHERS,
    SEEDS,
    SETS,
    TABLE,
    Candidate,
    best,
    cells_of,
    inner_scores,
    of_arm,
    outer_errors,
)
from stacked.outcome import environment

BOUNDS = {"all": Bound("at most", 0.0258), "without": Bound("at most", 0.0628)}  # least squares; a forest
CHOSEN = "paceline-chosen-{}"
EXPLORED = Path(__file__).parent / "quality" / "battery_explored.json"


def chosen(
    table: Path, folder: Path, *, quick: bool
) -> tuple[dict[str, dict[tuple[Candidate, str], float]], Candidate]:
    """Score all candidates inside the training cells; return the scores, and the one best on the mean of both sets."""
    histories = HISTORIES[:2] if quick else HISTORIES
    scores: dict[str, dict[tuple[Candidate, str], float]] = {which: {} for which in SETS}
    for history in histories:
        for which in SETS:
            epochs, seeds = (3, 1) if quick else (0, INNER_SEEDS)
            started = time.perf_counter()
            found = inner_scores(table, folder, which, history, epochs=epochs, seeds=seeds)
            scores[which] |= found
            lowest = best([found])
            mean = sum(error for (c, _), error in found.items() if c == lowest) / 4
            print(f"inner, {which:<8} {lowest.name:<40} {mean:.4f}   {time.perf_counter() - started:.0f} s", flush=True)
    return scores, best(list(scores.values()))


def measured(
    table: Path, folder: Path, one: Candidate, per_fold: Mapping[str, Mapping[str, Candidate]], *, quick: bool
) -> Any:
    """Return the figures of every arm; prints a line as each is done."""
    seeds, epochs = (2, 3) if quick else (SEEDS, 0)
    arms: dict[str, Any] = {}

    def arm(name: str, which: str, history: tuple[int, bool], overrides: Sequence[str], epochs: int = 0) -> Any:
        found = outer_errors(table, folder, which, history, overrides, seeds=seeds, epochs=epochs)
        arms[name] = of_arm(found) | {"history": list(history), "overrides": list(overrides)}
        print(line(name, arms[name]), flush=True)
        return found

    for which in SETS:
        own = {one: arm(CHOSEN.format(which), which, one.history, one.overrides, epochs)}
        for candidate in sorted(set(per_fold[which].values()) - {one}):
            own[candidate] = arm(
                f"paceline-{which}: {candidate.name}", which, candidate.history, candidate.overrides, epochs
            )
        pieces = {cell: own[candidate][cell] for cell, candidate in per_fold[which].items()}
        arms[f"paceline-chosen-per-fold-{which}"] = of_arm(pieces)
        print(line(f"paceline-chosen-per-fold-{which}", arms[f"paceline-chosen-per-fold-{which}"]), flush=True)
        for name, overrides in OTHERS.items():
            arm(f"{name}-{which}", which, ALONE, overrides)
            if one.history != ALONE and name != "mean":
                arm(f"{name}-{which}, same history", which, one.history, overrides)
    return arms


def line(name: str, found: Mapping[str, Any]) -> str:
    cells = "  ".join(f"{sum(values) / len(values):.4f}" for values in found["cells"].values())
    return f"{name:<60}{found['mean']:8.4f}   {cells}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="x.py bench quality_battery", description=__doc__.splitlines()[0])
    json_target(parser)
    parser.add_argument("--quick", action="store_true", help="few epochs, candidates and seeds: a look; no bar fails")
    parser.add_argument("--data", type=Path, default=TABLE, metavar="FILE", help="the table of cycles")
    args = parser.parse_args(argv)
    if not args.data.is_file():
        parser.error(f"--data: no file {args.data}")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-battery-") as name:
        folder, table = Path(name), args.data.resolve()
        scores, one = chosen(table, folder, quick=args.quick)
        per_fold = {which: {cell: best([own], cell) for cell in cells_of(table)} for which, own in scores.items()}
        print(f"\nchosen: {one.name}\n\n{'':<60}{'mean':>8}   {'  '.join(cells_of(table))}")
        arms = measured(table, folder, one, per_fold, quick=args.quick)
    results = {name: found["mean"] for name, found in arms.items()}
    tries = [
        {"set": which, "name": candidate.name, "overrides": candidate.overrides, "history": list(candidate.history),
         "inner": {cell: own[candidate, cell] for cell in cells_of(table)}}
        for which, own in scores.items() for candidate in sorted({c for c, _ in own})
    ]  # fmt: skip
    names = {which: {cell: c.name for cell, c in own.items()} for which, own in per_fold.items()}
    verdicts = {which: BOUNDS[which].verdict(results[CHOSEN.format(which)]) for which in SETS}
    print("\n" + "\n".join(f"{CHOSEN.format(which)}: {text}" for which, text in verdicts.items()))
    write_json(args.json, {
        "name": "quality_battery", "unit": "RMSE of state of health", "results": results, "arms": arms,
        "chosen": {"one": one.name, "per fold": names},
        "tries": tries, "explored": json.loads(EXPLORED.read_text(encoding="utf-8")), "aims": verdicts,
        "environment": environment({"quick": args.quick, "seconds": round(time.perf_counter() - started, 1)}),
    })  # fmt: skip
    missed = any(results[CHOSEN.format(which)] > (bound.bar or 0) for which, bound in BOUNDS.items())
    return 1 if missed and not args.quick else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
