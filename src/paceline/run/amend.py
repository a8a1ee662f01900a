"""Going on under changes: what may change when a run is resumed, what has to be allowed, and what is written down."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from paceline.checkpoint.files import write_text_atomic
from paceline.checkpoint.store import Store
from paceline.config.tree import flatten, merge, read_yaml, to_yaml
from paceline.data.audit import audit, splits_from_json, splits_to_json
from paceline.data.dataset import Dataset
from paceline.data.fingerprint import fingerprint
from paceline.errors import ConfigError, DataError, RunError
from paceline.run.build import load
from paceline.run.config import RunConfig, resolve
from paceline.run.folder import Run, write_json
from paceline.run.lineage import (
    TRACKING,
    Change,
    append,
    config_changes,
    config_made_with,
    in_force,
    read_lineage,
    scope_in_force,
)
from paceline.run.outcome import is_done, outcomes, train_again
from paceline.run.plan import plan_from_json, plan_to_json
from paceline.run.recipe import Recipe
from paceline.run.scope import differing, scope_of
from paceline.run.start import check_unchanged
from paceline.train.cohort import Status
from paceline.train.runtime import resolve_device
from paceline.types import Plan

LOG = logging.getLogger("paceline")
EPOCHS = "training.num_epochs"
DECIDED = {"processes"}  # on record, but the plan says who trains with whom, wherever that is
FROM_HERE = "holds from here on: not what a run with this value from the start gives"
SAME = "changes no bit of the result"
# What may change on resume, and what then is otherwise; a name that ends in a star stands for all keys below it.
# Everything else decides shapes, samples, members, or the meaning of what is saved.
MAY_CHANGE = {
    EPOCHS: "members that stopped early stay as they are; a schedule that depends on the length follows the new one",
    "training.learning_rate": FROM_HERE,
    "training.schedule.*": FROM_HERE,
    "training.gradient_clip.*": FROM_HERE,
    "training.early_stopping.*": "a member that has stopped stays as it is",
    "training.evaluate.every_epochs": "other epochs can be selected from here on",
    "training.save.*": SAME,
    "training.log_batches": SAME,
    "training.processes": SAME,
    TRACKING: SAME,
    "numerics.threads": "sums are formed in another order",
    "device": "another device rounds otherwise",
    "data.path": "the same data at another place",
}


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What whoever resumes puts up with: another scope, other data."""

    inexact: bool = False
    changed_data: bool = False


def amend(
    run: Run, recipe: Recipe, values: Mapping[str, Any], allowed: Allowed, data: Dataset | None = None
) -> Dataset | None:
    """Bring a run's files to what it is resumed with, and write down what changed; return the data where it is loaded.

    values: config values to change, nested. Raises ConfigError for one that may not change on resume, RunError for
    another scope and DataError for other data that are not allowed; the folder is then as it was.
    """
    finish_last(run)
    check_unchanged(run)
    before = resolve(run.config, recipe)
    now = resolve(merge(run.config, values), recipe)
    changed = config_changes(before.tree(), now.tree())
    check_keys(run, changed)
    plan = planned(read_plan_of(run), now, changed)
    again = _extended(run, plan, changed)
    steps = _steps(run, plan, again)
    if changed and not steps and set(changed) != {TRACKING}:
        raise ConfigError("the run has finished, and this would change nothing", where=next(iter(changed)),
                          hint="a larger training.num_epochs trains on; or a new run")  # fmt: skip
    scope = check_scope(run, plan, allowed) if steps else {}
    if allowed.changed_data and data is None:
        data = load(now.data)
    pair = _other_data(run, data, now) if allowed.changed_data and data is not None else None
    change = Change(steps=steps, config=changed, scope=scope, data=pair)
    if change.any:
        train_again(run, again)
        append(run, change)
        finish_last(run)
        _tell(change)
    if data is not None:
        _settle_splits(run, data, now)
    return data


def amend_scope(run: Run, allowed: Allowed) -> None:
    """As `amend`, where nothing but the scope may change: for a run whose parts came as Python objects."""
    plan = read_plan_of(run)
    steps = _steps(run, plan, [])
    change = Change(steps=steps, scope=check_scope(run, plan, allowed) if steps else {})
    if change.any:
        append(run, change)
        _tell(change)


def check_keys(run: Run, changed: Mapping[str, Any]) -> None:
    """Raise ConfigError for a key that may not change on resume, and for one in which the members differ."""
    for key, (before, now) in changed.items():
        if consequence(key) is None:
            raise ConfigError("this cannot change when a run is resumed", where=key, got=f"{before} -> {now}",
                              hint="a new run; on resume may change: " + ", ".join(MAY_CHANGE))  # fmt: skip
        for member in run.members:
            path = run.member_folder(member) / "overrides.yaml"
            if path.is_file() and key in dict(flatten(read_yaml(path))):
                raise ConfigError("the members have values of their own for this key", where=key, got=member,
                                  hint="a new run with another members.vary")  # fmt: skip


def check_scope(run: Run, plan: Plan, allowed: Allowed) -> dict[str, list[Any]]:
    """Return in what the scope differs from the one that the run was last trained in.

    Raises RunError where it does and that is not allowed, ConfigError where the plan's device is not there.
    """
    resolve_device(plan.device)
    made_with = run.read_json("environment.json").get("scope")
    if not isinstance(made_with, Mapping):
        LOG.warning("the run has no record of its scope: whether it goes on exactly cannot be told")
        return {}
    found = differing(scope_in_force(made_with, read_lineage(run)), scope_of(plan))
    if set(found) - DECIDED and not allowed.inexact:
        words = "; ".join(f"{key}: {before} -> {now}" for key, (before, now) in list(found.items())[:3])
        raise RunError("the run would not go on bit for bit: it was trained in another scope", where=str(run.path),
                       got=words, hint="--inexact (inexact=True): go on all the same, and record it")  # fmt: skip
    return found


def finish_last(run: Run) -> None:
    """Bring config and plan to the last change on record, which a resume may not have lived to do."""
    changes = read_lineage(run)
    if not changes:
        return
    made_with = config_made_with(run)
    before, now, config = in_force(made_with, changes[:-1]), in_force(made_with, changes), run.config
    if config == before and config != now:  # written last, so that the plan is never left behind
        placed = _placed(read_plan_of(run), {key: pair[1] for key, pair in changes[-1].config.items()})
        write_json(run.path / "plan.json", plan_to_json(placed))
        write_text_atomic(run.path / "config.yaml", to_yaml(now))


def read_plan_of(run: Run) -> Plan:
    """Return the plan of a run."""
    return plan_from_json(run.read_json("plan.json"), where=str(run.path / "plan.json"))


def planned(plan: Plan, config: RunConfig, changed: Mapping[str, Any]) -> Plan:
    """Return the plan with the device, threads and processes that were changed. Raises ConfigError for a device."""
    if "device" in changed:
        resolve_device(config.device)
    return _placed(plan, {key: now for key, (_, now) in changed.items()})


def _placed(plan: Plan, values: Mapping[str, Any]) -> Plan:
    device, threads, processes = (values.get(k) for k in ("device", "numerics.threads", "training.processes"))
    if device is not None:
        cohorts = tuple(replace(cohort, device="") for cohort in plan.cohorts)  # chosen now, wherever they had to go
        plan = replace(plan, device=str(resolve_device(device)), cohorts=cohorts)
    if isinstance(threads, int):
        plan = replace(plan, threads=threads)
    return replace(plan, processes=min(processes, len(plan.cohorts))) if isinstance(processes, int) else plan


def consequence(key: str) -> str | None:
    """Say what a change of a key on resume does; None where it may not change."""
    return next((text for name, text in MAY_CHANGE.items() if fnmatchcase(key, name)), None)


def _extended(run: Run, plan: Plan, changed: Mapping[str, Any]) -> list[str]:
    """The cohorts that are done and get more epochs: those with a member that had finished all of its own."""
    before, now = changed.get(EPOCHS, (0, 0))
    if now <= before:
        return []
    done = [cohort for cohort in plan.cohorts if is_done(run, cohort)]
    return [c.id for c in done if any(m["status"] == Status.FINISHED for m in outcomes(run, c))]


def _steps(run: Run, plan: Plan, again: Sequence[str]) -> dict[str, int]:
    """At which step each cohort goes on that is not done. Raises ConfigError for one that cannot be extended."""
    steps = {}
    for cohort in plan.cohorts:
        if is_done(run, cohort) and cohort.id not in again:
            continue
        found = Store(run.path / "checkpoints" / cohort.id).latest()
        steps[cohort.id] = 0 if found is None else found[0]
        if found is not None and cohort.id in again:
            _check_extension(found[1], found[0])
    return steps


def _check_extension(state: Mapping[str, Any], step: int) -> None:
    """Members whose epochs are of different length end at different steps; only those that end last can go on."""
    of = state["cohort"]
    names = [
        name for name, p in zip(of["members"], of["progress"], strict=True)
        if p["status"] == Status.FINISHED and p["at"] != step
    ]  # fmt: skip
    if names:
        raise ConfigError("a member ended before the others of its cohort, and cannot train on with them", where=EPOCHS,
                          got=", ".join(names[:3]), hint="a new run with more epochs")  # fmt: skip


def _other_data(run: Run, data: Dataset, config: RunConfig) -> list[str] | None:
    """Return the fingerprints before and now; None where they are the same. The recorded splits have to fit."""
    document = run.read_json("splits.json")
    before, now = document.get("fingerprint"), fingerprint(data)
    if before == now:
        return None
    if document.get("n") != len(data) or document.get("classes") != list(data.classes):
        raise DataError("the recorded splits are not of this data", where=str(run.path),
                        got=f"{len(data)} samples, classes {list(data.classes)[:5]}",
                        hint=f"{document.get('n')} samples of the same classes, or a new run")  # fmt: skip
    _splits_of(run, data, config)  # refused before anything is written
    return [str(before), now]


def _settle_splits(run: Run, data: Dataset, config: RunConfig) -> None:
    """Write the splits anew, with an audit, where the last change on record is of data and they are not of it yet."""
    document, changes = run.read_json("splits.json"), read_lineage(run)
    pairs = [change.data for change in changes if change.data]
    if not pairs or document.get("fingerprint") != pairs[-1][0] or fingerprint(data) != pairs[-1][1]:
        return
    write_json(run.path / "splits.json", _splits_of(run, data, config))


def _splits_of(run: Run, data: Dataset, config: RunConfig) -> dict[str, Any]:
    """Return the recorded splits as the content of `splits.json` for other data, audited anew."""
    path = run.path / "splits.json"
    splits = [
        replace(split, fingerprint=fingerprint(data))
        for split in splits_from_json(run.read_json("splits.json"), where=str(path))[0]
    ]
    return splits_to_json(splits, data, [audit(data, split, config.data.duplicates) for split in splits])


def _tell(change: Change) -> None:
    for key, (before, now) in change.config.items():
        LOG.warning("%s: %s -> %s (%s)", key, before, now, consequence(key))
    for key, (before, now) in change.scope.items():
        if key not in DECIDED:
            LOG.warning("%s: %s -> %s (inexact: not the bits of an uninterrupted run)", key, before, now)
    if change.data:
        LOG.warning("the data changed: scores before and after are of different data")
