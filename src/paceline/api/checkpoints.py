"""The checkpoints of a run: verify them, list them, prune them, publish the weights for other programs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paceline.api.runs import PathLike
from paceline.api.using import refuse_unfinished
from paceline.checkpoint.safetensors import write_safetensors
from paceline.checkpoint.store import Store, read_state
from paceline.errors import CheckpointError
from paceline.run.fitted import check_text
from paceline.run.folder import Run, open_run, write_json
from paceline.run.plan import plan_from_json

SCHEMA_VERSION = 1
WEIGHTS, BESIDE = "model.safetensors", "model.json"
_SAID_BESIDE = (
    "member", "epoch", "step", "metrics", "selection", "config", "classes", "class_counts", "channels", "shapes",
    "scales", "scaler", "preparation", "decision",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Found:
    """One checkpoint, or one file of weights, as it was found. `step` is None for a file.

    problem: what is wrong with it; None when it is as it was written. aside: a damaged one that a resume has put aside.
    seconds: when it was written, since 1970.
    """

    owner: str
    path: Path
    bytes: int
    seconds: float
    problem: str | None
    step: int | None = None
    aside: bool = False


def checkpoints(run: Run | PathLike) -> list[Found]:
    """Read every checkpoint of every cohort of a run, by cohort and step; raises RunError where there is no run."""
    run = run if isinstance(run, Run) else open_run(run)
    return [found for cohort, store in _stores(run) for found in _of_store(cohort, store)]


def published(run: Run | PathLike) -> list[Found]:
    """Read the `best.pt` and `latest.pt` of every member that has them."""
    run = run if isinstance(run, Run) else open_run(run)
    paths = [(m, run.member_folder(m) / name) for m in run.members for name in ("best.pt", "latest.pt")]
    return [_described(member, path, _file_problem(path)) for member, path in paths if path.is_file()]


def verify(run: Run | PathLike) -> list[Found]:
    """Return what is damaged among the checkpoints and the files of weights; those put aside do not count."""
    return [found for found in (*checkpoints(run), *published(run)) if found.problem is not None and not found.aside]


def prune(run: Run | PathLike, keep_last: int) -> dict[str, list[int]]:
    """Remove all but the last `keep_last` (at least 1) verified steps of every cohort; return which, by cohort.

    Raises CheckpointError for less than one.
    """
    if keep_last < 1:
        raise CheckpointError("the last good checkpoint stays", where="keep_last", got=keep_last, hint="1 or more")
    run = run if isinstance(run, Run) else open_run(run)
    return {cohort: store.prune(keep_last) for cohort, store in _stores(run)}


def publish(run: Run | PathLike, out: PathLike | None = None) -> list[Path]:
    """Write every member's best weights for other programs, into `<out>/<member>/`; return these folders.

    `model.safetensors` has the weights, `model.json` what else is needed to use them: config, classes, channels,
    scaler, metrics, selection. out: by default `<run>/published`. Raises RunError before the run has finished,
    CheckpointError for a model that holds something other than tensors.
    """
    run = run if isinstance(run, Run) else open_run(run)
    refuse_unfinished(run, run.members)
    folders = []
    for member in run.members:
        best = run.best(member)
        if best.get("model_file"):
            text = run.member_folder(member) / best["model_file"]["name"]
            raise CheckpointError("the model has no tensors to publish", where=str(run.path), got=member,
                                  hint=f"its text: {text}")  # fmt: skip
        folder = (run.path / "published" if out is None else Path(out)) / member
        folder.mkdir(parents=True, exist_ok=True)
        metadata = {"format": "pt", "run": run.name, "member": member}
        write_safetensors(folder / WEIGHTS, best["model_state_dict"], metadata)
        said = {name: _plain(best[name]) for name in _SAID_BESIDE if name in best}
        write_json(folder / BESIDE, {"schema_version": SCHEMA_VERSION, "run": run.name, **said})
        folders.append(folder)
    return folders


def _stores(run: Run) -> Iterator[tuple[str, Store]]:
    plan = plan_from_json(run.read_json("plan.json"), where=str(run.path / "plan.json"))
    for cohort in plan.cohorts:
        yield cohort.id, Store(run.path / "checkpoints" / cohort.id)


def _of_store(cohort: str, store: Store) -> Iterator[Found]:
    for step in store.steps():
        problem = store.verify(step)
        with suppress(FileNotFoundError):  # a run that trains has removed it meanwhile
            for path in store.folders(step)[:1]:
                yield _described(cohort, path, problem, step=step)
    for path in store.set_aside():
        step = int(path.name.split("-")[1].partition(".")[0])
        yield _described(cohort, path, "set aside by a resume", step=step, aside=True)


def _described(owner: str, path: Path, problem: str | None, *, step: int | None = None, aside: bool = False) -> Found:
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    size, written = sum(file.stat().st_size for file in files), path.stat().st_mtime
    return Found(owner=owner, path=path, bytes=size, seconds=written, problem=problem, step=step, aside=aside)


def _file_problem(path: Path) -> str | None:
    try:
        check_text(path.parent, read_state(path))
    except CheckpointError as error:
        return error.what + (f" ({error.got})" if error.got else "")
    return None


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
