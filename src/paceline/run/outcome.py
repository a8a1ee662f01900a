"""How each cohort ended: `logs/<cohort>.done`, or `.died` where its worker did and `paceline resume` tries again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from paceline.errors import RunError
from paceline.run.folder import Run, write_json
from paceline.run.publish import write_history
from paceline.track.journal import read_journal
from paceline.train.cohort import Progress, Status
from paceline.train.selection import Selector
from paceline.types import Cohort

if TYPE_CHECKING:
    from paceline.run.build import Prepared

LOG = logging.getLogger("paceline")


class Ended(Protocol):
    """What a learner can say of a cohort whose training is over; an entry per member."""

    @property
    def members(self) -> Sequence[str]: ...

    @property
    def progress(self) -> Sequence[Progress]: ...

    @property
    def selectors(self) -> Sequence[Selector]: ...


def is_done(run: Run, cohort: Cohort) -> bool:
    """Whether the cohort's training is over and published."""
    return _path(run, cohort, "done").is_file()


def note_end(run: Run, cohort: Cohort, trained: Ended) -> None:
    """Write down how every member ended. From here on the cohort is done."""
    members = zip(trained.members, trained.progress, trained.selectors, strict=True)
    _write(run, cohort, "done", [
        {"id": name, "status": str(p.status), "reason": p.reason, "selection": selector.record()}
        for name, p, selector in members
    ])  # fmt: skip
    _path(run, cohort, "died").unlink(missing_ok=True)


def note_death(run: Run, prepared: Prepared, cohort: Cohort, how: str) -> None:
    """Write down that a cohort's worker died, twice, and with it these members."""
    LOG.warning("the worker of %s died twice (%s): its members count as failed; paceline resume %s tries again",
                cohort.id, how, run.path)  # fmt: skip
    rows = journal_rows(run, cohort)
    jobs = [job for job in prepared.jobs if job.member.id in cohort.members]
    for job in jobs:
        folder = run.member_folder(job.member.id)
        folder.mkdir(parents=True, exist_ok=True)
        write_history(folder, [row for row in rows if row["member"] == job.member.id])
    _write(run, cohort, "died", [
        {"id": job.member.id, "status": str(Status.FAILED), "reason": f"its worker died: {how}",
         "selection": Selector(job.config.training.selection, job.config.training.early_stopping).record()}
        for job in jobs
    ])  # fmt: skip


def train_again(run: Run, cohorts: Sequence[str]) -> None:
    """Count cohorts that are done as not done, and the run as not finished."""
    for name in cohorts:
        (run.path / "logs" / f"{name}.done").unlink()
        (run.path / "summary.json").unlink(missing_ok=True)


def outcomes(run: Run, cohort: Cohort) -> list[dict[str, Any]]:
    """Return id, status, reason and selection of every member of a cohort that ended."""
    for kind in ("done", "died"):
        if _path(run, cohort, kind).is_file():
            members: list[dict[str, Any]] = run.read_json(f"logs/{cohort.id}.{kind}")["members"]
            return members
    raise RunError("the run has not finished", where=str(run.path), hint=f"paceline resume {run.path}")


def journal_rows(run: Run, cohort: Cohort) -> list[dict[str, Any]]:
    """Return the records of a cohort, none where its training never began."""
    path = run.path / "logs" / f"{cohort.id}.jsonl"
    return list(read_journal(path)) if path.is_file() else []


def _write(run: Run, cohort: Cohort, kind: str, members: list[dict[str, Any]]) -> None:
    write_json(_path(run, cohort, kind), {"schema_version": 1, "members": members})


def _path(run: Run, cohort: Cohort, kind: str) -> Path:
    return run.path / "logs" / f"{cohort.id}.{kind}"
