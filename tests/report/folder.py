"""Writes a synthetic run folder for the tests of the report: curves that look like training, all numbers seeded."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = tuple(f"speaker_{index}" for index in range(1, 10))
COVERS = "variation of training alone, not of the data"
T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 9: 2.306, 10: 2.262, 60: 2.001}


def write_folder(
    folder: Path,
    *,
    run: str = "vowels-conv-gru",
    seeds: int = 5,
    folds: int | None = None,
    variants: tuple[str, ...] = ("",),
    classes: tuple[str, ...] = CLASSES,
    channels: tuple[str, ...] = ("lpc_1", "lpc_2"),
    epochs: int = 40,
    regression: bool = False,
    test: bool = True,
    predictions: bool = True,
    leave_out: tuple[str, ...] = (),
) -> Path:
    """Write all files that the report reads (less those in `leave_out`) and return the folder.

    The members' predictions and the summary are drawn apart: their figures do not agree.
    """
    members: list[dict[str, Any]] = []
    folder.mkdir(parents=True, exist_ok=True)
    for variant in variants:
        for seed in range(42, 42 + seeds):
            for fold in [None] if folds is None else range(folds):
                members.append(_member(folder, variant, seed, fold, epochs, regression, test))
                if predictions:
                    outputs = 0 if regression else len(classes)
                    _predictions(folder / "members" / members[-1]["id"], seed, fold, outputs, test)
    summary = _summary(run, members, classes, regression, test)
    files = {
        "summary.json": json.dumps(summary),
        "config.yaml": _config(run, seeds, channels),
        "plan.json": json.dumps(_plan(members)),
        "environment.json": json.dumps(_environment(run)),
        "splits.json": json.dumps(_splits(classes, folds, regression)),
    }
    for name, text in files.items():
        if name not in leave_out:
            (folder / name).write_text(text, encoding="utf-8")
    return folder


def change(folder: Path, name: str, **values: Any) -> None:
    """Replace top-level keys of one JSON file."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def _member(
    folder: Path, variant: str, seed: int, fold: int | None, epochs: int, regression: bool, test: bool
) -> dict[str, Any]:
    noise = random.Random(f"{variant} {seed} {fold}")
    name = "-".join(part for part in (variant, f"seed{seed}", "" if fold is None else f"fold{fold}") if part)
    last = epochs if epochs < 10 else epochs - noise.randrange(epochs // 4)
    metric, mode = ("val_rmse", "min") if regression else ("val_f1_macro", "max")
    speed = noise.uniform(0.16, 0.26) * (0.7 if variant == "gru" else 1.0)
    steps = list(range(1, last + 1))
    train = [2.2 * math.exp(-speed * e) + 0.012 * math.exp(noise.gauss(0, 0.25)) for e in steps]
    val = [2.2 * math.exp(-0.9 * speed * e) + 0.06 + 0.0009 * e + 0.01 * noise.random() for e in steps]
    score = [0.985 - 0.8 * math.exp(-1.3 * speed * e) + noise.gauss(0, 0.012) for e in steps]
    raw = [4.0 * (1.05 - s) for s in score] if regression else [min(1.0, s) for s in score]
    smoothed = _smooth(raw)
    pick = min if mode == "min" else max
    best, raw_best = pick(smoothed), pick(raw)
    at, raw_at = smoothed.index(best), raw.index(raw_best)
    history = {"epoch": steps, "step": [9 * e for e in steps], "train_loss": train, "val_loss": val, metric: raw}
    history |= {f"{metric}_smoothed": smoothed, "lr": [1e-3] * last}
    path = folder / "members" / name / "history.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(history), encoding="utf-8")
    bases = ("rmse", "mae", "loss") if regression else ("accuracy", "f1_macro", "log_loss", "loss")
    typical = {"accuracy": 0.986, "f1_macro": 0.984, "log_loss": 0.07, "loss": 0.07, "rmse": 0.31, "mae": 0.22}
    parts = ("val", "test") if test else ("val",)
    metrics = {f"{part}_{base}": typical[base] + noise.gauss(0, 0.003) for part in parts for base in bases}
    word = "lowest" if mode == "min" else "highest"
    reason = f"epoch {at + 1} has the {word} EMA of the running median of {metric} ({best:.4g})"
    reason += f"; the raw best was epoch {raw_at + 1} ({raw_best:.4g})" if at != raw_at else ""
    selection = {"metric": metric, "mode": mode, "smoothing": "median_ema", "epoch": at + 1, "step": 9 * (at + 1)}
    selection |= {"value": raw[at], "smoothed": best, "raw_best_epoch": raw_at + 1, "raw_best_value": raw_best}
    stopped = "" if last == epochs else "no improvement for 8 evaluations"
    return {
        "id": name,
        "seed": seed,
        "fold": fold,
        "variant": variant,
        "status": "stopped" if stopped else "finished",
        "epochs": last,
        "selection": {**selection, "reason": reason},
        "stopped": stopped or f"all {epochs} epochs done",
        "metrics": metrics,
    }


def _predictions(folder: Path, seed: int, fold: int | None, n_classes: int, test: bool) -> None:
    """Classes: 5 % wrong, and a confidence to match. Numbers: where there are no classes."""
    rng = np.random.default_rng([seed, fold or 0])
    truth = np.random.default_rng(7)
    labels, targets = truth.integers(0, n_classes or 2, 640), truth.normal(size=640)
    arrays: dict[str, np.ndarray] = {}
    for part, index in (("val", val_of(fold)), *([("test", np.arange(270, 640))] if test else [])):
        arrays[f"{part}_index"] = index
        if not n_classes:
            arrays |= {f"{part}_y": targets[index]}
            arrays |= {f"{part}_prediction": targets[index] + rng.normal(0, 0.3, len(index))}
            continue
        y = labels[index]
        decided = np.where(rng.random(len(index)) < 0.05, (y + 1) % n_classes, y)
        logits = rng.normal(0, 0.6, (len(index), n_classes))
        logits[np.arange(len(index)), decided] = 3 + rng.random(len(index))
        probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        arrays |= {f"{part}_y": y, f"{part}_prediction": probability.argmax(axis=1)}
        arrays |= {f"{part}_probability": probability.astype(np.float32)}
    np.savez(folder / "predictions.npz", allow_pickle=False, **arrays)


def val_of(fold: int | None) -> np.ndarray:
    """The validation samples of a fold, or of the one split."""
    return (np.arange(54) + 54 * (fold or 0)) % 270


def _smooth(raw: list[float], alpha: float = 0.3) -> list[float]:
    """Running median of three, then an exponential average."""
    medians = [sorted(raw[max(0, i - 2) : i + 1])[len(raw[max(0, i - 2) : i + 1]) // 2] for i in range(len(raw))]
    smoothed = medians[:1]
    for value in medians[1:]:
        smoothed.append(alpha * value + (1 - alpha) * smoothed[-1])
    return smoothed


def _summary(
    run: str, members: list[dict[str, Any]], classes: tuple[str, ...], regression: bool, test: bool
) -> dict[str, Any]:
    noise = random.Random(7)
    summary: dict[str, Any] = {"schema_version": 1, "run": run, "task": "pain", "model": "conv_gru", "data": "vowels"}
    summary |= {"status": "finished", "metrics": {}, "members": members, "test_openings": 3, "seconds": 47.3}
    names = list(dict.fromkeys(member["variant"] for member in members))
    tables = [_variant(name, [member for member in members if member["variant"] == name]) for name in names]
    summary |= {"variant": names[0], "metrics": tables[0]["metrics"], "variants": tables if len(names) > 1 else []}
    if regression:
        return summary
    part = "test" if test else "val"
    counts = [[0] * len(classes) for _ in classes]
    for row in range(len(classes)):
        for _ in range(41 * len(members)):
            wrong = noise.random() < 0.02
            counts[row][(row + 1 + noise.randrange(2)) % len(classes) if wrong else row] += 1
    hits = [
        [counts[i][i] / max(1, sum(line)) for line in (counts[i], [r[i] for r in counts])] for i in range(len(counts))
    ]
    table = {"classes": list(classes), "recall": [h[0] for h in hits], "precision": [h[1] for h in hits]}
    table |= {"f1": [sum(h) / 2 for h in hits], "support": [sum(row) for row in counts]}
    summary |= {"per_class": {part: table}, "confusion": {part: {"classes": list(classes), "counts": counts}}}
    return summary


def _variant(name: str, members: list[dict[str, Any]]) -> dict[str, Any]:
    metrics = {key: _spread([member["metrics"][key] for member in members]) for key in members[0]["metrics"]}
    return {"name": name, "members": len(members), "metrics": metrics}


def _spread(values: list[float]) -> dict[str, Any]:
    n, mean = len(values), sum(values) / len(values)
    if n == 1:
        return {"mean": mean, "std": None, "ci95": None, "n": 1, "method": "one member: no interval"}
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = T_975.get(n, 2.0) * std / math.sqrt(n)
    return {
        "mean": mean,
        "std": std,
        "ci95": [mean - half, mean + half],
        "n": n,
        "method": f"t over {n} seeds, one split: {COVERS}",
    }


def _config(run: str, seeds: int, channels: tuple[str, ...]) -> str:
    listed = "".join(f"  - {json.dumps(name)}\n" for name in channels)
    return (
        f"run: {json.dumps(run)}\ntask: {{name: pain}}\nmodel: {{name: conv_gru, width: 64, dropout: 0.2}}\n"
        f"data:\n  name: vowels\n  channels:\n{listed}"
        "training:\n  num_epochs: 40\n  batch_size: 32\n  learning_rate: 0.002\n  optimizer: {name: adamw}\n"
        "  selection: {metric: val_f1_macro, mode: max, smoothing: median_ema, ema_alpha: 0.3}\n"
        f"members: {{seeds: {seeds}}}\n"
    )


def _plan(members: list[dict[str, Any]]) -> dict[str, Any]:
    cohorts = [{"id": f"c{i}", "members": [member["id"]], "engine": "eager"} for i, member in enumerate(members)]
    plan = {"schema_version": 1, "cohorts": cohorts, "device": "cpu", "threads": 2, "processes": 1, "compile": False}
    return plan | {"micro_batch": None, "changes": []}


def _environment(run: str) -> dict[str, Any]:
    packages = {"numpy": "2.4.1", "scipy": "1.17.0", "scikit-learn": "1.8.0", "torch": "2.13.0", "pydantic": "2.14.0"}
    command = ["paceline", "train", "task=pain", "members.seeds=5", "--name", run]
    return {
        "python": "3.12.9",
        "torch": "2.13.0",
        "platform": "Linux x86_64",
        "cpu": "AMD EPYC, 2 cores",
        "command": command,
        "packages": packages,
        "paceline": "0.1.0",
        "git_commit": None,
        "use": [{"file": "mine.py", "sha256": "0" * 64}],
        "config": {"task": {"name": "pain"}, "training": {"batch_size": 32}},
        "changed": [
            {"key": "training.batch_size", "value": 32, "default": 64},
            {"key": "members.vary.model", "value": ["gru", "conv_gru"]},
        ],
    }


def _splits(classes: tuple[str, ...], folds: int | None, regression: bool) -> dict[str, Any]:
    audit = [
        {"name": "parts are disjoint", "ok": True, "detail": "no sample in two parts"},
        {"name": "no duplicates across parts", "ok": True, "detail": "640 samples compared"},
        {"name": "classes in training", "ok": True, "detail": f"all {len(classes)} classes, 24 samples or more each"},
        {"name": "constant channels", "ok": True, "detail": "none"},
    ]
    kinds = 0 if regression else len(classes)
    splits = []
    for fold in [None] if folds is None else range(folds):
        val = val_of(fold).tolist()
        train = [index for index in range(270) if index not in set(val)]
        counts = {"train": [24] * kinds, "val": [6] * kinds, "test": [31 + 3 * index for index in range(kinds)]}
        splits.append({"fold": fold, "seed": 42, "train": train, "val": val, "test": list(range(270, 640))})
        splits[-1] |= {"class_counts": counts, "audit": audit}
    return {
        "schema_version": 1,
        "fingerprint": "sha256:" + "3fa9c1d07be24586" * 4,
        "source": "JapaneseVowels (bundled)",
        "rule": "stratified",
        "seed": 42,
        "n": 640,
        "classes": [] if regression else list(classes),
        "splits": splits,
    }
