"""Train 32 members of a small MLP in paceline, in loops written by hand, in Lightning, and in a hand-written vmap loop.

    python3 x.py bench cohort --json cohort.json      # about a quarter of an hour
    python3 x.py bench cohort --quick                 # minutes: fewer epochs, scaled up by the time per epoch alone

What is timed, and how the arms are kept equal, stands in benchmarks/README.md. This file needs the standard library
alone: every arm is a command of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from arms.cohort_arms import ARMS, COHORTS, EPOCHS, MEMBERS, STEPS, Row, Size, measure
from arms.outcome import Bound, json_target, ratio_lines, write_json
from step import BUSY, LOSS_BAND, describe, spread

QUICK_EPOCHS = 40
PEERS = ("hand", "lightning", "vmap", "eager")  # their 32 members beside those of cohort32
AGAIN = ("vmap", "cohort32")  # measured in every round: their ratio is close to its bar
LEFT_OUT = ("cohort8", "cohort128")  # by --quick
BOUNDS = {
    "hand/cohort32": Bound("at least", 7.0),
    "lightning/cohort32": Bound("at least", 28.0),
    "vmap/cohort32": Bound("at least", 0.9),
    "hand/compiled1": Bound("at least", 2.0),
    "hand/cohort32 steady": Bound("at least", aim=12.0),
    "lightning/cohort32 steady": Bound("at least", aim=50.0),
}


def schedule(arms: Sequence[str], rounds: int) -> list[str]:
    """Every arm once; those close to their bar once more in each further round, in turn."""
    return [*arms, *[arm for _ in range(rounds - 1) for arm in AGAIN if arm in arms]]


def report(rows: Sequence[Row], environment: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """The JSON of the benchmark: medians over the rounds, and ratios of those medians."""
    samples = {arm: [row for row in rows if row.arm == arm] for arm in ARMS if any(row.arm == arm for row in rows)}

    def medians(key: str) -> dict[str, float]:
        return {arm: statistics.median(getattr(row, key) for row in found) for arm, found in samples.items()}

    seconds, steady = medians("seconds"), medians("steady_us")
    return {
        "name": "cohort",
        "unit": "s",
        "results": seconds,
        "ratios": ratios(seconds, steady, medians("epoch_seconds"), processes),
        "spread": {arm: spread([row.seconds for row in found]) for arm, found in samples.items()},
        "steady_us": steady,
        "start_s": medians("start_seconds"),
        "members": {arm: found[0].members for arm, found in samples.items()},
        "final_val_loss": medians("val_loss"),
        "plans": {arm: found[0].plan for arm, found in samples.items() if found[0].plan},
        "rows": [asdict(row) for row in rows],
        "environment": dict(environment),
    }


def ratios(
    seconds: Mapping[str, float], steady: Mapping[str, float], epoch: Mapping[str, float], processes: int
) -> dict[str, float]:
    """Time of the first over time of the second."""
    found = {}
    for peer in PEERS:
        if peer in seconds and "cohort32" in seconds:
            found[f"{peer}/cohort32"] = seconds[peer] / seconds["cohort32"]
            found[f"{peer}/cohort32 steady"] = steady[peer] / steady["cohort32"]
    if "hand1" in steady and "compiled1" in steady:
        found["hand/compiled1"] = steady["hand1"] / steady["compiled1"]
    for arm, members in COHORTS.items():
        if "hand" in seconds and arm in seconds and members != MEMBERS:
            one = epoch["hand"] / -(-MEMBERS // processes) * EPOCHS  # of one member
            start = seconds["hand"] - epoch["hand"] * EPOCHS
            found[f"hand/{arm}"] = (start + -(-members // processes) * one) / seconds[arm]
    return found


def problems(rows: Sequence[Row]) -> list[str]:
    """Why the arms did not do the same work; empty when they did."""
    losses = [row.val_loss for row in rows if row.arm == "hand"]
    found = []
    for row in rows:
        if losses and not abs(row.val_loss / losses[0] - 1) <= LOSS_BAND:  # NaN is a problem too
            found.append(f"{row.arm} ended at validation loss {row.val_loss:.4f}, far from {losses[0]:.4f}")
    return list(dict.fromkeys(found))


def table(result: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The result for a terminal."""
    lines = [f"{'':<11}{'members':>8}{'s':>9}{'min..max':>15}{'start s':>9}{'us/step':>9}{'val loss':>10}  plan"]
    for arm, seconds in result["results"].items():
        low, high = result["spread"][arm]
        lines.append(
            f"{arm:<11}{result['members'][arm]:>8}{seconds:>9.1f}{f'{low:.1f}..{high:.1f}':>15}"
            f"{result['start_s'][arm]:>9.1f}{result['steady_us'][arm]:>9.1f}{result['final_val_loss'][arm]:>10.4f}"
            f"  {result['plans'].get(arm, '')}".rstrip()
        )
    lines.append("")
    lines += ratio_lines(result["ratios"], BOUNDS)
    if any(row.cpu_share is not None and row.cpu_share < BUSY for row in rows):
        lines.append("NOTE: the processor was shared with other programs; these ratios are not a result")
    return "\n".join(lines)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="x.py bench cohort", description=__doc__.splitlines()[0])
    json_target(parser)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_EPOCHS} epochs, scaled to {EPOCHS}: a look")
    parser.add_argument("--rounds", type=int, help=f"how often {' and '.join(AGAIN)} run (default 3, quick 1)")
    parser.add_argument("--epochs", type=int, help=f"epochs that are trained, scaled to {EPOCHS} (default: all)")
    parser.add_argument("--arms", help="comma-separated choice (default: all; quick leaves out two)")
    args = parser.parse_args(argv)
    args.epochs = args.epochs or (QUICK_EPOCHS if args.quick else EPOCHS)
    args.rounds = args.rounds or (1 if args.quick else 3)
    default = [arm for arm in ARMS if not (args.quick and arm in LEFT_OUT)]
    args.arms = args.arms.split(",") if args.arms else default
    unknown = [arm for arm in args.arms if arm not in ARMS]
    if unknown:
        parser.error(f"no arm {unknown[0]!r}; there are: {', '.join(ARMS)}")
    if args.rounds < 1 or not 2 <= args.epochs <= EPOCHS:
        parser.error(f"--rounds starts at 1, --epochs is 2 to {EPOCHS}")
    return args


def main(argv: Sequence[str]) -> int:
    args = parse(argv)
    size = Size(epochs=args.epochs, processes=os.cpu_count() or 1)
    environment = describe(rounds=args.rounds, epochs=args.epochs, threads=1) | {"processes": size.processes}
    started, rows, failures = time.perf_counter(), [], {}
    for arm in schedule(args.arms, args.rounds):
        if arm in failures:
            continue
        try:
            rows.append(measure(arm, size))
        except RuntimeError as error:
            failures[arm] = f"{arm} failed:\n{error}"
            continue
        print(f"{arm:<11}{rows[-1].seconds:9.1f} s{rows[-1].steady_us:9.1f} us/step", file=sys.stderr, flush=True)
    wrong = [*failures.values(), *problems(rows)]
    if rows:
        result = report(rows, environment, size.processes)
        scaled = "" if size.epochs == EPOCHS else f" SCALED from {size.epochs} epochs by the time per epoch alone"
        print(f"\nMLP 20-64-32-1 with dropout, batch 32, {EPOCHS * STEPS:,} steps per member{scaled},")
        took = f"{time.perf_counter() - started:.0f} s"
        print(f"{size.processes} processes of one thread, {environment['cpu']}; {took}\n")
        print(table(result, rows))
        write_json(args.json, result)
    for line in wrong:
        print(f"\nPROBLEM: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
