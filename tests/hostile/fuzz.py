"""The fuzzer: mutated configs, states, run folders and data files, each used as a user would use it."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console

from paceline.api.checkpoints import checkpoints
from paceline.api.runs import configure, resume
from paceline.api.using import evaluate, predict
from paceline.checkpoint.state import read_state
from paceline.checkpoint.store import Store
from paceline.recipes.pain.challenge import Challenge
from paceline.recipes.pain.data import Npz
from paceline.recipes.pain.ts import Ts
from paceline.report import write
from paceline.report.compare import compare
from paceline.report.compare_page import write_comparison_page
from paceline.report.compare_text import comparison_text
from paceline.report.files import read
from paceline.report.findings import findings
from paceline.report.leaderboard import leaderboard
from paceline.report.leaderboard_page import leaderboard_text, write_index
from paceline.report.table import terminal_tables
from paceline.run.build import build, load
from paceline.run.folder import open_run
from tests.hostile.jail import Case
from tests.hostile.material import OVERRIDES, Material, forge
from tests.hostile.mutate import NAMES, NUMBERS, damaged, mutated, value

Act = Callable[[Path, random.Random, Material], object]


def warm(material: Material, folder: Path) -> None:
    """Do everything once with files as they should be, so that a forked child imports nothing any more."""
    for engine in ("eager", "cohort"):
        run = material.copy_run(engine, folder)
        for act in (_shown, _listed, _compared, _predicted, _evaluated, _checked):
            act(run, material)
        resume(material.copy_run(engine, folder / "unfinished", finished=False))
    resolved, recipe = configure(config=material.folder / "runs" / "eager" / "config.yaml")
    build(resolved, recipe)
    (folder / "model").mkdir()
    (folder / "model" / "own.yaml").write_text("name: gru\n")
    configure("pain", ["model=own"], config_dir=folder)
    load(Ts(path=str(material.folder / "data.ts")))
    load(Challenge(path=str(material.folder / "long.csv"), labels=str(material.folder / "labels.csv")))
    shutil.copy(material.folder / "scores.csv", folder / "other.csv")
    _print(comparison_text(compare([str(material.folder / "scores.csv"), str(folder / "other.csv")])))


def cases(material: Material, seed: int, number: int) -> Iterator[Case]:
    """Yield as many cases as asked for, the kinds in turn by their weights."""
    kinds = [kind for kind, weight in KINDS.items() for _ in range(weight)]
    for i in range(number):
        kind = kinds[i % len(kinds)]
        yield Case(f"{kind.__name__} {seed}-{i}", _bound(kind, material, f"{seed}-{i}"))


def _bound(kind: Act, material: Material, seed: str) -> Callable[[Path], object]:
    return lambda folder: kind(folder, random.Random(seed), material)


def config_file(folder: Path, draw: random.Random, material: Material) -> None:
    """A `config.yaml`, given with --config; sometimes everything is built from it, short of training."""
    text = _config_text(material.folder / "runs" / draw.choice(["eager", "cohort"]) / "config.yaml", draw)
    (folder / "config.yaml").write_bytes(text)
    resolved, recipe = configure(config=folder / "config.yaml")
    build(resolved, recipe)


def _config_text(path: Path, draw: random.Random) -> bytes:
    text = path.read_bytes()
    if draw.random() < 0.3:
        return damaged(text, draw)
    tree = mutated(yaml.safe_load(text), draw)
    style = draw.choice([None, True, False])
    return _dumped(tree, default_flow_style=style, allow_unicode=draw.random() < 0.5)


def _dumped(tree: Any, **style: Any) -> bytes:
    try:
        made: bytes = yaml.safe_dump(tree, encoding="utf-8", **style)
    except RecursionError:  # which goes only so deep
        return b"- " * 300
    return made


OPTIONS: dict[str, dict[str, Any]] = {
    "model": {"name": "gru", "hidden_size": 4, "bidirectional": False, "dropout": 0.1},
    "data": {"name": "npz", "path": "data.npz", "split": {"seed": 1, "val_fraction": 0.2}, "scale": "none"},
    "training": {"num_epochs": 2, "learning_rate": 1e-3, "selection": {"metric": "val_loss"}},
    "loss": {"name": "focal", "gamma": 2.0},
    "tracking": {"tensorboard": {"enabled": True, "tags": {"val_loss": "loss"}}},
}


def option_file(folder: Path, draw: random.Random, material: Material) -> None:
    """A group's option in a config folder."""
    group, tree = draw.choice(list(OPTIONS.items()))
    if draw.random() < 0.4:
        tree = {
            **tree,
            "defaults": draw.choice([["_self_"], ["own"], [{"/model": "gru"}], [{"override /loss": "focal"}]]),
        }
    text = _dumped(mutated(tree, draw))
    (folder / group).mkdir()
    (folder / group / "own.yaml").write_bytes(damaged(text, draw) if draw.random() < 0.4 else text)
    configure("pain", [f"{group}=own"], config_dir=folder)


def argument(folder: Path, draw: random.Random, material: Material) -> None:
    """Words on the command line."""
    keys = ["training.num_epochs", "model", "data.path", "members.seeds", "members.vary.model", "device", "x.y"]
    text = f"{draw.choice(keys)}={draw.choice([*NAMES, *map(str, NUMBERS)])}"
    if draw.random() < 0.5:
        text = damaged(text.encode("utf-8", "replace"), draw).decode("utf-8", "replace")
    configure("pain", [text])


RUN_FILES = (
    "config.yaml", "plan.json", "splits.json", "environment.json", "summary.json", "lineage.json", "log.jsonl",
    "logs/{cohort}.jsonl", "logs/{cohort}.timing.csv", "logs/{cohort}.done", "members/seed42/overrides.yaml",
    "members/seed42/history.json", "members/seed42/decision.json", "members/seed42/predictions.npz",
    "members/seed42/best.pt", "checkpoints/{cohort}/step-4/manifest.json", "checkpoints/{cohort}/step-4/state.pt",
)  # fmt: skip


def run_file(folder: Path, draw: random.Random, material: Material) -> None:
    """One file of a run folder, and one command."""
    run = _changed_run(folder, draw, material)
    draw.choice([_shown, _listed, _compared, _predicted, _evaluated, _checked])(run, material)


def run_to_resume(folder: Path, draw: random.Random, material: Material) -> None:
    """One file of a run that is not finished; it goes on."""
    resume(_changed_run(folder, draw, material, finished=False))


def _changed_run(folder: Path, draw: random.Random, material: Material, *, finished: bool = True) -> Path:
    engine = draw.choice(["eager", "cohort"])
    run = material.copy_run(engine, folder, finished=finished)
    cohort = next((run / "checkpoints").iterdir()).name
    path = run / draw.choice(RUN_FILES).format(cohort=cohort)
    data = path.read_bytes() if path.exists() else b'{"schema_version": 1, "changes": []}'
    path.write_bytes(_changed_content(path.name, data, draw))
    return run


def _changed_content(name: str, data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.3 or not name.endswith((".json", ".yaml", ".done", ".jsonl")):
        return damaged(data, draw)
    if name.endswith(".yaml"):
        return _dumped(mutated(yaml.safe_load(data), draw))
    if name.endswith(".jsonl"):
        lines = data.decode().splitlines()
        at = draw.randrange(len(lines))
        lines[at] = json.dumps(mutated(json.loads(lines[at]), draw))
        return ("\n".join(lines) + "\n").encode()
    return json.dumps(mutated(json.loads(data), draw)).encode()


def _shown(run: Path, material: Material) -> None:
    write(open_run(run).path)
    files = read(run)
    _print(terminal_tables(files.summary, findings(files, most=3)))


def _listed(run: Path, material: Material) -> None:
    found = leaderboard(run.parent)
    _print(leaderboard_text(found))
    write_index(found)


def _compared(run: Path, material: Material) -> None:
    found = compare([str(run), str(material.folder / "runs" / "eager")])
    _print(comparison_text(found))
    write_comparison_page(found, run.parent / "compare.html")


def _predicted(run: Path, material: Material) -> None:
    predict(run, material.folder / "data.npz", output=run.parent / "out.csv")


def _evaluated(run: Path, material: Material) -> None:
    evaluate(run)


def _checked(run: Path, material: Material) -> None:
    made = open_run(run)
    assert [made.config, made.members, made.summary, made.id, made.history(), made.best(), made.member_config("seed42")]
    checkpoints(run)


def _print(parts: Any) -> None:
    console = Console(file=io.StringIO(), width=80)
    for part in parts:
        console.print(part)


def _new_in_state(draw: random.Random) -> Any:
    if draw.random() < 0.5:
        return value(draw)
    shape = draw.choice([(), (0,), (1,), (4,), (3, 4), (2, 12, 2), (100, 100)])
    kind = draw.choice([torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16, torch.complex64])
    return torch.full(shape, draw.choice([0, 1, 255, -1, 10**9]) if kind != torch.bool else 1).to(kind)


def state(folder: Path, draw: random.Random, material: Material) -> None:
    """A checkpoint of other content, whole and with a true manifest; the run goes on from it."""
    engine = draw.choice(["eager", "cohort"])
    run = material.copy_run(engine, folder, finished=False)
    store = Store(next((run / "checkpoints").iterdir()))
    step = store.steps()[-1]
    with suppress(RecursionError):  # pickle itself goes only so deep
        forge(store.folder / f"step-{step}", mutated(store.load(step), draw, _new_in_state))
    resume(run)


def weights(folder: Path, draw: random.Random, material: Material) -> None:
    """A `best.pt` of other content; it predicts."""
    run = material.copy_run("eager", folder)
    path = run / "members" / "seed42" / "best.pt"
    buffer = io.BytesIO()
    with suppress(RecursionError):
        torch.save(mutated(read_state(path), draw, _new_in_state), buffer)
        path.write_bytes(buffer.getvalue())
    draw.choice([_predicted, _evaluated, _checked])(run, material)


def raw_state(folder: Path, draw: random.Random, material: Material) -> None:
    """A `.pt` file with damaged bytes and no checksum to tell."""
    path = material.folder / "runs" / "eager" / "checkpoints" / "seed42" / "step-4" / "state.pt"
    (folder / "state.pt").write_bytes(damaged(path.read_bytes(), draw))
    read_state(folder / "state.pt")


def npz(folder: Path, draw: random.Random, material: Material) -> None:
    """An .npz file: its bytes, or arrays of another kind or shape."""
    data = (material.folder / "data.npz").read_bytes()
    if draw.random() < 0.5:
        data = damaged(data, draw)
    else:
        with np.load(material.folder / "data.npz") as stored:
            arrays: dict[str, Any] = dict(stored)
        name = draw.choice([*arrays, "lengths", "group", "time", "classes", "test"])
        arrays[name] = _array(draw, arrays.get(name))
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        data = buffer.getvalue()
    (folder / "data.npz").write_bytes(data)
    load(Npz(path=str(folder / "data.npz"), missing=draw.choice(["refuse", "mask"])))


def _array(draw: random.Random, old: Any) -> Any:
    kind = draw.randrange(5)
    if kind == 0 and old is not None:
        return old[draw.choice([slice(0, 0), slice(0, 1), slice(None, None, -1), slice(0, 10)])]
    if kind == 1 and old is not None:
        return np.asarray(old).reshape(draw.choice([(1, -1), (-1,), (-1, 1)]))
    if kind == 2:
        return np.array([draw.choice(NAMES) for _ in range(60)])
    if kind == 3:
        numbers = np.array([draw.choice(NUMBERS[:8]) for _ in range(60)])
        return numbers.astype(draw.choice(["f2", "f8", "i1", "u8", "?"]))
    made = draw.choice([np.nan, np.inf, -1, 2**62, 1e300, "2020-01-01", b"x", 1j, None])
    return np.array([made] * 60, dtype="datetime64[D]" if made == "2020-01-01" else None)


def csv_long(folder: Path, draw: random.Random, material: Material) -> None:
    """The long CSV of features, or that of labels."""
    for name in ("long.csv", "labels.csv"):
        (folder / name).write_bytes((material.folder / name).read_bytes())
    path = folder / draw.choice(["long.csv", "labels.csv"])
    path.write_bytes(damaged(path.read_bytes(), draw))
    kind: Any = draw.choice(["even", "ordered"])
    missing: Any = draw.choice(["refuse", "mask"])
    load(Challenge(path=str(folder / "long.csv"), labels=str(folder / "labels.csv"), steps=kind, missing=missing))


def ts(folder: Path, draw: random.Random, material: Material) -> None:
    """A .ts file."""
    (folder / "data.ts").write_bytes(damaged((material.folder / "data.ts").read_bytes(), draw))
    load(Ts(path=str(folder / "data.ts"), missing=draw.choice(["refuse", "mask"])))


def input_file(folder: Path, draw: random.Random, material: Material) -> None:
    """New input to predict."""
    run = material.copy_run("eager", folder)
    name = draw.choice(["data.npz", "long.csv", "data.ts"])
    (folder / name).write_bytes(damaged((material.folder / name).read_bytes(), draw))
    predict(run, folder / name, output=folder / "out.csv")


def scores(folder: Path, draw: random.Random, material: Material) -> None:
    """A CSV of scores to compare."""
    for name in ("a.csv", "b.csv"):
        (folder / name).write_bytes(damaged((material.folder / "scores.csv").read_bytes(), draw))
    found = compare([str(folder / "a.csv"), str(folder / "b.csv")])
    _print(comparison_text(found))


KINDS: dict[Act, int] = {
    config_file: 5, option_file: 2, argument: 1, run_file: 3, run_to_resume: 2, state: 3, weights: 2, raw_state: 1,
    npz: 2, csv_long: 2, ts: 1, input_file: 1, scores: 1,
}  # fmt: skip
__all__ = ["KINDS", "OVERRIDES", "Counter", "cases"]
