"""The learning-rate range test: one optimizer step at each of many rising rates, and where the loss falls fastest.

L. N. Smith, Cyclical learning rates for training neural networks, WACV 2017, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from paceline.data.loader import Feed
    from paceline.train.cohort import Engine

BROKEN = 2.0  # times the loss at the beginning, at which the test ends
WIDTH = 0.03  # of all steps: standard deviation of the weights that smooth the losses
LEAST_FALL = 0.02  # of the first loss: a fall of less is none


def rising(lowest: float, highest: float, steps: int) -> list[float]:
    """Return `steps` rates from `lowest` to `highest`, each the same factor above the one before."""
    return [lowest * (highest / lowest) ** (i / (steps - 1)) for i in range(steps)]


def losses_at(engine: Engine, feed: Feed, rates: Sequence[float]) -> list[float]:
    """Make a step of one member at each rate; return the training loss before each, until it breaks off.

    The last one may be far above the others, or not finite.
    """
    losses: list[float] = []
    for step, rate in enumerate(rates):
        engine.step(feed.group(step), [rate], step)
        losses.append(engine.flush([0])[0]["loss"])
        first, recent = (float(np.median(some)) for some in (losses[:5], losses[-3:]))  # one odd batch is no end
        if not math.isfinite(losses[-1]) or recent > BROKEN * abs(first):
            break
    return losses


def smoothed(losses: Sequence[float], steps: int) -> list[float]:
    """Return weighted means of the losses around each step, so that nothing lags behind; infinite ones are cut.

    The weights are those of a normal distribution of width WIDTH x `steps`, made anew at the ends.
    """
    values = np.asarray(losses, dtype=float)
    top = 2 * BROKEN * abs(float(np.median(values[:5])))
    values = np.nan_to_num(values, nan=top, posinf=top, neginf=-top).clip(max=top)
    at = np.arange(len(values))
    weights = np.exp(-0.5 * ((at[:, None] - at[None, :]) / max(1.0, WIDTH * steps)) ** 2)
    return [float(value) for value in weights @ values / weights.sum(1)]


def steepest(rates: Sequence[float], smooth: Sequence[float]) -> float | None:
    """Return the rate at which the smoothed loss falls fastest per factor; None where it hardly falls.

    Looked for up to the lowest loss.
    """
    bottom = int(np.argmin(smooth))
    if bottom < 2 or smooth[0] - smooth[bottom] < LEAST_FALL * abs(smooth[0]):
        return None
    slopes = np.gradient(np.asarray(smooth), np.log(rates[: len(smooth)]))
    return float(rates[int(np.argmin(slopes[: bottom + 1]))])
