"""What a member does with its probabilities after training: a temperature and thresholds, fitted on validation.

What is fitted is kept only where it helps on samples that it was not fitted on. Needs no torch.

Shapes: N samples, C classes, U units (samples, or groups of samples that are not independent), S sums per unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.errors import RunError
from paceline.evaluate.calibration import expected_calibration_error, fit_temperature, tempered
from paceline.evaluate.predictions import Predictions, classes_of, metrics_of, sums_of, values_of
from paceline.evaluate.thresholds import TUNABLE, tune_weights, weighted

Array = NDArray[Any]
Floats = NDArray[np.float64]

SCHEMA_VERSION = 1
PARTS = 5  # of the validation samples; what is fitted on four is judged on the fifth
LEAST = 20  # samples; with fewer, or with fewer groups than parts, nothing is kept
CALIBRATED, TUNED = "calibrated", "tuned"  # the last word of a metric's name
CHANGED: Mapping[str, tuple[str, ...]] = {CALIBRATED: ("log_loss",), TUNED: TUNABLE}  # besides ECE, no ratio of sums


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One thing that was asked for.

    values: the temperature (1,), or the weights of the classes (C,); all 1 where not `kept`. metric: what it was fitted
    for. before, after: that metric on validation without it and with it, each sample decided by what the other parts
    gave; None where there were too few samples. reason: why it was kept or not.
    """

    values: tuple[float, ...]
    metric: str
    kept: bool = False
    before: float | None = None
    after: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A member's temperature and thresholds, None where not asked for. n: the samples that they were fitted on."""

    n: int
    temperature: Fit | None = None
    thresholds: Fit | None = None

    def calibrated(self, probability: Array) -> Floats:
        """Return probabilities (N, C) at the fitted temperature."""
        return tempered(probability, 1.0 if self.temperature is None else self.temperature.values[0])

    def weighted(self, probability: Array) -> Floats:
        """Return the calibrated probabilities times the weights of the classes (N, C); the largest decides."""
        found = self.calibrated(probability)
        if self.thresholds is None or self.plain:
            return found
        if len(self.thresholds.values) != found.shape[1]:
            raise RunError("a member's decision is of other classes", where="decision.thresholds.values",
                           got=f"{len(self.thresholds.values)}, not {found.shape[1]}")  # fmt: skip
        return weighted(found, np.array(self.thresholds.values))

    @property
    def plain(self) -> bool:
        """Whether the largest probability decides, without weights."""
        return self.thresholds is None or not self.thresholds.kept

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON and weights files hold them."""
        found = {"schema_version": SCHEMA_VERSION, "fitted_on": "val", **asdict(self)}
        for name in ("temperature", "thresholds"):
            if found[name] is not None:
                found[name]["values"] = list(found[name]["values"])
        return found

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Decision:
        """Read what `to_dict` wrote. Raises RunError for anything else."""
        try:
            fits = {name: found[name] for name in ("temperature", "thresholds")}
            made = {n: None if f is None else Fit(**{**f, "values": tuple(f["values"])}) for n, f in fits.items()}
            decision = cls(n=found["n"], **made)
            _check(decision)
        except (LookupError, TypeError, ValueError) as error:
            raise RunError("a member's decision is damaged", where="decision", got=str(error)) from None
        return decision


def _check(decision: Decision) -> None:
    """Raise ValueError for a decision that cannot be applied."""
    if type(decision.n) is not int or decision.n < 0:
        raise ValueError(f"n is {decision.n!r:.40}")
    for fit in (decision.temperature, decision.thresholds):
        values = () if fit is None else fit.values
        if not all(type(value) in (int, float) and 0 < value < math.inf for value in values):
            raise ValueError(f"values are {values!r:.60}")
        if fit is not None and (type(fit.kept) is not bool or fit.metric not in ("log_loss", *TUNABLE) or not values):
            raise ValueError(f"kept is {fit.kept!r:.40}, metric {fit.metric!r:.40}")
    if decision.temperature is not None and len(decision.temperature.values) != 1:
        raise ValueError("several temperatures")
    if decision.thresholds is not None and decision.thresholds.metric not in TUNABLE:
        raise ValueError(f"metric is {decision.thresholds.metric!r:.40}")


def fit_decision(val: Predictions, *, temperature: bool, thresholds: bool, metric: str) -> Decision:
    """Return what is asked for, fitted on the validation predictions of a member's selected state.

    metric: what thresholds are tuned for, one of TUNABLE. A fit is kept if its gain is larger than one standard error
    of the gain, on samples that it was not fitted on: the samples are dealt into five parts (groups whole, classes
    evenly), each is decided by what the other four give, and the error is the jackknife's. Temperature comes first;
    thresholds are on the calibrated probabilities.
    """
    assert val.probability is not None
    decision = Decision(n=len(val.y))
    if temperature:
        decision = _kept_if_better(val, decision, CALIBRATED, Fit(values=(1.0,), metric="log_loss"))
    if thresholds:
        asked = Fit(values=(1.0,) * val.probability.shape[1], metric=metric)
        decision = _kept_if_better(val, decision, TUNED, asked)
    return decision


def decided(decision: Decision, found: Predictions, part: str) -> dict[str, Predictions]:
    """Return predictions after the decision: `calibrated` and `tuned`, each where it was asked for.

    `tuned` holds weighted probabilities. On `val`, where the decision was fitted, each sample is decided by a decision
    that was fitted without it, in five parts, so that the figures are not better than they would be on other samples.
    """
    if part == "val" and any(fit is not None and fit.kept for fit in (decision.temperature, decision.thresholds)):
        return _crossfitted(decision, found)
    return _applied(decision, found)


def decision_metrics(found: Predictions, after: Mapping[str, Predictions]) -> dict[str, float]:
    """Return the metrics that a decision changes, from predictions before and after it (`decided`).

    `ece`, `ece_calibrated`, `log_loss_calibrated`; `accuracy_tuned`, `f1_macro_tuned`, `recall_macro_tuned`.
    """
    metrics: dict[str, float] = {}
    if CALIBRATED in after:
        for name, each in (("ece", found), (f"ece_{CALIBRATED}", after[CALIBRATED])):
            assert each.probability is not None
            metrics[name] = expected_calibration_error(each.probability, each.y)
    for kind, each in after.items():
        values = metrics_of(each)
        metrics |= {f"{name}_{kind}": values[name] for name in CHANGED[kind]}
    return metrics


def _applied(decision: Decision, found: Predictions) -> dict[str, Predictions]:
    assert found.probability is not None
    after: dict[str, Predictions] = {}
    if decision.temperature is not None:  # the order of probabilities stays, so the prediction does
        after[CALIBRATED] = replace(found, probability=decision.calibrated(found.probability))
    if decision.thresholds is not None:
        probability = decision.weighted(found.probability)
        prediction = found.prediction if decision.plain else probability.argmax(axis=1)
        after[TUNED] = replace(found, probability=probability, prediction=prediction)
    return after


def _crossfitted(decision: Decision, val: Predictions) -> dict[str, Predictions]:
    """Decide each part of the samples by what is fitted anew on the others; the order of the samples stays."""
    part = _dealt(val)
    held = [np.flatnonzero(part == k) for k in range(PARTS)]
    found = [_applied(_fitted(decision, _rows(val, part != k)), _rows(val, rows)) for k, rows in enumerate(held)]
    order = np.argsort(np.concatenate(held))
    joined: dict[str, Predictions] = {}
    for kind in found[0]:
        prediction = np.concatenate([each[kind].prediction for each in found])[order]
        probability = np.concatenate([each[kind].probability for each in found])[order]
        joined[kind] = replace(val, prediction=prediction, probability=probability)
    return joined


def _fitted(decision: Decision, val: Predictions) -> Decision:
    """Fit what the decision keeps on other samples."""
    assert val.probability is not None
    temperature, thresholds = decision.temperature, decision.thresholds
    if temperature is not None and temperature.kept:
        temperature = replace(temperature, values=(fit_temperature(val.probability, val.y),))
    if thresholds is not None and thresholds.kept:
        probability = replace(decision, temperature=temperature).calibrated(val.probability)
        values = tuple(tune_weights(probability, val.y, thresholds.metric).tolist())
        thresholds = replace(thresholds, values=values)
    return replace(decision, temperature=temperature, thresholds=thresholds)


def _kept_if_better(val: Predictions, before: Decision, kind: str, fit: Fit) -> Decision:
    """Return the decision with one more fit, which stays at 1 unless its gain is real."""
    reason = _too_few(val)
    if reason:
        return _with(before, kind, replace(fit, reason=f"left at 1: {reason}"))
    without = decided(_with(before, kind, fit), val, "val")[kind]
    after = _crossfitted(_with(before, kind, replace(fit, kept=True)), val)[kind]
    values, gain, error = _gain(without, after, fit.metric)
    kept = gain > max(error, 1e-12)
    shown = f"{fit.metric} {values[0]:.4g} before, {values[1]:.4g} after on samples that it was not fitted on"
    reason = f"{'kept' if kept else 'left at 1'}: {shown}; gain {gain:.2g}, standard error {error:.2g}"
    return _fitted(_with(before, kind, replace(fit, kept=kept, before=values[0], after=values[1], reason=reason)), val)


def _with(decision: Decision, kind: str, fit: Fit) -> Decision:
    return replace(decision, temperature=fit) if kind == CALIBRATED else replace(decision, thresholds=fit)


def _too_few(val: Predictions) -> str:
    units = len(np.unique(_units(val)))
    assert val.probability is not None
    if not np.isfinite(val.probability).all():
        return "the probabilities are not finite"
    if len(val.y) < LEAST:
        return f"{len(val.y)} validation samples are too few: at least {LEAST}"
    return f"{units} groups in validation are too few: at least {PARTS}" if units < PARTS else ""


def _gain(before: Predictions, after: Predictions, metric: str) -> tuple[tuple[float, float], float, float]:
    """Return the metric of both, by how much it is better after, and the jackknife's standard error of that."""
    units = _units(before)
    found = []
    for each in (before, after):
        sums_NS = sums_of(each)
        sums_US = np.zeros((units.max() + 1, sums_NS.shape[1]))
        np.add.at(sums_US, units, sums_NS)
        total, classes = sums_US.sum(axis=0), classes_of(sums_US)
        found.append(values_of(np.vstack([total, total - sums_US]), classes)[metric])
    gain = found[1] - found[0] if metric in TUNABLE else found[0] - found[1]
    without, n = gain[1:], len(gain) - 1
    error = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    return (float(found[0][0]), float(found[1][0])), float(gain[0]), error


def _units(found: Predictions) -> NDArray[np.int64]:
    """Return the number of each sample's unit (N,)."""
    if found.group is None:
        return np.arange(len(found.y))
    return np.asarray(np.unique(found.group, return_inverse=True)[1], dtype=np.int64)


def _dealt(found: Predictions) -> NDArray[np.int64]:
    """Deal the samples into parts (N,): units whole, in the order of the class of their first sample."""
    units = _units(found)
    _, first = np.unique(units, return_index=True)
    part = np.empty(len(first), dtype=np.int64)
    part[np.argsort(found.y[first], kind="stable")] = np.arange(len(first)) % PARTS
    return part[units]


def _rows(found: Predictions, rows: Array) -> Predictions:
    assert found.probability is not None
    return replace(
        found, index=found.index[rows], y=found.y[rows], prediction=found.prediction[rows],
        probability=found.probability[rows], group=None if found.group is None else found.group[rows],
    )  # fmt: skip
