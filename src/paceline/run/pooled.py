"""What the members' stored predictions add to the summary: intervals over the samples measured on, and ensembles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from paceline.evaluate.bootstrap import SampleInterval, sample_intervals
from paceline.evaluate.decisions import CALIBRATED, CHANGED, TUNED
from paceline.evaluate.ensemble import greedy, mean_of, same_samples
from paceline.evaluate.predictions import Predictions, metrics_of, pooled, read_predictions

if TYPE_CHECKING:
    from paceline.run.build import Prepared
    from paceline.run.decide import After
    from paceline.run.folder import Run

Row = Mapping[str, Any]  # a member's line of the summary
Stored = dict[str, dict[str, Predictions]]  # by member, by part


def stored_predictions(run: Run, prepared: Prepared, members: Sequence[Row]) -> Stored:
    """Read the predictions of all members that have not failed, with the data's groups beside them."""
    group = None if prepared.dataset is None else prepared.dataset.group
    stored: Stored = {}
    for member in members:
        if member["status"] == "failed":
            continue
        found = read_predictions(run.member_folder(member["id"]) / "predictions.npz")
        stored[member["id"]] = {
            part: each if group is None else replace(each, group=group[each.index]) for part, each in found.items()
        }
    return stored


def of_kind(after: After, kind: str) -> Stored:
    """Return the members' predictions after one kind of decision, of those that have it."""
    return {
        member: {part: found[kind] for part, found in parts.items() if kind in found} for member, parts in after.items()
    }


def add_sample_intervals(
    metrics: Mapping[str, dict[str, Any]], members: Sequence[Row], stored: Stored, kind: str = ""
) -> None:
    """Add `ci95_samples` and `method_samples` to each metric that the members' predictions give.

    kind: `stored` are predictions after that kind of decision, for the metrics named after it.

    The folds of one seed are pooled: `pooled` is then the metric over all their samples, the mean over seeds, which the
    interval is of. A metric that the predictions do not give as the run recorded it (another definition) is left out.
    """
    for part in ("val", "test"):
        own = _of_part(members, stored, part)
        together = pooled((row["seed"], each) for row, each in own)
        agreed = _agreed(own, part, kind)
        for name, found in sample_intervals(together).items():
            row = metrics.get(_named(part, name, kind))
            if row is None or name not in agreed:
                continue
            folds_joined = len(together) < len(own)
            row |= interval_values(found, len(together), "seeds, their folds pooled" if folds_joined else "members")
            if folds_joined:
                row["pooled"] = found.value


def interval_values(found: SampleInterval, n: int = 1, of: str = "members") -> dict[str, Any]:
    """Return two entries of the summary, for a mean over `n`. Where there is no interval, the method says why."""
    several = f", mean over {n} {of}" if n > 1 else ""
    method = found.method.replace(":", f"{several}:", 1)
    return {"ci95_samples": None if found.low is None else [found.low, found.high], "method_samples": method}


def ensembles(
    members: Sequence[Row], stored: Stored, leading: str, metric: str, after: After | None = None
) -> dict[str, Any]:
    """Return `mean` over the leading variant's members and `greedy` over all, each with its metrics; {} for one member.

    The folds of one (variant, seed) are one candidate: on validation its pooled predictions, on test the mean of its
    folds. `metric` chooses greedily where predictions give it, else log-loss or RMSE does. `members_mean` is the mean
    of the same metric over the candidates that the ensemble is made of.

    after: predictions after the members' decisions. Where there are calibrated probabilities they are averaged instead
    of the raw ones, and `probabilities` says so. The metrics that tuned thresholds change are there a second time,
    named after them, for the mean of the weighted probabilities.
    """
    calibrated, tuned = (of_kind(after or {}, kind) for kind in (CALIBRATED, TUNED))
    plain = _overlaid(stored, calibrated)
    entries = _entries(members, plain)
    lead = [entry for entry in entries if entry["variant"] == leading]
    made: dict[str, Any] = {}
    if len(lead) > 1 or any(len(entry["test"]) > 1 for entry in lead):
        made["mean"] = _ensemble(lead, [1] * len(lead))
    chosen = _greedy(entries, metric) if len(entries) > 1 else None
    if chosen:
        made["greedy"] = chosen
    if any(calibrated.values()):
        made = {name: {**ensemble, "probabilities": CALIBRATED} for name, ensemble in made.items()}
    if any(tuned.values()):
        weighted = {entry["name"]: entry for entry in _entries(members, _overlaid(plain, tuned))}
        made = {name: _with_tuned(ensemble, weighted) for name, ensemble in made.items()}
    return {name: ensemble for name, ensemble in made.items() if ensemble["metrics"]}


def _overlaid(stored: Stored, above: Stored) -> Stored:
    return {member: {**parts, **above.get(member, {})} for member, parts in stored.items()}


def _with_tuned(ensemble: Mapping[str, Any], weighted: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Add what the same candidates give with their thresholds."""
    chosen = ensemble["members"]
    found = _ensemble([weighted[name] for name in chosen], list(chosen.values()))["metrics"]
    names = {f"{part}_{name}": _named(part, name, TUNED) for part in ("val", "test") for name in CHANGED[TUNED]}
    own = {new: found[old] for old, new in names.items() if old in found}
    return {**ensemble, "metrics": {**ensemble["metrics"], **own}}


def _entries(members: Sequence[Row], stored: Stored) -> list[dict[str, Any]]:
    """Return the candidates: per variant and seed, the validation predictions (pooled) and those on test (a list)."""
    by_key: dict[tuple[str, int], list[Row]] = {}
    for row in members:
        if stored.get(row["id"]):
            by_key.setdefault((row["variant"], row["seed"]), []).append(row)
    entries = []
    for (variant, seed), rows in by_key.items():
        val = pooled((seed, stored[row["id"]]["val"]) for row in rows if "val" in stored[row["id"]])
        test = [stored[row["id"]]["test"] for row in rows if "test" in stored[row["id"]]]
        name = "-".join(text for text in (variant, f"seed{seed}") if text)
        entries.append({"name": name, "variant": variant, "val": val[0] if len(val) == 1 else None, "test": test})
    return entries


def _greedy(entries: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any] | None:
    val = [entry["val"] for entry in entries]
    if any(each is None for each in val) or not same_samples(val):
        return None
    known = metrics_of(val[0])
    base = metric.partition("_")[2]
    by = base if base in known else "log_loss" if "log_loss" in known else "rmse"
    counts = greedy(val, by)
    return {"metric": f"val_{by}", **_ensemble(entries, counts)}


def _ensemble(entries: Sequence[Mapping[str, Any]], counts: Sequence[int]) -> dict[str, Any]:
    """Return the candidates with their weights and the metrics of their mean, on every part that all of them have."""
    used = [(entry, n) for entry, n in zip(entries, counts, strict=True) if n]
    weights = [n for _, n in used]
    metrics: dict[str, Any] = {}
    val = [entry["val"] for entry, _ in used]
    if all(each is not None for each in val) and same_samples(val):
        metrics |= _metrics("val", mean_of(val, weights), val)
    test = [mean_of(entry["test"]) for entry, _ in used if entry["test"]]
    if len(test) == len(used) and same_samples(test):
        singles = [each for entry, _ in used for each in entry["test"]]
        metrics |= _metrics("test", mean_of(test, weights), singles)
    return {"members": {entry["name"]: n for entry, n in used}, "metrics": metrics}


def _metrics(part: str, combined: Predictions, members: Sequence[Predictions]) -> dict[str, Any]:
    alone = [metrics_of(each) for each in members]
    return {
        f"{part}_{name}": {
            "value": found.value,
            **interval_values(found),
            "members_mean": sum(values[name] for values in alone) / len(alone),
        }
        for name, found in sample_intervals([combined]).items()
        if math.isfinite(found.value) and all(math.isfinite(values[name]) for values in alone)
    }


def _of_part(members: Sequence[Row], stored: Stored, part: str) -> list[tuple[Row, Predictions]]:
    return [(row, stored[row["id"]][part]) for row in members if part in stored.get(row["id"], {})]


def _named(part: str, name: str, kind: str) -> str:
    return f"{part}_{name}_{kind}" if kind else f"{part}_{name}"


def _agreed(own: Sequence[tuple[Row, Predictions]], part: str, kind: str) -> set[str]:
    """Return the metrics that the predictions give as recorded, up to the rounding of stored probabilities."""
    agreed: set[str] | None = None
    for row, predictions in own:
        same = set()
        for name, value in metrics_of(predictions).items():
            recorded = row["metrics"].get(_named(part, name, kind))
            if recorded is not None and math.isclose(value, recorded, rel_tol=1e-3, abs_tol=1e-5):
                same.add(name)
        agreed = same if agreed is None else agreed & same
    return agreed or set()
