"""From the folds of both sides to differences with corrected intervals. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from paceline.evaluate.paired import Difference, difference
from paceline.evaluate.statistics import summarise


def of_set(folds: Sequence[Any]) -> dict[str, Any]:
    """Return what one set gave: macro F1 of both sides, of a single member, and the paired difference.

    folds: `quality.arms.Fold` of every redraw. The interval is that of Nadeau and Bengio (2003) over all trainings, as
    `paceline compare` has it.
    """
    sizes = [float(np.mean([getattr(fold, name) for fold in folds])) for name in ("n_train", "n_test")]
    forest, ours = ([(f.redraw, f.fold, getattr(f, side)) for f in folds] for side in ("forest", "ours"))
    found = difference(forest, ours, *sizes, redrawn=True)
    means = {
        side: summarise(scores, *sizes, redrawn=True).mean for side, scores in (("ours", ours), ("forest", forest))
    }
    alone = float(np.mean([np.mean(fold.single) for fold in folds]))
    return {**means, "single member": alone, "difference": as_dict(found), "folds": [vars(fold) for fold in folds]}


def as_dict(found: Difference) -> dict[str, Any]:
    return {"mean": found.mean, "ci95": [found.low, found.high], "p": found.p, "n": found.n, "method": found.method}


def overall(sets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of the sets' differences and its interval.

    The sets are different data, so the squared standard errors of their means add up; the degrees of freedom are
    Satterthwaite's. It covers the data and training of these sets, not the choice of the sets.
    """
    rows = [found["difference"] for found in sets.values()]
    mean = float(np.mean([row["mean"] for row in rows]))
    errors = [(row["ci95"][1] - row["mean"]) / float(stdtrit(row["n"] - 1, 0.975)) for row in rows]
    terms = [(error / len(rows)) ** 2 for error in errors]
    freedom = sum(terms) ** 2 / sum(term**2 / (row["n"] - 1) for term, row in zip(terms, rows, strict=True))
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(sum(terms))
    method = f"mean over {len(rows)} sets, corrected standard errors added, {freedom:.0f} degrees of freedom"
    return {"mean": mean, "ci95": [mean - half, mean + half], "n": len(rows), "method": method}
