"""A feed that writes down which samples each optimizer step was given: the evidence that their order is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from paceline.data.loader import Feed
    from paceline.types import Batch

LINE_BYTES = 46  # twelve digits, a space, 32 hexadecimal digits, a line end


class Witness:
    """Passes on the groups of a feed and appends a line per step to a file: the step, and a hash of its batches.

    A step that is made again after a resume has a line again. Each line costs the hash and a write.
    """

    def __init__(self, feed: Feed, path: Path) -> None:
        self._feed, self._path = feed, path

    @property
    def steps_per_epoch(self) -> tuple[int, ...]:
        return self._feed.steps_per_epoch

    def group(self, step: int) -> list[Batch]:
        group = self._feed.group(step)
        with self._path.open("ab", buffering=0) as file:
            file.write(f"{step:012d} {digest(group)}\n".encode())
        return group


def digest(group: Sequence[Batch]) -> str:
    """Return a hash of the batches of an accumulation group: names, types, shapes and every bit."""
    found = hashlib.blake2b(digest_size=16)
    for batch in group:
        for name, column in sorted(batch.items()):
            value = torch.as_tensor(column).detach().cpu().contiguous()
            found.update(f"{name} {value.dtype} {tuple(value.shape)}|".encode())
            found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def read_batches(path: Path) -> list[tuple[int, str]]:
    """Return (step, hash) of every line, in the order of training; a line that a kill cut short is left out."""
    lines = path.read_text(encoding="ascii").splitlines() if path.is_file() else []
    whole = [line for line in lines if len(line) == LINE_BYTES - 1]
    return [(int(line[:12]), line[13:]) for line in whole]


def last_step(path: Path) -> int:
    """Return how many steps have begun, by the last line; 0 where there is none. Cheap enough to ask often."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2) // LINE_BYTES * LINE_BYTES
            file.seek(max(0, size - LINE_BYTES))
            line = file.read(LINE_BYTES)
    except FileNotFoundError:
        return 0
    return int(line[:12]) + 1 if size else 0


def differing_steps(batches: Sequence[tuple[int, str]], reference: Mapping[int, str]) -> list[int]:
    """Return the steps that were given other samples than in the reference, or not at all."""
    wrong = {step for step, found in batches if reference.get(step) != found}
    return sorted(wrong | (set(reference) - {step for step, _ in batches}))
