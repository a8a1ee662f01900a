"""The run's derived files: `log.jsonl`, `timing.csv`, `members.csv`, `summary.json`, from its cohorts' journals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from paceline.checkpoint.files import write_text_atomic
from paceline.data.csv_text import csv_text
from paceline.data.fingerprint import part_fingerprint
from paceline.errors import RunError
from paceline.evaluate.decisions import CHANGED
from paceline.evaluate.references import WHAT
from paceline.evaluate.statistics import summarise
from paceline.run.decide import After, add_decisions
from paceline.run.folder import Run, write_json
from paceline.run.grouped import grouped
from paceline.run.openings import count_openings
from paceline.run.outcome import journal_rows, outcomes
from paceline.run.pooled import Stored, add_sample_intervals, ensembles, of_kind, stored_predictions
from paceline.run.references import models_minus, reference_rows
from paceline.train.config import lower_is_better

if TYPE_CHECKING:
    from paceline.run.build import Prepared
    from paceline.types import Member

PARTS = {"best": "val", "test": "test"}  # the records that results come from


def finish(run: Run, prepared: Prepared) -> None:
    """Derive every file of a finished run; doing it again gives the same files (but for wall times)."""
    cohorts = [cohort.id for cohort in prepared.plan.cohorts]
    write_text_atomic(run.path / "log.jsonl", _joined(run, [f"{cohort}.jsonl" for cohort in cohorts]))
    timing = _joined(run, [f"{cohort}.timing.csv" for cohort in cohorts])
    write_text_atomic(run.path / "timing.csv", "member,step,epoch,seconds\n" + timing)
    members = _members(run, prepared)
    stored = stored_predictions(run, prepared, members)
    after = add_decisions(run, members, stored)
    write_text_atomic(run.path / "members.csv", csv_text(_table(members), index=False))
    write_json(run.path / "summary.json", _summary(run, prepared, members, stored, after))


def _joined(run: Run, names: Sequence[str]) -> str:
    """Return the logs of all cohorts, one after another; a cohort that never began has none."""
    paths = [run.path / "logs" / name for name in names]
    return "".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())


def _members(run: Run, prepared: Prepared) -> list[dict[str, Any]]:
    """Return every member's line of the summary; each journal is read once."""
    ended: dict[str, Mapping[str, Any]] = {}
    rows: dict[str, list[Mapping[str, Any]]] = {job.member.id: [] for job in prepared.jobs}
    for cohort in prepared.plan.cohorts:
        ended |= {outcome["id"]: outcome for outcome in outcomes(run, cohort)}
        for row in journal_rows(run, cohort):
            rows.setdefault(row["member"], []).append(row)
    return [_line(job.member, ended[job.member.id], rows[job.member.id]) for job in prepared.jobs]


def _line(member: Member, outcome: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = {f"{PARTS[r['split']]}_{name}": v for r in rows if r["split"] in PARTS for name, v in r["values"].items()}
    return {
        "id": member.id,
        "variant": member.variant,
        "seed": member.seed,
        "fold": member.fold,
        "status": outcome["status"],
        "stopped": outcome["reason"],
        "epochs": max((row["epoch"] for row in rows), default=0),
        "selection": outcome["selection"],
        "metrics": {name: value for name, value in values.items() if not isinstance(value, list)},
        "lists": {name: value for name, value in values.items() if isinstance(value, list)},
    }


def _table(members: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    keys = ("id", "variant", "seed", "fold", "status", "epochs")
    rows = [{key: m[key] for key in keys} | {"selected_epoch": m["selection"]["epoch"]} | m["metrics"] for m in members]
    return pd.DataFrame(rows)


def _summary(
    run: Run, prepared: Prepared, members: Sequence[Mapping[str, Any]], stored: Stored, after: After
) -> dict[str, Any]:
    config = prepared.config
    variants = _variants(prepared, members, stored, after)
    leading = variants[0]["name"]
    of_leading = [m for m in members if m["variant"] == leading]
    failed = [m["id"] for m in members if m["status"] == "failed"]
    return {
        "schema_version": 1,
        "run": run.name,
        "task": config.task.name,
        "model": config.model.name,
        "data": config.data.name,
        "status": "failed" if len(failed) == len(members) else "finished",
        "failed": failed,
        "variant": leading,
        "metrics": variants[0]["metrics"],
        "variants": variants if len(variants) > 1 else [],
        "members": [{key: value for key, value in m.items() if key != "lists"} for m in members],
        "ensemble": ensembles(members, stored, leading, config.training.selection.metric, after),
        "references": _references(prepared, of_leading),
        **grouped(prepared, of_leading, stored),
        **_class_results(of_leading, prepared),
        "test_openings": _openings(run, prepared),
        "seconds": _seconds(run),
    }


def _variants(
    prepared: Prepared, members: Sequence[Mapping[str, Any]], stored: Stored, after: After
) -> list[dict[str, Any]]:
    """Return each variant with its metrics, the best mean of the selection metric on validation first."""
    metric = prepared.config.training.selection.metric
    sign = 1 if lower_is_better(metric) else -1
    found = []
    for name in dict.fromkeys(m["variant"] for m in members):
        own = [m for m in members if m["variant"] == name]
        metrics = intervals(prepared, own)
        add_sample_intervals(metrics, own, stored)
        for kind in CHANGED:
            add_sample_intervals(metrics, own, of_kind(after, kind), kind)
        found.append({"name": name, "members": len(own), "metrics": metrics})

    def rank(variant: Mapping[str, Any]) -> float:
        mean = variant["metrics"].get(metric, {}).get("mean")
        return math.inf if mean is None else sign * mean

    return sorted(found, key=rank)


def _references(prepared: Prepared, leading: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what each reference is, its metrics, and by how much the leading variant's members exceed them."""
    return {
        name: {
            "what": WHAT[name],
            "metrics": intervals(prepared, rows),
            "difference": models_minus(prepared, rows, leading),
        }
        for name, rows in reference_rows(prepared).items()
    }


def intervals(prepared: Prepared, members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and interval of each metric over members, given as dicts of `seed`, `fold` and `metrics`."""
    names = dict.fromkeys(name for m in members for name in m["metrics"])
    return {name: _interval(prepared, members, name) for name in names}


def _interval(prepared: Prepared, members: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    scores = [(m["seed"], m["fold"], _number(m["metrics"][name])) for m in members if name in m["metrics"]]
    sizes: dict[str, float] = {}
    if prepared.splits:
        parts = {"n_train": "train", "n_test": name.partition("_")[0]}
        sizes = {size: float(np.mean([len(getattr(s, part)) for s in prepared.splits])) for size, part in parts.items()}
    redrawn = prepared.config.members.split_seed == "per_seed" and bool(sizes)
    # Whatever the split, the test part is the same for all, so only validation varies with the data measured on.
    interval = summarise(scores, **sizes, redrawn=redrawn, fixed_part=name.startswith("test_"))
    bounds = None if interval.low is None else [interval.low, interval.high]
    return {"mean": interval.mean, "std": interval.std, "ci95": bounds, "n": interval.n, "method": interval.method}


def _class_results(members: Sequence[Mapping[str, Any]], prepared: Prepared) -> dict[str, Any]:
    """Return confusion counts and per-class scores, summed over the members."""
    classes = list(prepared.jobs[0].inputs.spec.classes)
    confusion: dict[str, Any] = {}
    per_class: dict[str, Any] = {}
    for part in PARTS.values():
        matrices = [m["lists"][f"{part}_confusion"] for m in members if f"{part}_confusion" in m["lists"]]
        if not classes or not matrices:
            continue
        counts = np.sum(np.array(matrices, dtype=np.int64), axis=0)
        confusion[part] = {"classes": classes, "counts": counts.tolist()}
        per_class[part] = {"classes": classes, **_scores(counts)}
    return {"confusion": confusion, "per_class": per_class}


def _scores(counts: np.ndarray[Any, Any]) -> dict[str, list[Any]]:
    hits, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)

    def ratio(part: np.ndarray[Any, Any], whole: np.ndarray[Any, Any]) -> list[float]:
        return [float(x) for x in np.divide(part, whole, out=np.zeros(len(hits)), where=whole > 0)]

    return {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, support),
        "f1": ratio(2 * hits, support + predicted),
        "support": support.tolist(),
    }


def _openings(run: Run, prepared: Prepared) -> int | None:
    if prepared.dataset is None or not prepared.splits or not len(prepared.splits[0].test):
        return None
    return count_openings(run.path.parent, part_fingerprint(prepared.dataset, prepared.splits[0].test))


def _seconds(run: Run) -> float:
    """Wall time of training, summed over members (the last line of each)."""
    try:
        timing = pd.read_csv(run.path / "timing.csv", dtype={"seconds": np.float64})
        return float(timing.groupby("member")["seconds"].max().sum()) if len(timing) else 0.0
    except ValueError as error:  # pandas' own errors among them
        raise RunError("the wall times of the run cannot be read", where=str(run.path / "timing.csv"),
                       got=str(error)) from None  # fmt: skip


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
