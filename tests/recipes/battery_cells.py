"""Samples of cells that age, made in a few lines: health falls with the square root of time, faster in heat."""

from __future__ import annotations

from typing import Any

import numpy as np

from paceline.recipes.battery.compat import Sample

CELLS = {"A": 10, "B": 10, "C": 25, "D": 25, "E": 40, "F": 40}


def rows(n: int = 8, seed: int = 0) -> list[Sample]:
    """A sample per check-up: x (3,), y (1,)."""
    rng = np.random.default_rng(seed)
    found = []
    for number, (cell, celsius) in enumerate(CELLS.items()):
        for week in range(n):
            fade = 0.02 * (1 + celsius / 40) * np.sqrt(week)
            x = np.array([week / n, celsius / 40, fade * 10 + rng.normal(0, 0.02)])
            meta: dict[str, Any] = {"cell_id": cell, "temperature_C": celsius, "number": number}
            found.append(Sample(x=x, y=np.array([1 - fade]), t=7.0 * week, meta=meta))
    return found


def sequences(lengths: tuple[int, ...] = (5, 9, 5, 9, 7, 6), seed: int = 0) -> list[Sample]:
    """A sample per cell: x (T, 3), y (T,), t (T,) in days, of these lengths."""
    by_cell = {cell: [s for s in rows(max(lengths), seed) if s.meta["cell_id"] == cell] for cell in CELLS}
    return [
        Sample(
            x=np.stack([s.x for s in own[:n]]), y=np.concatenate([s.y for s in own[:n]]),
            t=np.array([s.t for s in own[:n]]), meta=own[0].meta,
        )
        for n, own in zip(lengths, by_cell.values(), strict=True)
    ]  # fmt: skip
