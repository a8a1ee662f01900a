"""`Trainer`: a model of one's own, data of one's own, the same loop, checkpoints, run folder and report."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from paceline.api.given import GivenLoss, GivenModel, GivenTask
from paceline.api.new_input import table_of
from paceline.api.parts import Part, batches_of, default_task, inputs_of
from paceline.api.runs import build_trackers, create_tracked, execute_and_report
from paceline.api.using import refuse_unfinished, with_weights
from paceline.config.tree import flatten, merge, undot
from paceline.config.validate import nearest_keys, validate
from paceline.data.audit import audit
from paceline.data.config import GivenData
from paceline.errors import ConfigError, RunError
from paceline.evaluate import passes
from paceline.run.amend import Allowed, amend_scope
from paceline.run.build import Prepared
from paceline.run.config import PLAIN, RunConfig, plain_keys, plain_sections, tracking_sections
from paceline.run.decide import predicted_after
from paceline.run.folder import Run, claim, new_name, open_run
from paceline.run.initial import begun, begun_again
from paceline.run.inputs import Foreign, InMemory
from paceline.run.job import Job
from paceline.run.plan import make_plan, plan_from_json
from paceline.run.recipe import GIVEN
from paceline.run.rehearse import rehearse
from paceline.run.start import check_data, check_unchanged, refuse_changes
from paceline.tasks import Classification, Regression
from paceline.track.config import TRACKERS, check_tracker
from paceline.train.runtime import autocast, resolve_device
from paceline.types import Member

if TYPE_CHECKING:
    import pandas as pd

    from paceline.types import Consumer, Task, Tracker


class Trainer:
    """Train a model of one's own.

    model: an `nn.Module` (exactly one member; every `fit` starts from the weights that it has now) or a function
        without arguments that builds one (any number of seeds).
    config: dotted or nested values of the sections `training`, `members`, `numerics`, and `device`
        (`{"training.num_epochs": 20, "members.seeds": 5}`), and `tracking.<name>` of the built-in trackers.
    task: a `Task`; by default classification for integer targets, regression for floats.
    classes: names of the classes by index, by default `0`, `1`, ...
    tracker: a `Tracker` beside the run folder. callbacks: called with (record, control) on every record.
    folder: where runs are made. name: the run's name, by default trainer-<class>-<time>.

    Raises ConfigError for an invalid config, and for several seeds with an instance.
    """

    def __init__(
        self,
        model: nn.Module | Callable[[], nn.Module],
        config: Mapping[str, Any] | None = None,
        *,
        task: Task | None = None,
        classes: Sequence[str] = (),
        tracker: Tracker | None = None,
        callbacks: Sequence[Consumer] = (),
        folder: str | Path = "runs",
        name: str | None = None,
    ) -> None:
        self._instance = model if isinstance(model, nn.Module) else None
        self._build_model = partial(copy.deepcopy, copy.deepcopy(model)) if isinstance(model, nn.Module) else model
        if tracker is not None:
            check_tracker(tracker, where="Trainer(tracker=...)")
        self._task = task
        self._tracker, self._callbacks = tracker, tuple(callbacks)
        self._folder, self._name = Path(folder), name
        kind = type(model).__name__ if isinstance(model, nn.Module) else "factory"
        self._config = _config(config or {}, kind, [str(name) for name in classes])
        members = self._config.members
        if isinstance(model, nn.Module) and len(members.seeds) > 1:
            raise ConfigError("a model instance is one member, and several seeds were asked for", where="members.seeds",
                              got=list(members.seeds), hint="a factory: Trainer(lambda: Net(), ...)")  # fmt: skip
        if members.folds is not None or members.vary:
            raise ConfigError("Trainer trains on the parts it is given", where="members.folds or members.vary",
                              hint="a recipe (paceline new) has folds and variants")  # fmt: skip

    def fit(self, train: Part, val: Part, test: Part | None = None, *, overwrite: bool = False) -> Run:
        """Train in a new run folder, from a fresh state; load the best weights into a passed instance.

        train, val, test: (x, y) arrays or tensors, a dict of columns, a torch Dataset, or a DataLoader (all of one
        kind). Raises DataError for parts that are empty, not finite, or do not fit together.
        """
        prepared = self._prepare(train, val, test)
        kind = re.sub(r"[^A-Za-z0-9_]", "_", prepared.config.model.name)  # a class may have any letters
        name = self._name or new_name("trainer", kind)
        path = claim(self._folder, name, overwrite=overwrite)
        return self._run(*create_tracked(path, prepared), prepared)

    def resume(
        self, run: Run | str | Path, train: Part, val: Part, test: Part | None = None, *, inexact: bool = False
    ) -> Run:
        """Go on with an interrupted run of the same model, config and data.

        inexact: also where processor, torch build, device or threads are others; the run then keeps that on record.
        Raises RunError for such a scope without it, ConfigError or DataError for a changed config or changed data.
        """
        run = run if isinstance(run, Run) else open_run(run)
        check_unchanged(run)
        prepared = self._prepare(train, val, test, run)
        amend_scope(run, Allowed(inexact=inexact))
        return self._run(run, build_trackers(run, prepared.config), prepared)

    def predict(self, run: Run | str | Path, x: Any, *, members: Sequence[str] = (), raw: bool = False) -> pd.DataFrame:
        """Predict with the selected states of a run that this trainer's model was trained in; one row per sample.

        x: an array or tensor, a dict of the columns that the model takes, or a DataLoader. members: which to use (all
        by default); with several, probabilities and numeric predictions are averaged. raw: leave out fitted
        temperatures and tuned thresholds. Columns as in `paceline.predict`. Raises RunError before the run has
        finished, DataError for input of another shape.
        """
        run = run if isinstance(run, Run) else open_run(run)
        if dict(flatten(run.config)).get("task.name") != GIVEN:
            raise RunError("the run was not made by Trainer", where=str(run.path), hint="paceline.predict(run, x)")
        chosen = list(members) or run.members
        refuse_unfinished(run, [member for member in run.members if member in chosen])
        bests = {member: run.best(member) for member in chosen}
        first, device = bests[chosen[0]], resolve_device(self._config.device)
        batches, classes = batches_of(x, first["shapes"], device), range(len(first["classes"]))
        task = self._task or (Classification(n_classes=len(classes)) if classes else Regression())
        precision = autocast(self._config.training.amp, device)
        found = []
        for member, best in bests.items():
            with torch.random.fork_rng(devices=[]):  # a factory draws weights
                model = with_weights(self._build_model, best, member).to(device)
            arrays = passes.predict(model, task, batches, precision)
            found.append(arrays if raw else predicted_after(best, arrays))
        return table_of(found, classes)

    def _run(self, run: Run, trackers: Mapping[str, Tracker], prepared: Prepared) -> Run:
        own = {} if self._tracker is None else {"tracker": self._tracker}
        execute_and_report(run, prepared, callbacks=self._callbacks, trackers={**trackers, **own})
        if self._instance is not None:
            self._instance.load_state_dict(run.best()["model_state_dict"])
        return run

    def _prepare(self, train: Part, val: Part, test: Part | None, run: Run | None = None) -> Prepared:
        config, device = self._config, resolve_device(self._config.device)
        with torch.random.fork_rng(devices=[]):  # looking at a DataLoader draws from torch's generator
            inputs = inputs_of(train, val, test, named=self._task is None, classes=_classes(config))
            task = self._task or default_task(inputs)
            jobs = [
                Job(member=Member(seed=seed), config=config, inputs=inputs, task=task, build_model=self._build_model)
                for seed in config.members.seeds
            ]
            (kind,) = rehearse(jobs, device)
            config = config.model_copy(update={"model": GivenModel(name=kind)})
            jobs = [replace(job, config=config) for job in jobs]
            jobs = begun(jobs) if run is None else begun_again(run, jobs)
            if run is None:
                plan = make_plan(jobs, device, workers=False)
            else:
                made_with = merge(_config({}, kind, ()).tree(), run.config)  # an earlier version knew fewer keys
                refuse_changes(made_with, config.tree(), where="Trainer", hint="the config and model of the run")
                plan = plan_from_json(run.read_json("plan.json"), where=str(run.path / "plan.json"))
                check_data(run, inputs.dataset if isinstance(inputs, InMemory) else None)
        if isinstance(inputs, Foreign):
            return Prepared(config=config, plan=plan, jobs=jobs)
        checks = [audit(inputs.dataset, inputs.split, "warn")]
        return Prepared(
            config=config, plan=plan, jobs=jobs, dataset=inputs.dataset, splits=[inputs.split], checks=checks
        )


def _classes(config: RunConfig) -> tuple[str, ...]:
    assert isinstance(config.data, GivenData)
    return config.data.classes


def _config(values: Mapping[str, Any], model: str, classes: Sequence[str]) -> RunConfig:
    tree = undot(values)
    allowed = {*PLAIN, "device", "tracking"}
    for key in tree:
        if key not in allowed:
            raise ConfigError("Trainer takes no such config section", where=key, got=tree[key],
                              hint=", ".join(sorted(allowed)) if key in RunConfig.model_fields
                              else nearest_keys(key, plain_keys()))  # fmt: skip
    sections = plain_sections(tree, plain_keys())
    tracking = tracking_sections(tree, TRACKERS)
    data = GivenData(scale="none", classes=tuple(classes))
    given = {"task": GivenTask(), "model": GivenModel(name=model), "data": data, "loss": GivenLoss()}
    rest = {"tracking": tracking, "device": tree.get("device", "auto")}
    return validate(RunConfig, {**given, **sections, **rest})
