"""What a simulation found: rows with an aim, their table, their JSON."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of the simulation. `low` and `high` bound what it may be; None where there is no aim."""

    name: str
    value: float
    repeats: int = 0
    low: float | None = None
    high: float | None = None

    @property
    def met(self) -> bool:
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)

    @property
    def aim(self) -> str:
        if self.low is None and self.high is None:
            return ""
        if self.low is None or self.high is None:
            bound = f"at least {self.low:.3f}" if self.high is None else f"at most {self.high:.3f}"
        else:
            bound = f"{self.low:.3f} to {self.high:.3f}"
        return f"{bound}, {'met' if self.met else 'MISSED'}"


def standard_error(share: float, repeats: int) -> float:
    """Of a share counted in so many repeats."""
    return math.sqrt(share * (1 - share) / repeats)


def table(rows: Sequence[Row]) -> str:
    width = max(len(row.name) for row in rows) + 2
    lines = [f"{'':<{width}}{'value':>7}{'±':>8}{'repeats':>9}   aim"]
    for row in rows:
        error = f"{standard_error(row.value, row.repeats):.3f}" if row.repeats and 0 <= row.value <= 1 else ""
        lines.append(f"{row.name:<{width}}{row.value:>7.3f}{error:>8}{row.repeats or '':>9}   {row.aim}".rstrip())
    return "\n".join(lines)


def to_json(
    name: str, unit: str, shares: Sequence[Row], ratios: Sequence[Row], seconds: float, options: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "unit": unit,
        "results": {row.name: row.value for row in shares},
        "ratios": {row.name: row.value for row in ratios},
        "aims": {row.name: row.aim for row in (*shares, *ratios) if row.aim},
        "repeats": {row.name: row.repeats for row in (*shares, *ratios) if row.repeats},
        "seconds": round(seconds, 1),
        "environment": environment(options),
    }


def environment(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "scipy": scipy.__version__},
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **options,
    }


def arguments(name: str, what: str, argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"x.py bench {name}", description=what)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--quick", action="store_true", help="few repeats: a look, not a result; no aim fails")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    args = parser.parse_args(argv)
    if args.json and not args.json.resolve().parent.is_dir():
        parser.error(f"--json: no folder {args.json.resolve().parent}")
    return args


def finish(result: Mapping[str, Any], rows: Sequence[Row], args: argparse.Namespace) -> int:
    """Print the table, write the JSON; 1 where an aim was missed (nothing here depends on the machine's speed)."""
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    missed = [row.name for row in rows if not row.met]
    if missed and not args.quick:
        print(f"\nMISSED: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed and not args.quick else 0
