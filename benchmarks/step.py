"""Time one optimizer step of a small MLP in paceline, in a loop written by hand, and in five other trainers.

    python3 x.py bench step --json step.json          # five rounds
    python3 x.py bench step --quick --arms hand,paceline

What is timed, and how the arms are kept equal, stands in benchmarks/README.md. This file needs the standard library
alone: each arm runs in a process of its own (`python -m arms.worker`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ARMS = ("hand", "hand_loader", "paceline", "lightning", "lightning_lean", "hf", "accelerate", "ignite", "skorch")
PACKAGES = ("paceline", "torch", "numpy", "lightning", "transformers", "accelerate", "pytorch-ignite", "skorch")
RATIOS = (("paceline", "hand"), ("lightning", "paceline"), ("lightning_lean", "paceline"), ("hf", "paceline"))
STEPS_PER_EPOCH = 250
LOSS_BAND = 0.08  # relative to the hand-written loop; the order of the samples alone makes 1.5 % (one sd)
TARGETS = {
    "paceline/hand": ("at most", 1.10),
    "lightning/paceline": ("at least", 3.0),
    "hf/paceline": ("at least", 3.0),
}
BUSY = 0.8  # processor time per wall time below which the machine was doing something else
WIDTHS = (9, 13, 9, 8, 10, 9, 11)  # of the table's columns

Row = Mapping[str, Any]  # a Measurement, as the worker writes it


def schedule(arms: Sequence[str], rounds: int) -> list[str]:
    """Every arm once a round, each round starting one arm later, so that no arm always follows the same one."""
    return [arms[(start + offset) % len(arms)] for start in range(rounds) for offset in range(len(arms))]


def measure(arm: str, *, epochs: int, threads: int) -> Row:
    """Run one arm in a new process. Raises RuntimeError with the end of its output."""
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measurement.json"
        options = ["--out", str(out), "--epochs", str(epochs), "--threads", str(threads)]
        command = [sys.executable, "-m", "arms.worker", arm, *options]
        done = subprocess.run(command, cwd=HERE, env=os.environ | quiet, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError("\n".join((done.stdout + done.stderr).splitlines()[-8:]))
        return json.loads(out.read_text(encoding="utf-8"))


def collect(arms: Sequence[str], *, rounds: int, epochs: int, threads: int) -> tuple[list[Row], dict[str, str]]:
    """Measure in turn. An arm that fails is left out from there on; the second value says why."""
    rows: list[Row] = []
    failures: dict[str, str] = {}
    for number, arm in enumerate(schedule(arms, rounds)):
        if arm in failures:
            continue
        try:
            rows.append(measure(arm, epochs=epochs, threads=threads))
        except RuntimeError as error:
            failures[arm] = str(error)
            continue
        figure = f"{rows[-1]['us_per_step']:7.1f} us/step"
        print(f"round {number // len(arms) + 1}/{rounds}  {arm:<15}{figure}", file=sys.stderr, flush=True)
    return rows, failures


def report(rows: Sequence[Row], environment: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of the benchmark: medians over the rounds, and ratios of those medians."""
    arms = [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]
    samples = {arm: [row for row in rows if row["arm"] == arm] for arm in arms}

    def medians(key: str) -> dict[str, float]:
        known = {arm: [row[key] for row in samples[arm] if row[key] is not None] for arm in arms}
        return {arm: statistics.median(values) for arm, values in known.items() if values}

    results = medians("us_per_step")
    return {
        "name": "step",
        "unit": "us",
        "results": results,
        "ratios": {f"{a}/{b}": results[a] / results[b] for a, b in RATIOS if a in results and b in results},
        "spread": {arm: spread([row["us_per_step"] for row in samples[arm]]) for arm in arms},
        "cpu": medians("cpu_us_per_step"),
        "final_val_loss": medians("val_loss"),
        "save_ms": medians("save_ms"),
        "around_ms": medians("around_ms"),
        "environment": dict(environment),
    }


def spread(values: Sequence[float]) -> list[float]:
    return [min(values), max(values)]


def problems(rows: Sequence[Row], *, steps: int, threads: int) -> list[str]:
    """Why the arms did not do the same work; empty when they did."""
    hand = [row["val_loss"] for row in rows if row["arm"] == "hand"]
    reference = statistics.median(hand) if hand else None
    found = []
    for row in rows:
        arm, loss = row["arm"], row["val_loss"]
        if row["steps"] != steps:
            found.append(f"{arm} made {row['steps']} steps, not {steps}")
        if row["threads"] != threads:
            found.append(f"{arm} ran with {row['threads']} threads, not {threads}")
        if reference is not None and not abs(loss / reference - 1) <= LOSS_BAND:  # NaN is a problem too
            found.append(f"{arm} ended at validation loss {loss:.4f}, more than {LOSS_BAND:.0%} from {reference:.4f}")
    return list(dict.fromkeys(found))


def table(result: Mapping[str, Any]) -> str:
    """The result for a terminal."""
    results, saves = result["results"], result["save_ms"]
    titles = ("us/step", "min..max", "cpu us", "x hand", "val loss", "save ms", "around ms")
    lines = [f"{'':<15}" + "".join(f"{title:>{width}}" for title, width in zip(titles, WIDTHS, strict=True))]
    for arm, value in results.items():
        low, high = result["spread"][arm]
        cells = (
            f"{value:.1f}",
            f"{low:.0f}..{high:.0f}",
            f"{result['cpu'][arm]:.1f}",
            f"{value / results['hand']:.2f}" if "hand" in results else "-",
            f"{result['final_val_loss'][arm]:.4f}",
            f"{saves[arm]:.1f}" if arm in saves else "-",
            f"{result['around_ms'][arm]:.0f}",
        )
        lines.append(f"{arm:<15}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True)))
    lines.append("")
    lines += [f"{name:<26}{ratio:6.2f}{verdict(name, ratio)}" for name, ratio in result["ratios"].items()]
    if "paceline" in saves:
        lines.append(
            f"one durable save of paceline, of {saves['paceline']:.1f} ms, is part of its time, as each arm's save is"
        )
    if any(result["cpu"][arm] < BUSY * value for arm, value in results.items()):
        lines.append("NOTE: the processor was shared with other programs; these ratios are not a result")
    return "\n".join(lines)


def verdict(name: str, ratio: float) -> str:
    if name not in TARGETS:
        return ""
    word, bound = TARGETS[name]
    met = ratio <= bound if word == "at most" else ratio >= bound
    return f"   aim: {word} {bound:.2f}, {'met' if met else 'MISSED'}"


def describe(*, rounds: int, epochs: int, threads: int) -> dict[str, Any]:
    """Where and when this was measured."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "versions": versions,
        "python": platform.python_version(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "rounds": rounds,
        "epochs": epochs,
        "load_before": os.getloadavg()[0],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="x.py bench step", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--rounds", type=int, default=5, help="how often each arm runs (default 5)")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of 250 steps (default 10)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads in every arm (default 1)")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 3 epochs: a look, not a result")
    parser.add_argument("--arms", default=",".join(ARMS), help="comma-separated choice (default: all)")
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds, args.epochs = 2, 3
    args.arms = args.arms.split(",")
    unknown = [arm for arm in args.arms if arm not in ARMS]
    if unknown:
        parser.error(f"no arm {unknown[0]!r}; there are: {', '.join(ARMS)}")
    if min(args.rounds, args.epochs, args.threads) < 1:
        parser.error("--rounds, --epochs and --threads start at 1")
    if args.json and not args.json.resolve().parent.is_dir():
        parser.error(f"--json: no folder {args.json.resolve().parent}")
    return args


def main(argv: Sequence[str]) -> int:
    args = parse(argv)
    environment = describe(rounds=args.rounds, epochs=args.epochs, threads=args.threads)
    started = time.perf_counter()
    rows, failures = collect(args.arms, rounds=args.rounds, epochs=args.epochs, threads=args.threads)
    wrong = [f"{arm} failed:\n{reason}" for arm, reason in failures.items()]
    if rows:
        result = report(rows, environment)
        wrong += problems(rows, steps=args.epochs * STEPS_PER_EPOCH, threads=args.threads)
        steps = f"{args.epochs * STEPS_PER_EPOCH:,} steps"
        took = f"medians of {args.rounds} rounds, {time.perf_counter() - started:.0f} s"
        print(f"\nMLP 20-64-32-1, batch 32, {steps}, {args.threads} thread(s), {environment['cpu']}; {took}\n")
        print(table(result))
        if args.json:
            args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for line in wrong:
        print(f"\nPROBLEM: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
