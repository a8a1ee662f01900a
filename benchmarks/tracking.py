"""Time that trackers take from the training: a small MLP at full speed, with and without TensorBoard and MLflow.

    python3 x.py bench tracking --json tracking.json     # four trainings of a minute each
    python3 x.py bench tracking --quick                  # ten seconds each: a look, not a result

The exit code is 1 where the training thread is blocked for more than 1 %, or a value is missing, doubled or another.
What is timed stands in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
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

os.environ.setdefault("OMP_NUM_THREADS", "1")

from arms.outcome import json_target, write_json

HERE = Path(__file__).resolve().parent
BAR = 0.01
SECONDS = 60.0
PACKAGES = ("paceline", "torch", "mlflow", "tensorboard")
RUN = "tracked"
Row = Mapping[str, Any]


class Watch:
    """Notes when each epoch ended, by the wall clock and by the training thread's own processor time."""

    def __init__(self) -> None:
        self.epochs: list[tuple[float, float]] = []

    def __call__(self, record: Any, control: Any) -> None:
        if record.split == "val":
            self.epochs.append((time.time(), time.thread_time()))


class Spent:
    """Wraps the queue's methods that the training thread calls. `calls`: when each ended, and how long it took."""

    def __init__(self) -> None:
        from paceline.track.queue import TrackerQueue

        self.calls: list[tuple[float, float]] = []
        self.closing = 0.0
        put, close = TrackerQueue.put, TrackerQueue.close

        def timed_put(queue: Any, record: Any) -> None:
            started = time.perf_counter()
            put(queue, record)
            self.calls.append((time.time(), time.perf_counter() - started))

        def timed_close(queue: Any, *args: Any) -> None:
            started = time.perf_counter()
            close(queue, *args)
            self.closing += time.perf_counter() - started

        TrackerQueue.put, TrackerQueue.close = timed_put, timed_close  # type: ignore[method-assign]


def train_once(folder: Path, *, epochs: int, tracked: bool) -> dict[str, Any]:
    """Train in this process; return the figures of the window after the start-up, and what was read back."""
    import torch
    from arms.paceline_arm import config
    from arms.workload import Workload, warm_up

    import paceline
    from paceline.tasks import Regression

    torch.set_num_threads(1)
    warm_up()
    work, watch, spent = Workload(epochs=epochs), Watch(), Spent()
    trackers = {"tracking.tensorboard.enabled": True, "tracking.mlflow.enabled": True,
                "tracking.mlflow.uri": str(folder / "mlruns")}  # fmt: skip
    trainer = paceline.Trainer(work.model(), {**config(work), **(trackers if tracked else {})}, task=Regression(),
                               folder=folder / "runs", name=RUN, callbacks=[watch])  # fmt: skip
    run = trainer.fit(work.train, work.val)
    begun = watch.epochs[0][0]
    known = run.path / "tracking" / "mlflow_runs.json"
    ready = known.stat().st_mtime if tracked else begun
    inside = [pair for pair in watch.epochs if pair[0] > max(ready, begun) + 0.5]
    wall, processor = (inside[-1][k] - inside[0][k] for k in (0, 1))
    put = sum(seconds for at, seconds in spent.calls if inside[0][0] < at <= inside[-1][0])
    return {
        "tracked": tracked,
        "epochs": len(inside) - 1,
        "seconds": wall,
        "ms_per_epoch": 1e3 * wall / (len(inside) - 1),
        "waiting": 1 - processor / wall,
        "put": put / wall,
        "start_seconds": ready - begun,
        "close_seconds": spent.closing,
        **(read_back(run) if tracked else {}),
    }


def read_back(run: Any) -> dict[str, Any]:
    """Compare every value of history.csv with what MLflow's client and TensorBoard's reader give."""
    import numpy as np
    from mlflow import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from paceline.track.mlflow_record import NAME

    record = json.loads((run.path / NAME).read_text("utf-8"))
    client = MlflowClient(tracking_uri=record["uri"])
    children = client.search_runs([record["experiment_id"]], f"tags.`mlflow.parentRunId` = '{record['run_id']}'")
    values, wrong = 0, []
    for member in run.members:
        (child,) = [one.info.run_id for one in children if one.data.tags["paceline.member"] == member]
        events = EventAccumulator(str(run.path / "tensorboard" / member), size_guidance={"scalars": 0}).Reload()
        for name, expected in history_of(run, member).items():
            there = sorted((metric.step, metric.value) for metric in client.get_metric_history(child, name))
            board = [(event.step, event.value) for event in events.Scalars(name)]
            values += len(expected)
            wrong += [] if same(there, expected) else [f"MLflow: {member} {name}"]
            rounded = [(epoch, float(np.float32(value))) for epoch, value in expected]
            wrong += [] if same(board, rounded) else [f"TensorBoard: {member} {name}"]
    return {"values": values, "wrong": wrong}


def history_of(run: Any, member: str) -> dict[str, list[tuple[int, float]]]:
    """Return (epoch, value) of each column of a member's history.csv, to the last digit."""
    with (run.member_folder(member) / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("epoch", "step")]
    return {name: [(int(row["epoch"]), float(row[name])) for row in rows] for name in names}


def same(found: Sequence[tuple[int, float]], expected: Sequence[tuple[int, float]]) -> bool:
    """Whether two rows of points are the same to the bit."""
    return len(found) == len(expected) and all(
        a == c and (b == d or (math.isnan(b) and math.isnan(d))) for (a, b), (c, d) in zip(found, expected, strict=True)
    )


def measure(*, epochs: int, tracked: bool) -> Row:
    """Train in a process of its own, so that no import is shared. Raises RuntimeError with the end of its output."""
    with tempfile.TemporaryDirectory(prefix="bench-tracking-") as name:
        out = Path(name) / "row.json"
        command = [sys.executable, str(HERE / "tracking.py"), "--one", str(out), "--epochs", str(epochs)]
        done = subprocess.run([*command, *(["--tracked"] if tracked else [])], cwd=HERE, capture_output=True, text=True,
                              check=False)  # fmt: skip
        if done.returncode:
            raise RuntimeError("\n".join((done.stdout + done.stderr).splitlines()[-12:]))
        return json.loads(out.read_text("utf-8"))


def report(rows: Sequence[Row]) -> dict[str, Any]:
    """The JSON of the benchmark: medians over the rounds."""
    own, plain = ([row for row in rows if row["tracked"] is tracked] for tracked in (True, False))

    def median(part: Sequence[Row], key: str) -> float:
        return statistics.median(row[key] for row in part)

    ratios = [a["ms_per_epoch"] / b["ms_per_epoch"] for a, b in zip(own, plain, strict=True)]
    waiting = max(0.0, median(own, "waiting") - median(plain, "waiting"))
    results = {"blocked": median(own, "put") + waiting, "put": median(own, "put"), "waiting": waiting,
               "wall_ratio": statistics.median(ratios)}  # fmt: skip
    wrong = sorted({text for row in own for text in row["wrong"]})
    missed = [f"blocked for {results['blocked']:.2%}, at most {BAR:.0%}"] if results["blocked"] > BAR else []
    return {
        "name": "tracking",
        "unit": "share of the time of training",
        "results": results,
        "wall_ratios": ratios,
        "seconds": median(own, "seconds"),
        "ms_per_epoch": {"tracked": median(own, "ms_per_epoch"), "alone": median(plain, "ms_per_epoch")},
        "start_seconds": median(own, "start_seconds"),
        "close_seconds": median(own, "close_seconds"),
        "values_read_back": sum(row["values"] for row in own),
        "wrong": wrong,
        "missed": [*missed, *([f"{len(wrong)} series differ"] if wrong else [])],
        "rows": list(rows),
    }


def lines(result: Mapping[str, Any]) -> list[str]:
    """The result for a terminal."""
    found, spread = result["results"], result["wall_ratios"]
    return [
        f"training thread blocked  {found['blocked']:7.3%}   in the queue {found['put']:.3%}, "
        f"waiting {found['waiting']:.3%}",
        f"wall time, tracked/alone {found['wall_ratio']:7.4f}   {min(spread):.3f}..{max(spread):.3f} over the rounds",
        f"of a window of           {result['seconds']:5.0f} s    after a start-up of {result['start_seconds']:.1f} s; "
        f"the end took {result['close_seconds']:.1f} s",
        f"values read back         {result['values_read_back']:7,}   from MLflow and from TensorBoard, "
        f"{len(result['wrong'])} series differ",
    ]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="x.py bench tracking", description=__doc__.splitlines()[0])
    json_target(parser)
    parser.add_argument("--rounds", type=int, default=2, help="trainings with and without trackers (default 2 each)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a training, at least (default 60)")
    parser.add_argument("--quick", action="store_true", help="one round of 10 s: a look, not a result")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--tracked", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds, args.seconds = 1, 10.0
    if args.rounds < 1 or args.seconds < 5:
        parser.error("--rounds starts at 1, --seconds at 5")
    return args


def main(argv: Sequence[str]) -> int:
    args = parse(argv)
    if args.one:
        with tempfile.TemporaryDirectory(prefix="bench-tracking-") as name:
            row = train_once(Path(name), epochs=args.epochs, tracked=args.tracked)
        args.one.write_text(json.dumps(row), encoding="utf-8")
        return 0
    load = os.getloadavg()[0]
    pilot = measure(epochs=60, tracked=False)
    epochs = math.ceil(1.25e3 * (args.seconds + 6) / pilot["ms_per_epoch"])  # 6 s of start-up are no part of the window
    rows = []
    for number in range(args.rounds):
        for tracked in (True, False) if number % 2 else (False, True):
            rows.append(measure(epochs=epochs, tracked=tracked))
            print(f"round {number + 1}/{args.rounds}  {'tracked' if tracked else 'alone':<8}"
                  f"{rows[-1]['ms_per_epoch']:7.2f} ms per epoch", file=sys.stderr, flush=True)  # fmt: skip
    result = {
        **report(rows),
        "environment": {
            "versions": {name: metadata.version(name) for name in PACKAGES},
            "cores": os.cpu_count(),
            "load_before": load,
            "epochs": epochs,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }
    print("\n".join(lines(result)))
    if result["seconds"] < args.seconds:
        print(f"NOTE: the window is shorter than {args.seconds:.0f} s")
    write_json(args.json, result)
    for text in (*result["missed"], *result["wrong"]):
        print(f"MISSED: {text}", file=sys.stderr)
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
