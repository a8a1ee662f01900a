"""The plan: a deterministic rule over static facts, never a stopwatch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from paceline.errors import RunError
from paceline.types import Cohort, Member, Plan

if TYPE_CHECKING:
    import torch

    from paceline.run.config import RunConfig


def make_plan(members: Sequence[tuple[Member, RunConfig]], device: torch.device) -> Plan:
    """Return the plan: the eager engine, one member after another, on all cores unless `numerics.threads` says else."""
    config = members[0][1]
    threads = config.numerics.threads
    return Plan(
        cohorts=tuple(Cohort(id=member.id, members=(member.id,)) for member, _ in members),
        device=str(device),
        threads=(os.cpu_count() or 1) if threads == "auto" else threads,
    )


def members_of(plan: Plan) -> set[str]:
    """Return the ids of all members that the plan trains."""
    return {member for cohort in plan.cohorts for member in cohort.members}


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as plain values."""
    return asdict(plan)


def plan_from_json(content: Mapping[str, Any], where: str) -> Plan:
    """Read a plan back. Raises RunError when it is not one."""
    try:
        cohorts = tuple(Cohort(id=c["id"], members=tuple(c["members"]), engine=c["engine"]) for c in content["cohorts"])
        rest = {key: value for key, value in content.items() if key not in ("cohorts", "changes")}
        return Plan(cohorts=cohorts, changes=tuple(content["changes"]), **rest)
    except (KeyError, TypeError) as error:
        raise RunError("the plan cannot be read", where=where, got=repr(error)) from None
