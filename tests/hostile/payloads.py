"""Crafted attacks, each with what a naive reader of the same file suffers, where that is cheap to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.jail import Case
from tests.hostile.material import Material

Use = Callable[[Path, Material], object]


@dataclass(frozen=True)
class Payload:
    """use: write the file into a folder and have paceline use it; it must be refused, or be harmless if `harmless`.

    naive: the same file in the hands of a reader without our bounds; it must end in one of `suffers`.
    """

    name: str
    use: Use
    harmless: bool = False
    naive: Use | None = None
    suffers: tuple[str, ...] = ()


ALL: list[Payload] = []
QUICK_NAIVE = (  # what a naive reader suffers in an instant
    "a pickle in place of weights", "a bare pickle", "the format of torch before 1.6", "an array of objects",
    "a bytearray of two gigabytes", "one number two billion times", "a list in itself", "a shape of 10^9",
    "names that lead elsewhere", "a log that is a link to a file elsewhere", "a run that names its own --use file",
    "a call in YAML", "YAML in itself", "YAML 100,000 deep", "a variable of the environment",
    "a header that is evaluated", "a summary nested 100,000 deep",
)  # fmt: skip


def payload(name: str, *, harmless: bool = False, naive: Use | None = None, suffers: str = "") -> Callable[[Use], Use]:
    """Register a function as the payload `name`."""

    def register(use: Use) -> Use:
        ALL.append(Payload(name, use, harmless, naive, tuple(suffers.split())))
        return use

    return register


def ours(material: Material) -> list[Case]:
    """Return paceline's part of every payload."""
    return [Case(one.name, _bound(one.use, material)) for one in everything()]


def naive(material: Material) -> list[Case]:
    """Return the naive reader's part of those that have one."""
    return [Case(one.name, _bound(one.naive, material)) for one in everything() if one.naive is not None]


def everything() -> list[Payload]:
    """Return all payloads."""
    from tests.hostile import archives, folders, texts  # each registers its own

    assert [archives, folders, texts]
    return ALL


def _bound(use: Use, material: Material) -> Callable[[Path], object]:
    return lambda folder: use(folder, material)
