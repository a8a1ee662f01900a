"""Hostile input: crafted payloads and mutated configs, states, run folders and data files, each used as a user would.

    python3 x.py bench hostile --json hostile.json       # 10,000 mutations, some minutes
    python3 x.py bench hostile --quick                   # 520 mutations, less than a minute

Every case runs in a forked child with 1 GB more than it has, two seconds of processor time, and an audit hook. Bars: no
code is run, nothing outside its folder is touched, no traceback, no crash, no case over its bounds; a payload is
refused in one error, and a reader without bounds suffers from the same file. It is a row of `bench faults`, too.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[1]))  # the attacks stand beside the tests

import torch

from tests.hostile import payloads
from tests.hostile.fuzz import cases, warm
from tests.hostile.jail import FAILURES, MEMORY, SECONDS, Outcome, jailed
from tests.hostile.material import prepare

MUTATIONS, QUICK = 10_000, 520
MEMORY_FOLDER = Path("/dev/shm")  # the cases write small files by the thousand; nothing here is about disks
SHOWN = 10


def run(*, quick: bool, seed: int) -> dict[str, Any]:
    """Run everything; return the fields of a row of `bench faults`, and notes."""
    torch.set_num_threads(1)
    logging.getLogger("paceline").setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="paceline-hostile-", dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None))
    try:
        for name in ("material", "warm"):
            (folder / name).mkdir()
        material = prepare(folder / "material")
        warm(material, folder / "warm")
        known = {one.name: one for one in payloads.everything()}
        crafted = list(jailed(payloads.ours(material), folder / "jail"))
        mutated = list(jailed(list(cases(material, seed, QUICK if quick else MUTATIONS)), folder / "jail"))
        intact = (material.outside / "log").read_text(encoding="utf-8") == "precious\n" * 1000
        naive = [case for case in payloads.naive(material) if not quick or case.name in payloads.QUICK_NAIVE]
        suffered = list(jailed(naive, folder / "jail"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    accepted = [o for o in crafted if o.kind == "done" and not known[o.case].harmless]
    failed = [o for o in (*crafted, *mutated) if o.kind in FAILURES] + accepted
    unmoved = [o for o in suffered if o.kind not in known[o.case].suffers]
    return row(crafted, mutated, failed, intact) | {
        "broken": {"readers without bounds": len(suffered) - len(unmoved)},
        "bars": {
            "nothing lost": not failed, "nothing outside touched": intact, "naive readers suffer": not unmoved,
            "all cases ran": len(mutated) == (QUICK if quick else MUTATIONS) and len(crafted) == len(known) >= 50,
        },
        "unmoved": [o.case for o in unmoved],
    }  # fmt: skip


def row(crafted: list[Outcome], mutated: list[Outcome], failed: list[Outcome], intact: bool) -> dict[str, Any]:
    """Return what was found as counts."""
    found = [*crafted, *mutated]
    kinds = Counter(outcome.kind for outcome in found)
    return {
        "name": "hostile input",
        "aim": "done or refused",
        "planned": len(found),
        "fired": len(found),
        "landed": kinds["done"] + kinds["refused"],
        "outcomes": dict(kinds),
        "lost": len(failed) + (not intact),
        "problems": [f"{o.case}: {o.kind}: {o.detail}" for o in failed[:SHOWN]],
        "payloads": len(crafted),
        "mutations": len(mutated),
        "executions": kinds["executed"],
        "escapes": kinds["escaped"],
        "tracebacks": kinds["traceback"],
        "crashes": kinds["crash"],
        "over 2 s": kinds["slow"],
        "longest_seconds": round(max(outcome.seconds for outcome in found), 2),
        "most_megabytes": max(outcome.megabytes for outcome in found),
        "bounds": f"{MEMORY >> 20} MB more than at the start, {SECONDS:g} s of processor time",
        "by_kind": {kind: dict(counts) for kind, counts in by_kind(mutated).items()},
    }


def by_kind(mutated: list[Outcome]) -> dict[str, Counter[str]]:
    """Return the outcomes of each kind of mutation."""
    counts: dict[str, Counter[str]] = {}
    for outcome in mutated:
        counts.setdefault(outcome.case.partition(" ")[0], Counter())[outcome.kind] += 1
    return counts


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="x.py bench hostile", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} mutations, and the quick naive readers")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default 0)")
    args = parser.parse_args(argv)
    if args.json and not args.json.resolve().parent.is_dir():
        parser.error(f"--json: no folder {args.json.resolve().parent}")
    started = time.monotonic()
    found = run(quick=args.quick, seed=args.seed) | {"quick": args.quick, "seed": args.seed}
    found["seconds"] = round(time.monotonic() - started, 1)
    for name, value in found.items():
        print(f"{name:<18}{value}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    missed = [name for name, met in found["bars"].items() if not met]
    if missed:
        print(f"\nMISSED: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
