"""The form of the files of a run, judged when they are read: a run folder may come from someone else.

What stands in a file is checked once, here, so that whoever reads on finds the types that were written. Names of
members and cohorts become paths, so they are one plain component. Unknown keys are passed over, and what may be
missing is: whoever needs it says so.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from paceline.errors import RunError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,249}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Size = Annotated[int, Field(ge=0, lt=2**31)]


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, protected_namespaces=())


class _CohortEntry(_Form):
    id: Name
    members: Annotated[list[Name], Field(min_length=1)]
    engine: Literal["eager", "cohort", "estimator"] = "eager"
    compile: bool = False
    batches: Literal["whole", "cut", "by_length"] = "whole"
    micro_batches: list[Annotated[list[Count], Field(min_length=2, max_length=2)]] = []
    device: str = ""


class _PlanFile(_Form):
    cohorts: Annotated[list[_CohortEntry], Field(min_length=1)]
    device: str = ""
    threads: Annotated[int, Field(ge=1, le=4096)] = 1
    processes: Annotated[int, Field(ge=1, le=4096)] = 1
    changes: list[dict[str, Any]] = []
    schema_version: int = 1


class _UsedFile(_Form):
    file: str
    sha256: str


class _InitialEntry(_Form):
    file: str
    sha256: str
    copy_of: Annotated[str, Field(alias="copy", pattern=r"^init/[0-9a-f]{16}\.pt$")]


class _EnvironmentFile(_Form):
    run_id: str = ""
    use: list[_UsedFile] = []
    config: dict[str, Any] = {}
    scope: dict[str, Any] | None = None
    init_from: dict[Name, _InitialEntry] = {}


class _AuditEntry(_Form):
    name: str
    ok: bool
    detail: str


class _SplitEntry(_Form):
    fold: Count | None = None
    n_folds: Count | None = None
    seed: Count | None = None
    train: list[Count] = []
    val: list[Count] = []
    test: list[Count] = []
    audit: list[_AuditEntry] = []


class _SplitsFile(_Form):
    schema_version: int
    fingerprint: str
    rule: str = ""
    seed: Count | None = None
    n: Count = 0
    classes: list[str | int] = []
    splits: Annotated[list[_SplitEntry], Field(min_length=1)]


class _MemberEntry(_Form):
    id: Name
    status: str


class _SummaryFile(_Form):
    failed: list[Name] = []
    members: list[_MemberEntry] = []
    metrics: dict[str, dict[str, Any]] = {}


class _SelectionEntry(_Form):
    epoch: Count


class _OutcomeEntry(_Form):
    id: Name
    status: str
    reason: str
    selection: _SelectionEntry


class _OutcomeFile(_Form):
    members: list[_OutcomeEntry]


class _ModelFile(_Form):
    name: str
    sha256: str


class _ScalesEntry(_Form):
    target_mean: float = 0.0
    target_std: float = 1.0
    time_step: float = 1.0


class _WeightsFile(_Form):
    """`best.pt` and `latest.pt`; that of an estimator has no tensors, and names the file of its model."""

    model_state_dict: dict[str, Any]
    model_file: _ModelFile | None = None
    config: dict[str, Any]
    epoch: Count
    metrics: dict[str, Any]
    classes: list[str | int]
    class_counts: list[Count]
    channels: list[str]
    shapes: dict[str, list[Size]]
    scales: _ScalesEntry | None = None
    preparation: dict[str, Any] | None
    reading: dict[str, Any]
    decision: dict[str, Any] | None = None


SCHEMAS: Mapping[str, Any] = {
    "plan.json": _PlanFile,
    "environment.json": _EnvironmentFile,
    "splits.json": _SplitsFile,
    "summary.json": _SummaryFile,
    "history.json": dict[str, list[Any]],
    ".done": _OutcomeFile,
    ".died": _OutcomeFile,
    ".pt": _WeightsFile,
}


def check_schema(content: object, name: str, where: str) -> None:
    """Raise RunError, naming the key, unless a file's content is of the form that its name promises."""
    path = PurePath(name)
    adapter = _adapter(path.name if path.name in SCHEMAS else path.suffix)
    if adapter is None:
        return
    try:
        adapter.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"][0].lower() + first["msg"][1:]
        if first["type"] == "string_pattern_mismatch":
            message = "this is no plain name of a member or cohort"
        raise RunError(f"{path.name} of the run is damaged: {message}", where=f"{where}: {key}" if key else where,
                       got=None if first["type"] == "missing" else first["input"]) from None  # fmt: skip


@functools.cache
def _adapter(kind: str) -> TypeAdapter[Any] | None:
    return TypeAdapter(SCHEMAS[kind]) if kind in SCHEMAS else None
