"""Train 5 seeds x 5 folds of `conv_gru` on the vowels in one command; its wall time over that of one member alone.

    python3 x.py bench vowels --json vowels.json      # some minutes
    python3 x.py bench vowels --quick                 # 10 of 60 epochs, scaled up by the time per epoch alone

What is timed stands in benchmarks/README.md. This file needs the standard library alone: every arm is a command.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arms.commands import Trained, train, train_shorter
from arms.outcome import Bound, json_target, ratio_lines, write_json
from step import describe, spread

EPOCHS, QUICK_EPOCHS, MEMBERS = 60, 10, 25
COMMON = ["task=pain", "model=conv_gru", "data=vowels", "device=cpu", "training.early_stopping.enabled=false"]
ALL = ["members.seeds=5", "members.folds=5"]
ONE = ["data.split.val_fraction=0.2"]  # a holdout of the size of a fold: 216 utterances train, 54 validate
SEEDS = (42, 43, 44)  # of the member alone, each a command of its own
BOUNDS = {"all/one": Bound("at most", 15.0, 8.0)}


def measure(overrides: Sequence[str], epochs: int) -> Trained:
    """Run one command; fewer epochs than all are trained by the plan of all. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="bench-vowels-") as folder:
        wanted = [*COMMON, f"training.num_epochs={EPOCHS}", *overrides]
        return train(wanted, Path(folder)) if epochs == EPOCHS else train_shorter([], wanted, epochs, Path(folder))


def report(everything: Trained, alone: Sequence[Trained], environment: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of the benchmark. The member alone is the median of its commands."""
    one, together = statistics.median(t.scaled(EPOCHS) for t in alone), everything.scaled(EPOCHS)
    steady = statistics.median(trained.epoch_seconds for trained in alone)
    return {
        "name": "vowels",
        "unit": "s",
        "results": {"all": together, "one": one},
        "ratios": {"all/one": together / one, "all/one steady": everything.epoch_seconds / steady},
        "spread": {"one": spread([t.scaled(EPOCHS) for t in alone])},
        "epoch_s": {"all": everything.epoch_seconds, "one": steady},
        "final_val_loss": {"all": everything.val_loss, "one": statistics.fmean(t.val_loss for t in alone)},
        "plans": {"all": everything.plan, "one": alone[0].plan},
        "rows": [asdict(trained) | {"run": ""} for trained in (everything, *alone)],
        "environment": dict(environment),
    }


def table(result: Mapping[str, Any]) -> str:
    lines = [f"{'':<6}{'members':>8}{'s':>8}{'s/epoch':>9}{'val loss':>10}  plan"]
    for arm, members in (("all", MEMBERS), ("one", 1)):
        seconds, epoch, loss = (result[key][arm] for key in ("results", "epoch_s", "final_val_loss"))
        lines.append(f"{arm:<6}{members:>8}{seconds:>8.1f}{epoch:>9.3f}{loss:>10.4f}  {result['plans'][arm]}")
    return "\n".join([*lines, "", *ratio_lines(result["ratios"], BOUNDS)])


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="x.py bench vowels", description=__doc__.splitlines()[0])
    json_target(parser)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_EPOCHS} epochs, scaled to {EPOCHS}: a look")
    args = parser.parse_args(argv)
    epochs = QUICK_EPOCHS if args.quick else EPOCHS
    environment = describe(rounds=len(SEEDS), epochs=epochs, threads=0)  # threads are the plan's: see `plans`
    alone = [measure([*ONE, f"members.seeds=[{seed}]"], epochs) for seed in SEEDS[:-1]]
    everything = measure(ALL, epochs)
    alone.append(measure([*ONE, f"members.seeds=[{SEEDS[-1]}]"], epochs))
    result = report(everything, alone, environment)
    print(f"conv_gru on the vowels, {MEMBERS} members in one command and one alone, {EPOCHS} epochs")
    if epochs != EPOCHS:
        print(f"SCALED from {epochs} epochs by the time per epoch alone")
    print(f"{environment['cpu']}\n")
    print(table(result))
    write_json(args.json, result)
    trained = {t.epochs for t in (everything, *alone)}
    if trained != {epochs}:
        print(f"\nPROBLEM: epochs were {sorted(trained)}, not {epochs}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
