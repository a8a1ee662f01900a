"""Writes run folders with real predictions for the tests of comparisons and of the list of runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paceline.evaluate.predictions import Predictions, metrics_of
from paceline.evaluate.statistics import summarise

CLASSES = 3
N = 160  # samples 0 to 99 train and validate, 100 to 159 are the test part


def write_run(
    folder: Path,
    *,
    skill: float = 0.8,
    seeds: Sequence[int] = (42, 43, 44, 45, 46),
    folds: int | None = None,
    variants: Sequence[str] = ("",),
    redrawn: bool = False,
    test: bool = True,
    failed: Sequence[str] = (),
    split_seed: int = 42,
    fingerprint: str = "sha256:" + "ab" * 32,
    groups: int | None = None,
    regression: bool = False,
    predictions: bool = True,
    task: str = "pain",
    data: str = "vowels",
    finished: bool = True,
) -> Path:
    """Write a run whose members are right about as often as `skill` says, and return its folder."""
    splits = _splits(seeds if redrawn else [None], folds, split_seed, test)
    members = []
    for variant in variants:
        for seed in seeds:
            for fold in [None] if folds is None else range(folds):
                split = splits[seed if redrawn else None, fold]
                members.append(
                    _member(folder, variant, seed, fold, split, skill, failed, groups, regression, predictions)
                )
    metric = "val_rmse" if regression else "val_f1_macro"
    summary = _summary(folder.name, members, variants, metric, task, data, splits, redrawn)
    plan = {"schema_version": 1, "cohorts": [{"id": m["id"], "members": [m["id"]], "engine": "eager"} for m in members]}
    tree = {
        "schema_version": 1, "fingerprint": fingerprint, "source": f"{data} (bundled)", "rule": "stratified", "n": N,
        "seed": None if redrawn else split_seed, "classes": ["a", "b", "c"],
        "splits": [{"seed": s or split_seed, "fold": f, "n_folds": folds, **parts} for (s, f), parts in splits.items()],
    }  # fmt: skip
    split_rule = "per_seed" if redrawn else "fixed"
    config = (
        f"task: {{name: {task}}}\nmodel: {{name: gru}}\ndata: {{name: {data}}}\nmembers: {{split_seed: {split_rule}}}\n"
        f"training: {{selection: {{metric: {metric}}}}}\n"
    )
    files = {"config.yaml": config, "plan.json": json.dumps(plan), "splits.json": json.dumps(tree),
             "environment.json": json.dumps({"python": "3.12"})}  # fmt: skip
    if finished:
        files |= {"summary.json": json.dumps(summary), "report.html": "<!doctype html>"}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "logs").mkdir()
    for member in members if finished else members[:1]:
        (folder / "logs" / f"{member['id']}.done").write_text("{}")
    return folder


def _splits(
    seeds: Sequence[int | None], folds: int | None, split_seed: int, test: bool
) -> dict[Any, dict[str, list[int]]]:
    splits = {}
    for seed in seeds:
        order = np.random.default_rng([split_seed, seed or 0]).permutation(100)
        for fold in [None] if folds is None else range(folds):
            held = order[:30] if folds is None else order[fold::folds]
            train = np.setdiff1d(order, held)
            parts = {
                "train": train.tolist(),
                "val": np.sort(held).tolist(),
                "test": list(range(100, N)) if test else [],
            }
            splits[seed, fold] = parts
    return splits


def _member(
    folder: Path, variant: str, seed: int, fold: int | None, split: dict[str, list[int]], skill: float,
    failed: Sequence[str], groups: int | None, regression: bool, predictions: bool,
) -> dict[str, Any]:  # fmt: skip
    name = "-".join(part for part in (variant, f"seed{seed}", "" if fold is None else f"fold{fold}") if part)
    words = f"{folder.name} {variant} {seed} {fold}".encode()
    rng = np.random.default_rng(list(words))
    truth = np.random.default_rng(7).integers(0, CLASSES, N)
    arrays: dict[str, np.ndarray] = {}
    metrics: dict[str, float] = {}
    for part in ("val", "test"):
        index = np.array(split[part])
        if not len(index):
            continue
        group = None if groups is None else index % groups
        made = _regressor(truth[index] * 1.0, skill, rng) if regression else _classifier(truth[index], skill, rng)
        one = Predictions(index=index, group=group, **made)
        metrics |= {f"{part}_{key}": value for key, value in metrics_of(one).items()} | {f"{part}_loss": rng.random()}
        fields = {"index": index, "group": group, **made}
        arrays |= {f"{part}_{key}": array for key, array in fields.items() if array is not None}
    home = folder / "members" / name
    home.mkdir(parents=True)
    if predictions and name not in failed:
        np.savez_compressed(home / "predictions.npz", allow_pickle=False, **arrays)
    selection = {"metric": "val_rmse" if regression else "val_f1_macro", "epoch": 3}
    lost = name in failed
    return {
        "id": name, "variant": variant, "seed": seed, "fold": fold, "epochs": 5, "selection": selection, "stopped": "",
        "status": "failed" if lost else "finished", "metrics": {} if lost else metrics,
    }  # fmt: skip


def _classifier(y: np.ndarray, skill: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    probability = rng.dirichlet(np.full(CLASSES, 0.7), len(y))
    good = rng.random(len(y)) < skill
    probability[good, y[good]] += 1.5
    probability = (probability / probability.sum(axis=1, keepdims=True)).astype(np.float32)
    return {"y": y, "prediction": probability.argmax(axis=1), "probability": probability}


def _regressor(y: np.ndarray, skill: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"y": y, "prediction": y + rng.normal(0, 1.2 - skill, len(y))}


def _summary(
    run: str, members: list[dict[str, Any]], variants: Sequence[str], metric: str, task: str, data: str,
    splits: dict[Any, dict[str, list[int]]], redrawn: bool,
) -> dict[str, Any]:  # fmt: skip
    tables = []
    for variant in variants:
        own = [m for m in members if m["variant"] == variant and m["status"] != "failed"]
        names = list(own[0]["metrics"]) if own else []
        metrics = {
            name: _interval([(m["seed"], m["fold"], m["metrics"][name]) for m in own], name, redrawn) for name in names
        }
        tables.append({"name": variant, "members": len(own), "metrics": metrics})
    return {
        "schema_version": 1, "run": run, "task": task, "model": "gru", "data": data, "status": "finished",
        "failed": [m["id"] for m in members if m["status"] == "failed"], "variant": variants[0],
        "metrics": tables[0]["metrics"], "variants": tables if len(tables) > 1 else [], "members": members,
        "ensemble": {}, "test_openings": 1, "seconds": 3.0,
    }  # fmt: skip


def _interval(scores: list[Any], name: str, redrawn: bool) -> dict[str, Any]:
    found = summarise(scores, 70, 30, redrawn=redrawn, fixed_part=name.startswith("test_"))
    bounds = None if found.low is None else [found.low, found.high]
    return {"mean": found.mean, "std": found.std, "ci95": bounds, "n": found.n, "method": found.method}
