"""Decisions of a run's members: fitted when a member is published, read again wherever its results are shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paceline.errors import ConfigError
from paceline.evaluate.decisions import Decision, decided, decision_metrics, fit_decision
from paceline.evaluate.predictions import Predictions, predictions_in
from paceline.evaluate.thresholds import TUNABLE
from paceline.run.inputs import InMemory

if TYPE_CHECKING:
    import numpy as np

    from paceline.run.folder import Run
    from paceline.run.job import Job
    from paceline.tasks.config import DecisionConfig

DECISION = "decision.json"
After = dict[str, dict[str, dict[str, Predictions]]]  # by member, by part, by kind: `calibrated`, `tuned`


def check_decidable(job: Job) -> None:
    """Raise ConfigError where a decision is asked for and the targets it is fitted on are not in memory."""
    if _wanted(job) is not None and not isinstance(job.inputs, InMemory):
        raise ConfigError("a temperature or thresholds cannot be fitted on a DataLoader's batches",
                          where="task.decision", hint="arrays instead of DataLoaders, or no decision")  # fmt: skip


def decide(job: Job, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Decision | None:
    """Fit what the member's task asks for on its validation predictions; None where nothing is asked for.

    arrays: those of its `predictions.npz`, none before training is over.
    """
    wanted, val = _wanted(job), predictions_in(arrays, "val")
    if wanted is None or val is None or val.probability is None:
        return None
    _, _, metric = job.config.training.selection.metric.partition("_")
    return fit_decision(
        val,
        temperature=wanted.temperature == "fitted",
        thresholds=wanted.thresholds == "tuned",
        metric=metric if metric in TUNABLE else "f1_macro",
    )


def _wanted(job: Job) -> DecisionConfig | None:
    """Return what a task asks for; only those that predict classes have the attribute."""
    found: DecisionConfig | None = getattr(job.task, "decision", None)
    return found if found is not None and found.wanted else None


def read_decision(run: Run, member: str) -> Decision | None:
    """Return what was fitted for a member, None where nothing was asked for."""
    name = f"members/{member}/{DECISION}"
    return Decision.from_dict(run.read_json(name)) if (run.path / name).is_file() else None


def predicted_after(
    best: Mapping[str, Any], found: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, np.ndarray[Any, Any]]:
    """Return predicted arrays after the decision of a weights file: `probability`, and `decided` if thresholds are.

    `decided` (N, C) are the weighted probabilities, of which the largest decides.
    """
    fitted = best.get("decision")
    if fitted is None or "probability" not in found:
        return dict(found)
    decision = Decision.from_dict(fitted)
    after = {**found, "probability": decision.calibrated(found["probability"])}
    return after if decision.plain else {**after, "decided": decision.weighted(found["probability"])}


def evaluated_after(best: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]], part: str) -> dict[str, float]:
    """Return the metrics that the decision of a weights file gives on predictions of a part; {} where it has none."""
    fitted, found = best.get("decision"), predictions_in(arrays, part)
    if fitted is None or found is None:
        return {}
    return decision_metrics(found, decided(Decision.from_dict(fitted), found, part))


def add_decisions(
    run: Run, members: Sequence[dict[str, Any]], stored: Mapping[str, Mapping[str, Predictions]]
) -> After:
    """Add to the members' lines what was fitted and the metrics it gives; return the predictions after it.

    They are derived from the stored predictions: no data is evaluated on again.
    """
    after: After = {}
    for row in members:
        decision = read_decision(run, row["id"]) if stored.get(row["id"]) else None
        if decision is None:
            continue
        row["decision"] = decision.to_dict()
        after[row["id"]] = {}
        for part, found in stored[row["id"]].items():
            after[row["id"]][part] = decided(decision, found, part)
            values = decision_metrics(found, after[row["id"]][part])
            finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # no NaN in JSON
            row["metrics"] |= {f"{part}_{name}": value for name, value in finite.items()}
    return after
