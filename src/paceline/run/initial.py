"""Weights that a training begins with: `training.init_from`.

They are read and judged before anything is written. The run keeps a copy of its own (`init/<sha256>.pt`), so that a
resume does not need the file; what it was, with its SHA-256, is in `environment.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from paceline.checkpoint.safetensors import read_safetensors
from paceline.checkpoint.store import read_state
from paceline.errors import CheckpointError, RunError
from paceline.models.building import build_shell
from paceline.run.folder import Run, open_run
from paceline.run.use import file_sha256
from paceline.train.fitting import Misfits
from paceline.train.learner import seeded_model

if TYPE_CHECKING:
    from paceline.run.job import Job

KEY = "training.init_from"
WEIGHTS = "model_state_dict"
Weights = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Initial:
    """Where the weights of a member come from. `read` returns them."""

    file: str
    sha256: str
    read: Callable[[], Weights] = field(repr=False)

    @property
    def copy(self) -> str:
        """The run's own copy, from its folder."""
        return f"init/{self.sha256[:16]}.pt"


def begun(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs with the weights that their configs name, read and found to fit their models.

    Raises CheckpointError for a file that is missing, damaged or no weights, RunError for a run without them, and
    CheckpointMismatchError, naming tensors, for weights of another model.
    """
    known: dict[Path, Initial] = {}
    fitting: set[tuple[str, Path]] = set()  # variants, whose models are of equal shapes
    found: list[Job] = []
    for job in jobs:
        source = job.config.training.init_from
        if source is None or job.estimator is not None:
            found.append(job)
            continue
        path = _file(source, job.member.id)
        if path not in known:
            weights = _read(path)
            known[path] = Initial(file=str(path), sha256=file_sha256(path), read=partial(dict, weights))
        if (job.member.variant, path) not in fitting:
            _check(job, known[path])
            fitting.add((job.member.variant, path))
        found.append(replace(job, initial=known[path]))
    return found


def begun_again(run: Run, jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs of an existing run with the weights that it keeps. Raises RunError without a record."""
    record = run.read_json("environment.json").get("init_from", {})
    return [replace(job, initial=_kept(run, record, job.member.id)) if _begins(job) else job for job in jobs]


def to_record(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what `environment.json` has of the weights that members begin with."""
    return {
        job.member.id: {"file": job.initial.file, "sha256": job.initial.sha256, "copy": job.initial.copy}
        for job in jobs
        if job.initial is not None
    }


def copies(jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """Return the states that a run keeps, by the name of their file."""
    initials = {job.initial.copy: job.initial for job in jobs if job.initial is not None}
    return {name: {"schema_version": 1, WEIGHTS: dict(initial.read())} for name, initial in initials.items()}


def initial_model(job: Job) -> nn.Module:
    """Build a member's model, with the weights that it begins with."""
    model = seeded_model(job.build_model, job.member)
    if job.initial is not None:
        model.load_state_dict(dict(job.initial.read()))
    return model


def _begins(job: Job) -> bool:
    return job.config.training.init_from is not None and job.estimator is None


def _kept(run: Run, record: Mapping[str, Any], member: str) -> Initial:
    entry = record.get(member)
    if entry is None:
        raise RunError("the run has no record of the weights that a member begins with",
                       where=str(run.path / "environment.json"), got=member, hint="a new run")  # fmt: skip
    return Initial(file=entry["file"], sha256=entry["sha256"], read=partial(_read, run.path / entry["copy"]))


def _file(source: str, member: str) -> Path:
    """Return the file that a source means: itself, or in a run's folder that of its only member, or of the same id."""
    path = Path(source)
    if not path.is_dir():
        return path
    run = open_run(path)
    members = run.members
    if len(members) > 1 and member not in members:
        raise RunError("the run has several members, and none of this id", where=f"{KEY}={source}", got=member,
                       hint=f"{KEY}={path / 'members' / members[0] / 'best.pt'}")  # fmt: skip
    best = run.member_folder(member if member in members else members[0]) / "best.pt"
    if not best.is_file():
        raise RunError("the run has no weights yet", where=f"{KEY}={source}", got=best.parent.name,
                       hint=f"paceline resume {path}")  # fmt: skip
    return best


def _read(path: Path) -> Weights:
    """Read a file of weights: safetensors, `best.pt`, `latest.pt`, or a state dict alone. Runs no code."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    state = read_state(path)
    weights = state.get(WEIGHTS, state)
    named = isinstance(weights, dict) and all(isinstance(value, Tensor) for value in weights.values())
    if not named or not weights:
        names = ", ".join(map(str, list(state)[:5]))
        hint = "best.pt or latest.pt of a member, a state dict, or a .safetensors file"
        raise CheckpointError("the file holds no weights", where=str(path), got=names, hint=hint)
    return dict(weights)


def _check(job: Job, initial: Initial) -> None:
    """Raise CheckpointMismatchError where weights do not fit a member's model, or are not finite."""
    model = build_shell(job.build_model) or seeded_model(job.build_model, job.member)
    own, weights, misfits = model.state_dict(), initial.read(), Misfits()
    misfits.names(weights, own)
    misfits.changed += [
        f"{name}: {tuple(weights[name].shape)}, not {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and isinstance(value, Tensor) and weights[name].shape != value.shape
    ]
    where, name = f"{KEY}={initial.file}", job.config.model.name
    if misfits.any:
        misfits.refuse(f"the weights do not fit model={name}", where=where, hint=_model_of(job, Path(initial.file)))
    bad = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise CheckpointError("the weights are not finite", where=where, got=", ".join(bad[:3]))


def _model_of(job: Job, path: Path) -> str:
    """Say by which keys a file's own model differs from a job's, where the file tells."""
    own = {} if path.suffix == ".safetensors" else read_state(path).get("config")
    theirs = own.get("model") if isinstance(own, dict) else None
    mine = job.config.tree()["model"]
    if not isinstance(theirs, dict) or theirs.get("name") != mine["name"]:
        return "the model that they are of, by model.*"
    changed = [f"model.{key}={value}" for key, value in theirs.items() if value != mine.get(key)]
    return f"{' '.join(changed[:3])}, as in the file" if changed else "data of the same shape"
