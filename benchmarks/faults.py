"""Kill, starve, damage and stop runs, and see whether they end at the bits of a run that was left alone.

    python3 x.py bench faults --json faults.json         # a quarter of an hour or more
    python3 x.py bench faults --quick                    # about two minutes
    python3 x.py bench faults --rows power,damages --add --json faults.json    # beside the rows that the file has

The rows and their bars stand in benchmarks/README.md. The exit code is 1 when a bar is missed; a row that cannot run
here (no strace, no namespaces) says so and does not count.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread: its bits are those of every machine of this kind

import torch
from fault_parts.damage import damages
from fault_parts.full import disk_full
from fault_parts.interrupts import interrupts
from fault_parts.kills import sigkill
from fault_parts.mlflow_server import killed_server
from fault_parts.outcome import Row, lines, skipped
from fault_parts.power import power_loss
from fault_parts.stopped import stop_workers
from fault_parts.syscalls import system_calls
from fault_parts.trackers import full_trackers
from fault_parts.workers import worker_faults

HERE = Path(__file__).resolve().parent
SMALL_DISKS = (8_000, 20_000, 40_000, 80_000, 120_000, 160_000, 200_000, 240_000, 280_000, 320_000, 360_000, 400_000,
               440_000, 480_000, 520_000, 560_000, 600_000, 700_000, 800_000, 2_000_000)  # fmt: skip


def rows(*, quick: bool, seed: int) -> Mapping[str, Callable[[Path], Row]]:
    """The rows by name, each to be called with a folder of its own."""
    full = not quick
    return {
        "eager": lambda f: sigkill("eager", *((100, 40) if full else (8, 3)), seed=seed, folder=f),
        "cohort": lambda f: sigkill("cohort", *((100, 40) if full else (8, 3)), seed=seed, folder=f),
        "calls": lambda f: system_calls(1.0 if full else 0.1, seed=seed, folder=f),
        "power": lambda f: power_loss(*((6, 8, 20, 1.0) if full else (2, 1, 2, 0.1)), seed=seed, folder=f),
        "full": lambda f: disk_full(*((20, SMALL_DISKS) if full else (5, SMALL_DISKS[1::6])), folder=f),
        "damages": lambda f: damages(*((10_000, 1_000, 1_000) if full else (500, 50, 100)), seed=seed, folder=f),
        "signals-eager": lambda f: interrupts("eager", 50 if full else 5, seed=seed, folder=f),
        "signals-cohort": lambda f: interrupts("cohort", 50 if full else 5, seed=seed, folder=f),
        "signals-workers": lambda f: stop_workers(10 if full else 1, seed=seed, folder=f),
        "workers": lambda f: worker_faults(*((5, 3, 2) if full else (1, 1, 0)), folder=f),
        "trackers": lambda f: full_trackers(4 if full else 1, folder=f),
        "mlflow": lambda f: killed_server(10 if full else 1, seed=seed, folder=f),
        "hostile": lambda f: hostile(quick=quick, seed=seed),
    }


def hostile(*, quick: bool, seed: int) -> Row:
    """What `run(quick=, seed=)` of benchmarks/hostile.py finds: a mapping with the fields of a row, and others."""
    sys.path.append(str(HERE.parent))  # it shares its material with the tests
    if importlib.util.find_spec("hostile") is None:
        return skipped("hostile input", "there is no benchmarks/hostile.py")
    import hostile as crafted

    found = dict(crafted.run(quick=quick, seed=seed))
    known = {name: found.pop(name) for name in Row.__dataclass_fields__ if name in found}
    known["outcomes"] = Counter(known.get("outcomes", {}))
    known.setdefault("lost", sum(int(found.get(name, 0)) for name in ("executions", "tracebacks", "crashes")))
    row = Row(**{"name": "hostile input", "aim": "refused", **known, "notes": {**known.get("notes", {}), **found}})
    return row if row.bars else row.judge()


def measure(names: Sequence[str], folder: Path, *, quick: bool, seed: int) -> list[Row]:
    """Run these rows, each in a folder that is removed afterwards; print each as it is done."""
    found = []
    for name, row in rows(quick=quick, seed=seed).items():
        if name not in names:
            continue
        started = time.monotonic()
        place = folder / name
        try:
            found.append(row(place))
        except Exception as error:  # one row that breaks must not hide the others
            found.append(Row(name=name, aim=""))
            found[-1].lose(f"{type(error).__name__}: {error}")
            found[-1].judge()
        shutil.rmtree(place, ignore_errors=True)
        found[-1].seconds = round(time.monotonic() - started, 1)
        found[-1].key, found[-1].seed, found[-1].date = name, seed, now()
        print("\n".join(lines(found[-1])), flush=True)
    return found


def report(found: Sequence[Mapping[str, Any]], folder: Path, *, quick: bool, seed: int) -> dict[str, Any]:
    """The JSON of the benchmark, from the rows as plain values."""
    order = list(rows(quick=quick, seed=seed))
    found = sorted(found, key=lambda row: order.index(row["key"]))
    return {
        "name": "faults",
        "unit": "faults that landed",
        "results": {row["name"]: row["landed"] for row in found if not row["skipped"]},
        "rows": found,
        "missed": {row["name"]: row["missed"] for row in found if row["missed"]},
        "not run": [name for name in order if name not in {row["key"] for row in found}],
        "environment": {
            "versions": {"torch": torch.__version__},
            "python": platform.python_version(),
            "system": platform.release(),
            "file_system": file_system(folder),
            "cores": os.cpu_count(),
            "load_before": os.getloadavg()[0],
            "date": now(),
            "quick": quick,
            "seed": seed,
        },
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def earlier(path: Path, fresh: Sequence[Row], *, quick: bool) -> list[dict[str, Any]]:
    """The rows that a file has, without those that were run anew."""
    if not path.exists():
        return []
    known, again = rows(quick=quick, seed=0), {row.key for row in fresh}
    content = json.loads(path.read_text(encoding="utf-8"))
    return [row for row in content["rows"] if row["key"] in known and row["key"] not in again]


def file_system(folder: Path) -> str:
    """The type of the file system that holds a folder, such as ext4."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "unknown"
    above = [m for m in mounts if folder.resolve().is_relative_to(m[1])]
    return max(above, key=lambda m: len(m[1]))[2] if above else "unknown"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="x.py bench faults", description=__doc__.splitlines()[0])
    names = list(rows(quick=True, seed=0))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--add", action="store_true", help="keep those rows of --json FILE that --rows does not name")
    parser.add_argument("--quick", action="store_true", help="few faults of each kind, about two minutes")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default 0)")
    parser.add_argument("--rows", default=",".join(names), help="comma-separated choice (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="on a real disk (default /var/tmp)")
    args = parser.parse_args(argv)
    args.rows = args.rows.split(",")
    unknown = [name for name in args.rows if name not in names]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are: {', '.join(names)}")
    if args.json and not args.json.resolve().parent.is_dir():
        parser.error(f"--json: no folder {args.json.resolve().parent}")
    if args.add and not args.json:
        parser.error("--add needs --json FILE")
    if args.add and args.json.exists() and json.loads(args.json.read_text())["environment"]["quick"] != args.quick:
        parser.error(f"--add: {args.json} is of {'full' if args.quick else 'quick'} rows")
    if not args.folder.is_dir():
        parser.error(f"--folder: no folder {args.folder}")
    return args


def main(argv: Sequence[str]) -> int:
    if platform.system() != "Linux":
        print("the faults need Linux: /proc, fork, namespaces", file=sys.stderr)
        return 2
    args = parse(argv)
    torch.set_num_threads(1)
    logging.getLogger("paceline").setLevel(logging.CRITICAL)  # every fault warns
    folder = Path(tempfile.mkdtemp(prefix="paceline-faults-", dir=args.folder))
    try:
        found = measure(args.rows, folder, quick=args.quick, seed=args.seed)
        kept = earlier(args.json, found, quick=args.quick) if args.add else []
        result = report([*kept, *(row.to_json() for row in found)], folder, quick=args.quick, seed=args.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    kind = result["environment"]["file_system"]
    if kind in ("tmpfs", "ramfs"):
        print(f"NOTE: {args.folder} is a {kind}, not a disk: --folder names another place")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if result["missed"]:
        print(f"\nMISSED: {'; '.join(result['missed'])}", file=sys.stderr)
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
