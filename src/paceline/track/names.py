"""What a value is called outside of the run folder: its canonical name, the name of its class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.config.reading import parse_json, read_text
from paceline.config.tree import read_yaml
from paceline.types import OF_NO_PART

if TYPE_CHECKING:
    from paceline.types import Record

Matrix = list[list[int]]
Points = list[tuple[str, float | Matrix]]  # tag and value; a matrix becomes a picture


@dataclass(frozen=True, kw_only=True)
class Names:
    """How values are named: a group's own tags by canonical name (None leaves a value out), and the classes."""

    tags: Mapping[str, str | None] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def points(self, record: Record, *, figures: bool = True) -> Points:
        """Return a record's scalars, per-class values (`<tag>/<class>`) and confusion matrix.

        Without points are the `last` records, which repeat the validation of the last epoch, and the per-class values
        of the selected state, unless `tags` names them.
        """
        found: Points = []
        for name, value in record.values.items() if record.split != "last" else ():
            canonical = canonical_name(record.split, name)
            tag = self.tags.get(canonical, canonical)
            if tag is None:
                continue
            if not isinstance(value, list):
                found.append((plain_text(tag), value))
            elif value and all(isinstance(row, list) for row in value):
                if figures and name.endswith("confusion"):
                    found.append((plain_text(tag), value))
            elif record.split in ("train", "val") or canonical in self.tags:
                labels = self._of(value)
                found += [(plain_text(f"{tag}/{name}"), _number(v)) for name, v in zip(labels, value, strict=True)]
        return found

    def _of(self, values: Sequence[Any]) -> Sequence[str]:
        return self.classes if len(self.classes) == len(values) else [str(index) for index in range(len(values))]


def canonical_name(split: str, name: str) -> str:
    """Return the name that a value has in the history: `val_f1_macro`; the learning rate is `lr`."""
    return name if name in OF_NO_PART else f"{split}_{name}"


def class_names(run_folder: Path) -> tuple[str, ...]:
    """Return the names of the classes: of the data set, or those given beside a user's own loaders."""
    path = run_folder / "splits.json"
    if path.is_file():
        return tuple(map(str, parse_json(read_text(path)).get("classes") or ()))
    path = run_folder / "config.yaml"
    data = read_yaml(path).get("data", {}) if path.is_file() else {}
    return tuple(map(str, data.get("classes", ())))


def plain_text(tag: str) -> str:
    """Replace what UTF-8 cannot hold."""
    return tag.encode("utf-8", "backslashreplace").decode("utf-8")


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)  # JSON has no NaN
