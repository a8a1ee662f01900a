"""Five seeds x four held-out cells of the battery MLP as one run, over one member alone: wall time of both commands.

    python3 x.py bench battery_cohort --json battery_cohort.json
    python3 x.py bench battery_cohort --quick          # one round of few epochs: a look

Both are `paceline train` with the recipe's defaults, `auto` in everything and early stopping off, so that all members
make the same number of steps. The commands take turns; the figure is the ratio of the medians, start-up included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from arms.outcome import Bound, json_target, write_json
from quality.battery import ALL, TABLE, data_keys
from stacked.outcome import environment

BOUND = Bound("at most", 4.0)
ONE = ["members.seeds=1"]
TWENTY = ["members.seeds=5", "members.folds=4"]


def wall(table: Path, runs: Path, members: Sequence[str], epochs: int) -> tuple[float, list[str]]:
    """Train; return seconds, and the engine of each cohort with its members."""
    words = [
        "task=battery", *data_keys(table, ALL), "model=mlp", "data.split.rule=group",
        f"training.num_epochs={epochs}", "training.early_stopping.enabled=false", *members,
    ]  # fmt: skip
    command = [sys.executable, "-m", "paceline", "train", *words, "--runs", str(runs), "--name", "run", "--overwrite"]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    plan = json.loads((runs / "run" / "plan.json").read_text(encoding="utf-8"))
    return seconds, [f"{c['engine']} of {len(c['members'])}" + ", compiled" * c["compile"] for c in plan["cohorts"]]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="x.py bench battery_cohort", description=__doc__.splitlines()[0])
    json_target(parser)
    parser.add_argument("--quick", action="store_true", help="one round of 20 epochs: a look; no bar fails")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=200, help="the recipe's default")
    parser.add_argument("--data", type=Path, default=TABLE, metavar="FILE", help="the table of cycles")
    args = parser.parse_args(argv)
    if not args.data.is_file():
        parser.error(f"--data: no file {args.data}")
    rounds, epochs = (1, 20) if args.quick else (args.rounds, args.epochs)
    times: dict[str, list[float]] = {"one": [], "twenty": []}
    plans: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-battery-") as folder:
        for _ in range(rounds):
            for name, members in (("one", ONE), ("twenty", TWENTY)):
                seconds, plans[name] = wall(args.data.resolve(), Path(folder), members, epochs)
                times[name].append(seconds)
                print(f"{name:<8}{seconds:7.2f} s   {'; '.join(plans[name])}", flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["twenty"] / medians["one"]
    print(f"\ntwenty/one  {ratio:.2f}   {BOUND.verdict(ratio)}")
    write_json(args.json, {
        "name": "battery_cohort", "unit": "seconds", "results": medians, "rounds": times, "plans": plans,
        "ratios": {"twenty/one": ratio}, "environment": environment({"epochs": epochs, "quick": args.quick}),
    })  # fmt: skip
    return 1 if ratio > 4 and not args.quick else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
