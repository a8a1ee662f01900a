"""`Trainer`: a model of one's own, data of one's own, the same loop, checkpoints, run folder and report."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from paceline.api.runs import execute_and_report
from paceline.config.tree import undot
from paceline.config.validate import validate
from paceline.data.audit import audit
from paceline.data.config import DataConfig
from paceline.data.dataset import Dataset
from paceline.data.fingerprint import fingerprint
from paceline.data.foreign import as_batch
from paceline.data.split import Split
from paceline.errors import ConfigError, DataError
from paceline.losses import LossConfig
from paceline.models.config import ModelConfig
from paceline.run.build import Job, Prepared
from paceline.run.config import PLAIN, RunConfig, plain_sections
from paceline.run.folder import Run, claim, new_name, open_run
from paceline.run.inputs import Foreign, InMemory
from paceline.run.plan import make_plan, plan_from_json
from paceline.run.rehearse import rehearse
from paceline.run.start import check_data, check_unchanged, create_run, refuse_changes
from paceline.tasks import Classification, Regression
from paceline.tasks.config import TaskConfig
from paceline.track.config import check_tracker
from paceline.train.runtime import resolve_device
from paceline.types import DataSpec, Loss, Member

if TYPE_CHECKING:
    from paceline.types import Consumer, Task, Tracker

Part = Any  # (x, y) arrays or tensors, a dict of them, a Dataset of torch, or a DataLoader


class GivenTask(TaskConfig):
    """A task that came as a Python object."""

    name: Literal["given"] = "given"

    def build(self, spec: DataSpec, loss: Loss) -> Task:
        raise _only_in_python()


class GivenModel(ModelConfig):
    """A model that came as a Python object; `kind` is its class."""

    name: Literal["given"] = "given"
    kind: str

    def build(self, spec: DataSpec) -> nn.Module:
        raise _only_in_python()


class GivenData(DataConfig):
    """Data that came as Python objects."""

    name: Literal["given"] = "given"
    scale: Literal["none"] = "none"

    def load(self) -> Dataset:
        raise _only_in_python()


class GivenLoss(LossConfig):
    """The loss of a given task."""

    name: Literal["given"] = "given"

    def build(self, spec: DataSpec) -> Loss:
        raise _only_in_python()


class Trainer:
    """Train a model of one's own.

    model: an `nn.Module` (exactly one member; every `fit` starts from the weights that it has now) or a function
        without arguments that builds one (any number of seeds).
    config: dotted or nested values of the sections `training`, `members`, `numerics`, and `device`
        (`{"training.num_epochs": 20, "members.seeds": 5}`).
    task: a `Task`; by default classification for integer targets, regression for floats.
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
        self._kind = re.sub(r"[^A-Za-z0-9_]", "_", kind)  # a class may have any letters, a folder's name may not
        self._config = _config(config or {}, kind)
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
        name = self._name or new_name("trainer", self._kind)
        run = create_run(claim(self._folder, name, overwrite=overwrite), prepared)
        return self._run(run, prepared)

    def resume(self, run: Run | str | Path, train: Part, val: Part, test: Part | None = None) -> Run:
        """Go on with an interrupted run of the same model, config and data."""
        run = run if isinstance(run, Run) else open_run(run)
        check_unchanged(run)
        refuse_changes(run.config, self._config.tree(), where="Trainer", hint="the config and model of the run")
        prepared = self._prepare(train, val, test, run)
        return self._run(run, prepared)

    def _run(self, run: Run, prepared: Prepared) -> Run:
        trackers = {} if self._tracker is None else {"tracker": self._tracker}
        execute_and_report(run, prepared, callbacks=self._callbacks, trackers=trackers)
        if self._instance is not None:
            self._instance.load_state_dict(run.best()["model_state_dict"])
        return run

    def _prepare(self, train: Part, val: Part, test: Part | None, run: Run | None = None) -> Prepared:
        config, device = self._config, resolve_device(self._config.device)
        with torch.random.fork_rng(devices=[]):  # looking at a DataLoader draws from torch's generator
            inputs = _inputs(train, val, test)
            task = self._task or _default_task(inputs)
            jobs = [
                Job(member=Member(seed=seed), config=config, inputs=inputs, task=task, build_model=self._build_model)
                for seed in config.members.seeds
            ]
            rehearse(jobs, device)
        if run is None:
            plan = make_plan(jobs, device, workers=False)
        else:
            plan = plan_from_json(run.read_json("plan.json"), where=str(run.path / "plan.json"))
            check_data(run, inputs.dataset if isinstance(inputs, InMemory) else None)
        if isinstance(inputs, Foreign):
            return Prepared(config=config, plan=plan, jobs=jobs)
        checks = [audit(inputs.dataset, inputs.split, "warn")]
        return Prepared(
            config=config, plan=plan, jobs=jobs, dataset=inputs.dataset, splits=[inputs.split], checks=checks
        )


def _config(values: Mapping[str, Any], model: str) -> RunConfig:
    tree = undot(values)
    allowed = {*PLAIN, "device"}
    for key in tree:
        if key not in allowed:
            raise ConfigError("Trainer takes no such config section", where=key, got=tree[key],
                              hint=", ".join(sorted(allowed)))  # fmt: skip
    sections = plain_sections(tree)
    given = {"task": GivenTask(), "model": GivenModel(kind=model), "data": GivenData(), "loss": GivenLoss()}
    return validate(RunConfig, {**given, **sections, "device": tree.get("device", "auto")})


def _inputs(train: Part, val: Part, test: Part | None) -> InMemory | Foreign:
    from torch.utils.data import DataLoader

    parts = {"train": train, "val": val} | ({} if test is None else {"test": test})
    loaders = {name: part for name, part in parts.items() if isinstance(part, DataLoader)}
    if loaders:
        if len(loaders) < len(parts):
            raise DataError("the parts are of different kinds", got={n: type(p).__name__ for n, p in parts.items()},
                            hint="DataLoaders for all parts, or arrays for all")  # fmt: skip
        batch = as_batch(next(iter(loaders["train"])), torch.device("cpu"))
        spec = DataSpec(shapes={name: tuple(column.shape[1:]) for name, column in batch.items()})
        return Foreign(train=loaders["train"], val=loaders["val"], test=loaders.get("test"), spec=spec)
    return _in_memory({name: _columns(part, name) for name, part in parts.items()})


def _in_memory(parts: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]) -> InMemory:
    names = list(parts["train"])
    for part, columns in parts.items():
        if list(columns) != names:
            raise DataError("the parts have different columns", where=part, got=list(columns), hint=", ".join(names))
        for name, column in columns.items():
            if column.dtype != parts["train"][name].dtype:
                raise DataError("the parts have different types", where=f"{part}, column {name}", got=column.dtype,
                                hint=str(parts["train"][name].dtype))  # fmt: skip
    sizes = [len(next(iter(columns.values()))) for columns in parts.values()]
    ends = np.cumsum([0, *sizes])
    rows = {part: np.arange(a, b) for part, a, b in zip(parts, ends[:-1], ends[1:], strict=True)}
    try:
        joined = {name: np.concatenate([columns[name] for columns in parts.values()]) for name in names}
    except ValueError as error:
        raise DataError("the parts do not fit together", got=str(error)) from None
    dataset = Dataset(columns=joined, test=rows.get("test"), source="given in Python")
    split = Split(
        rule="given", seed=0, train=rows["train"], val=rows["val"],
        test=rows.get("test", np.empty(0, np.int64)), fingerprint=fingerprint(dataset),
    )  # fmt: skip
    return InMemory(dataset=dataset, split=split, scaler=None, open_test=True)


def _columns(part: Part, name: str) -> dict[str, np.ndarray[Any, Any]]:
    """Turn (x, y), a dict, or a map-style torch Dataset into NumPy columns without copying where possible."""
    if isinstance(part, torch.utils.data.TensorDataset):
        part = part.tensors
    elif isinstance(part, torch.utils.data.Dataset) and hasattr(part, "__len__"):
        part = torch.utils.data.default_collate([part[i] for i in range(len(part))])
    if isinstance(part, Mapping):
        columns = dict(part)
    elif isinstance(part, (tuple, list)) and len(part) in (2, 3):
        columns = dict(zip(("x", "y", "mask"), part, strict=False))
    else:
        raise DataError("a part is neither arrays nor a loader", where=name, got=type(part).__name__,
                        hint="(x, y), a dict of columns, a torch Dataset or a DataLoader")  # fmt: skip
    arrays = {key: _array(value) for key, value in columns.items()}
    for key, array in arrays.items():
        if array.ndim == 0 or array.dtype.kind not in "biufc":
            raise DataError("a column must be an array of numbers, axis 0 the samples", where=f"{name}, column {key}",
                            got=f"dtype {array.dtype}, {array.ndim} axes")  # fmt: skip
    if any(len(array) != len(next(iter(arrays.values()))) for array in arrays.values()):
        raise DataError("the columns of a part differ in length", where=name,
                        got={key: len(array) for key, array in arrays.items()})  # fmt: skip
    for key, array in arrays.items():
        if len(array) == 0:
            raise DataError("a part is empty", where=name, got=f"{key} has no rows")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise DataError("a value is not finite", where=f"{name}, column {key}", got=f"row {row}")
    return arrays


def _array(value: Any) -> np.ndarray[Any, Any]:
    """Floats stay float32 or become it from float64 arrays of NumPy, as torch users expect; tensors keep their type."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    return array.astype(np.float32, copy=False) if array.dtype == np.float64 else array


def _default_task(inputs: InMemory | Foreign) -> Task:
    """Classification for integer targets, regression for floats."""
    if isinstance(inputs, InMemory) and "y" in inputs.dataset.columns:
        y = inputs.dataset.columns["y"]
        if y.dtype.kind in "iu":
            if y.min() < 0:
                raise DataError("class labels count from 0", where="column y", got=int(y.min()))
            return Classification(n_classes=int(y.max()) + 1)
        return Regression()
    raise ConfigError(
        "the data does not say what is learned from it",
        where="task",
        hint="task=paceline.tasks.Classification(n_classes=...) or paceline.tasks.Regression()",
    )


def _only_in_python() -> ConfigError:
    return ConfigError("this run was made by Trainer in Python", hint="Trainer(...).resume(run, train, val)")
