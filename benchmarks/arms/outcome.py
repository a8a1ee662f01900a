"""Ratios with their bars, for a terminal and for JSON. The standard library alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Bound:
    """What a ratio should be: `word` is `at least` or `at most`; the bar is below the aim."""

    word: str
    bar: float | None = None
    aim: float | None = None

    def verdict(self, ratio: float) -> str:
        found = []
        for name, value in (("bar", self.bar), ("aim", self.aim)):
            if value is not None:
                met = ratio >= value if self.word == "at least" else ratio <= value
                found.append(f"{name}: {self.word} {value:g}, {'met' if met else 'MISSED'}")
        return "; ".join(found)


def ratio_lines(ratios: Mapping[str, float], bounds: Mapping[str, Bound]) -> list[str]:
    """One line per ratio, with the verdict where it has a bound."""
    width = max(map(len, ratios), default=0) + 2
    return [
        f"{name:<{width}}{ratio:6.2f}   {bounds[name].verdict(ratio) if name in bounds else ''}".rstrip()
        for name, ratio in ratios.items()
    ]


def json_target(parser: argparse.ArgumentParser) -> None:
    """Add `--json FILE`."""
    parser.add_argument("--json", type=_file, metavar="FILE", help="write the result there")


def _file(text: str) -> Path:
    path = Path(text)
    if not path.resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"no folder {path.resolve().parent}")
    return path


def write_json(path: Path | None, result: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
