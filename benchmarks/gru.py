"""Train 8 members of a GRU as the plan chooses, and one after another with torch's own layer.

    python3 x.py bench gru --json gru.json      # some minutes
    python3 x.py bench gru --quick              # fewer epochs, scaled up by the time per epoch alone

What is timed stands in benchmarks/README.md. This file needs the standard library alone: every arm is a command.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arms.commands import Trained, train, train_shorter
from arms.outcome import Bound, json_target, ratio_lines, write_json
from step import describe

EPOCHS, QUICK_EPOCHS, STEPS, MEMBERS = 50, 4, 20, 8  # 20 steps an epoch
USE = ["--use", "arms/gru_recipe.py"]
ARMS = {
    "one_thread": ["training.engine=eager", "numerics.threads=1"],
    "two_threads": ["training.engine=eager", "numerics.threads=2"],
    "plan": [],
}
BOUNDS = {name: Bound("at least", 1.3, 2.0) for name in ("sequential/plan", "sequential/plan steady")}
LOSS_BAND = 0.08  # relative; initial weights and order of a member are the same in all arms


def measure(arm: str, epochs: int) -> Trained:
    """Run one arm. Fewer epochs than all are trained by the plan of all. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix=f"bench-gru-{arm}-") as folder:
        wanted = ["task=waves", f"members.seeds={MEMBERS}", f"training.num_epochs={EPOCHS}", *ARMS[arm]]
        if epochs == EPOCHS:
            return train([*USE, *wanted], Path(folder))
        return train_shorter(USE, wanted, epochs, Path(folder))


def report(found: Mapping[str, Trained], environment: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of the benchmark; `steady_ms` is one step of all members, start-up and report left out."""
    seconds = {arm: trained.scaled(EPOCHS) for arm, trained in found.items()}
    steady = {arm: trained.epoch_seconds / STEPS * 1e3 for arm, trained in found.items()}
    return {
        "name": "gru",
        "unit": "s",
        "results": seconds,
        "steady_ms": steady,
        "ratios": {f"sequential/plan{name}": better(times) for name, times in (("", seconds), (" steady", steady))},
        "final_val_loss": {arm: trained.val_loss for arm, trained in found.items()},
        "plans": {arm: trained.plan for arm, trained in found.items()},
        "rows": [asdict(trained) | {"arm": arm, "run": ""} for arm, trained in found.items()],
        "environment": dict(environment),
    }


def better(times: Mapping[str, float]) -> float:
    """The better of one and two threads, over the plan."""
    return min(times["one_thread"], times["two_threads"]) / times["plan"]


def problems(found: Mapping[str, Trained], epochs: int) -> list[str]:
    """Why the arms did not do the same work; empty when they did."""
    reference = found["one_thread"].val_loss
    wrong = [f"{arm} trained for {t.epochs} epochs, not {epochs}" for arm, t in found.items() if t.epochs != epochs]
    for arm, trained in found.items():
        if not abs(trained.val_loss / reference - 1) <= LOSS_BAND:
            wrong.append(f"{arm} ended at validation loss {trained.val_loss:.4f}, far from {reference:.4f}")
    return wrong


def table(result: Mapping[str, Any]) -> str:
    lines = [f"{'':<13}{'s':>8}{'ms/step':>10}{'val loss':>10}  plan"]
    for arm, seconds in result["results"].items():
        steady, loss = result["steady_ms"][arm], result["final_val_loss"][arm]
        lines.append(f"{arm:<13}{seconds:>8.1f}{steady:>10.1f}{loss:>10.4f}  {result['plans'][arm]}")
    return "\n".join([*lines, "", *ratio_lines(result["ratios"], BOUNDS)])


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="x.py bench gru", description=__doc__.splitlines()[0])
    json_target(parser)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_EPOCHS} epochs, scaled to {EPOCHS}: a look")
    args = parser.parse_args(argv)
    epochs = QUICK_EPOCHS if args.quick else EPOCHS
    environment = describe(rounds=1, epochs=epochs, threads=0)  # threads differ: see `plans`
    found: dict[str, Trained] = {}
    for arm in ARMS:
        found[arm] = measure(arm, epochs)
        print(f"{arm:<13}{found[arm].scaled(EPOCHS):8.1f} s", file=sys.stderr, flush=True)
    result = report(found, environment)
    print(f"\n{MEMBERS} x GRU of width 64, 80 steps of 64 channels, batch 64, {EPOCHS * STEPS} optimizer steps")
    if epochs != EPOCHS:
        print(f"SCALED from {epochs} of {EPOCHS} epochs by the time per epoch alone")
    print(f"{environment['cpu']}\n")
    print(table(result))
    write_json(args.json, result)
    wrong = problems(found, epochs)
    for line in wrong:
        print(f"\nPROBLEM: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
