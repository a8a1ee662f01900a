"""Metric states: NamedTuples of tensors that merge over batches and divide once, on the host.

Shapes: B batch, C classes. A state of K members has a leading axis K in every tensor; merging works as it is, and
`values` is asked of one member's slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np

from paceline.types import MetricState, Value

if TYPE_CHECKING:
    from torch import Tensor

State = TypeVar("State")
States = Mapping[str, MetricState]


def merge(a: States, b: States) -> States:
    """Return the states of both parts together. Nothing at all (`{}`) merges with anything.

    A state merges by its own `merge(other)` where it has one, else by adding its tensors.
    """
    if not a or not b:
        return a or b
    assert a.keys() == b.keys(), "states of different metrics"
    return {name: merge_state(a[name], b[name]) for name in a}


def merge_state(a: State, b: State) -> State:
    """Return the state of both parts together, for a NamedTuple of tensors."""
    if hasattr(a, "merge"):
        merged: State = a.merge(b)
        return merged
    return _rebuilt(a, (x + y for x, y in zip(_tensors(a), _tensors(b), strict=True)))


def on_host(states: States) -> States:
    """Return the states with their tensors on the CPU: the one moment when the host waits for the device."""
    return {name: _rebuilt(state, (part.cpu() for part in _tensors(state))) for name, state in states.items()}


def _rebuilt(like: State, tensors: Iterable[Tensor]) -> State:
    return type(like)(*tensors)


def _tensors(state: object) -> tuple[Tensor, ...]:
    return cast("tuple[Tensor, ...]", state)


def values(states: States) -> dict[str, Value]:
    """Return the finished metrics of all states in one flat dict. The tensors must be on the host."""
    return {name: value for key, state in states.items() for name, value in state.values(key).items()}


def _named(prefix: str, metrics: Mapping[str, Value]) -> dict[str, Value]:
    return {f"{prefix}_{name}" if prefix else name: value for name, value in metrics.items()}


class Mean(NamedTuple):
    """A mean: sum of values x weights, and sum of weights, both float64 ()."""

    total: Tensor
    weight: Tensor

    def values(self, name: str) -> dict[str, Value]:
        """Return {name: total / weight}; NaN without any weight."""
        weight = float(self.weight)
        return {name: float(self.total) / weight if weight else float("nan")}


class Confusion(NamedTuple):
    """Counts, int64 (C, C): a row per true class, a column per predicted class."""

    counts: Tensor

    def values(self, name: str) -> dict[str, Value]:
        """Return what scikit-learn gives with labels = 0..C-1 and zero_division = 0.

        accuracy, f1_macro, precision_macro, recall_macro; per class f1_class, precision_class, recall_class; and
        confusion, the counts. `name` is a prefix, "" for none. NaN accuracy without any sample.
        """
        counts = np.asarray(self.counts)
        hits, true, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
        per_class = {
            "f1": _ratio(2 * hits, true + predicted),
            "precision": _ratio(hits, predicted),
            "recall": _ratio(hits, true),
        }
        n = int(true.sum())
        result: dict[str, Value] = {"accuracy": int(hits.sum()) / n if n else float("nan")}
        result |= {f"{metric}_macro": float(each.mean()) for metric, each in per_class.items()}
        result |= {f"{metric}_class": each.tolist() for metric, each in per_class.items()}
        return _named(name, result | {"confusion": counts.tolist()})


def _ratio(part: np.ndarray[Any, Any], whole: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    out = np.zeros(len(whole))
    np.divide(part, whole, out=out, where=whole > 0)
    return out


class RegressionState(NamedTuple):
    """Errors and the spread of the targets, float64, one entry per output: () or (D,).

    The spread is a mean and a sum of squares about it, merged as Chan, Golub and LeVeque (1979) do: sums of y and y^2
    would lose r2 to cancellation where targets lie far from 0.
    """

    n: Tensor
    mean: Tensor
    spread: Tensor
    squared_error: Tensor
    absolute_error: Tensor
    percent_error: Tensor
    largest_error: Tensor

    def merge(self, other: RegressionState) -> RegressionState:
        n = self.n + other.n
        share = other.n / n.clamp(min=1)
        gap = other.mean - self.mean
        return RegressionState(
            n,
            self.mean + gap * share,
            self.spread + other.spread + gap * gap * self.n * share,
            self.squared_error + other.squared_error,
            self.absolute_error + other.absolute_error,
            self.percent_error + other.percent_error,
            self.largest_error.maximum(other.largest_error),
        )

    def values(self, name: str) -> dict[str, Value]:
        """Return mse, rmse = sqrt(mse), mae, mape (percent) and r2, averaged over outputs; max_ae, the largest of all.

        `name` is a prefix, "" for none. mape is finite for a target of 0, and says nothing then.

        r2 as scikit-learn has it: NaN with fewer than two samples; for constant targets 1 if they are met exactly,
        else 0.
        """
        n, _, spread, squared, absolute, percent, largest = (np.atleast_1d(np.asarray(each)) for each in self)
        if not n.all():
            return _named(name, dict.fromkeys(("mse", "rmse", "mae", "mape", "max_ae", "r2"), float("nan")))
        mse = float((squared / n).mean())
        unexplained = np.divide(squared, spread, out=(squared > 0).astype(float), where=spread > 0)
        r2 = float((1.0 - unexplained).mean()) if n.min() > 1 else float("nan")
        means = {"mse": mse, "rmse": mse**0.5, "mae": float((absolute / n).mean()), "mape": float((percent / n).mean())}
        return _named(name, {**means, "max_ae": float(largest.max()), "r2": r2})
