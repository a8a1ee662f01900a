"""Runs of a recipe: `configure`, `train`, `resume`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline import recipes
from paceline.api.given import with_given
from paceline.config.tree import merge, read_yaml, undot
from paceline.data.dataset import Dataset
from paceline.errors import ConfigError, InterruptedRunError, PacelineError, RunError
from paceline.run.amend import Allowed, amend
from paceline.run.build import Prepared, build
from paceline.run.config import RunConfig, resolve
from paceline.run.execute import Observer, execute
from paceline.run.folder import Run, claim, new_name, open_run, replacing
from paceline.run.plan import plan_from_json, read_plan
from paceline.run.recipe import GIVEN, Extension, Recipe
from paceline.run.start import Overrides, compose_config, create_run, reopen
from paceline.run.use import file_sha256, load_extension
from paceline.track.config import check_tracker
from paceline.track.queue import TrackerQueue
from paceline.train.control import Stopped

if TYPE_CHECKING:
    from paceline.train.control import LoopControl
    from paceline.types import Consumer, Plan, Tracker

PathLike = str | Path
LOG = logging.getLogger("paceline")
FIRST_FILES = ("config.yaml", "plan.json", "environment.json", "splits.json")  # files that trackers get at the start


def configure(
    task: str | None = None,
    overrides: Overrides = (),
    *,
    config: PathLike | Mapping[str, Any] | None = None,
    use: Sequence[PathLike] = (),
    config_dir: PathLike | None = None,
) -> tuple[RunConfig, Recipe]:
    """Return the resolved config and its recipe; nothing is loaded or written.

    task: a recipe's name; may be left out where `overrides` hold `task=...`, a `use` file brings a recipe, or `config`
        names it. overrides: `["model=gru", "training.num_epochs=15"]`, or a mapping of dotted keys.
    config: a run's `config.yaml`, or such a tree, to start from instead of composing: what it leaves out has the
        core's defaults. use: Python files with a recipe, losses, models or trackers of your own. config_dir: a folder
        of YAML group options (default `./configs`).

    Raises ConfigError for whatever is not valid.
    """
    if not isinstance(overrides, Mapping):
        _refuse_bare_words(overrides)
    extensions = [load_extension(Path(path)) for path in use]
    base = config if config is None or isinstance(config, Mapping) else read_yaml(Path(config))
    recipe = _recipe(task or _task_of(overrides, base), extensions)
    if base is not None:
        return resolve(merge(base, _values(overrides)), recipe), recipe
    folder = None if config_dir is None else Path(config_dir)
    return compose_config(overrides, recipe, [*recipes.names(), recipe.name], folder), recipe


def train(
    task: str | None = None,
    overrides: Overrides = (),
    *,
    config: PathLike | Mapping[str, Any] | None = None,
    data: Dataset | None = None,
    plan: PathLike | None = None,
    use: Sequence[PathLike] = (),
    config_dir: PathLike | None = None,
    runs: PathLike = "runs",
    name: str | None = None,
    overwrite: bool = False,
    callbacks: Sequence[Consumer] = (),
    control: LoopControl | None = None,
    observer: Observer | None = None,
) -> Run:
    """Train every member of a run and return the run; its results are in `run.summary`.

    task: a recipe's name; may be left out where `overrides`, a `use` file or `config` says it.
    overrides: `["model=gru", "training.num_epochs=15"]`, or a mapping of dotted keys.
    config: a run's `config.yaml`, or such a tree, to start from. data: a data set in memory
        (`paceline.dataset(x=..., y=...)`) in place of the recipe's own; it is split and scaled by `data.*` all the
        same. plan: a file by `paceline plan -o`, in place of the plan that would be made. use: Python files with a
        recipe, losses, models or trackers of your own. config_dir: a folder of YAML group options (default
        `./configs`).
    runs: the folder of all runs. name: the new folder's name. overwrite: replace a run of that name.
    callbacks: called with (record, control) before training goes on. control, observer: for whoever stops the training
        from outside, or shows its progress.

    Raises PacelineError for bad input before anything is written; InterruptedRunError when told to stop, after saving.
    """
    if data is not None:
        overrides = with_given(overrides, data, "data" if config is None else "data.name")
    resolved, recipe = configure(task, overrides, config=config, use=use, config_dir=config_dir)
    path = claim(Path(runs), name or new_name(resolved.task.name, resolved.model.name), overwrite=overwrite)
    reused = None if config is None or isinstance(config, Mapping) else _plan_beside(Path(config), resolved)
    if plan is not None:
        reused = read_plan(Path(plan))
    folder = None if config_dir is None else Path(config_dir)
    prepared = build(resolved, recipe, config_dir=folder, plan=reused, data=data)
    if plan is not None and prepared.plan is not reused:
        raise ConfigError("the plan is for other members", where=str(plan), hint="paceline plan ... -o another.json")
    used = [Path(path) for path in use]
    run, trackers = create_tracked(path, prepared, used, recipe)
    return execute_and_report(run, prepared, use=used, callbacks=callbacks, trackers=trackers, control=control,
                              observer=observer)  # fmt: skip


def resume(
    run: Run | PathLike,
    overrides: Overrides = (),
    *,
    inexact: bool = False,
    accept_changed_data: bool = False,
    data: Dataset | None = None,
    use: Sequence[PathLike] = (),
    callbacks: Sequence[Consumer] = (),
    control: LoopControl | None = None,
    observer: Observer | None = None,
) -> Run:
    """Go on with a run where its last checkpoint is; bit for bit what an uninterrupted run gives.

    overrides: values to change from here on, such as `["training.num_epochs=80"]`; only those of
        `run/amend.py::MAY_CHANGE` may. inexact: go on under another scope (processor, torch build, device, threads).
        accept_changed_data: go on with other data of as many samples. All three are kept in the run's `lineage.json`.
    data: again the data set that `train` was given.

    Raises RunError, ConfigError or DataError when the run, its config, its data or a `use` file is not what it was.
    """
    if not isinstance(overrides, Mapping):
        _refuse_bare_words(overrides)
    run, recipe = open_with_recipe(run, use)
    allowed = Allowed(inexact=inexact, changed_data=accept_changed_data)
    data = amend(run, recipe, _values(overrides, "the run keeps its choices: a new run has others"), allowed, data)
    prepared = reopen(run, recipe, data)
    trackers = build_trackers(run, prepared.config)
    return execute_and_report(run, prepared, use=[Path(path) for path in use], callbacks=callbacks, trackers=trackers,
                              control=control, observer=observer)  # fmt: skip


def open_with_recipe(run: Run | PathLike, use: Sequence[PathLike] = ()) -> tuple[Run, Recipe]:
    """Return a run and the recipe it was made with. Files given with `--use` then must be given again, unchanged."""
    run = run if isinstance(run, Run) else open_run(run)
    made_with = run.read_json("environment.json").get("use", [])
    given = {file_sha256(Path(path)) if Path(path).is_file() else str(path) for path in use}
    for entry in made_with:
        if entry["sha256"] not in given:
            raise RunError(f"the run was made with --use {entry['file']}", where=str(run.path),
                           got="another or no such file", hint=f"--use {entry['file']} as it was then")  # fmt: skip
    task = _task_of((), run.config)
    if task == GIVEN:
        raise RunError("the run was made by Trainer in Python", where=str(run.path),
                       hint="Trainer(...).resume(run, train, val) or .predict(run, x), or run.best()")  # fmt: skip
    return run, _recipe(task, [load_extension(Path(path)) for path in use])


def execute_and_report(
    run: Run,
    prepared: Prepared,
    *,
    use: Sequence[Path] = (),
    callbacks: Sequence[Consumer] = (),
    trackers: Mapping[str, Tracker],
    control: LoopControl | None = None,
    observer: Observer | None = None,
) -> Run:
    """Train what is left of a run and write its report. A report that fails is a warning: the training is done."""
    queue = TrackerQueue(trackers, run.path)
    with queue.closing():
        for name in FIRST_FILES:
            if (run.path / name).is_file():
                queue.artefact(name, run.path / name)
        execute(run, prepared, use=use, callbacks=callbacks, trackers=queue, control=control, observer=observer)
        if _write_report(run):
            queue.artefact("report.html", run.path / "report.html")
    return run


def _write_report(run: Run) -> bool:
    """Write the report; return whether it is there."""
    from paceline.report import write

    try:
        write(run.path)
    except Stopped as stopped:
        raise InterruptedRunError(
            "interrupted: the training is done, its report is not written",
            hint=f"paceline report {run.path}",
            exit_code=stopped.exit_code,
        ) from None
    except Exception as error:  # whatever it is, no result depends on it
        LOG.warning("the report could not be written (%s: %s); try again: paceline report %s",
                    type(error).__name__, " ".join(str(error).split()), run.path)  # fmt: skip
        return False
    return True


def create_tracked(
    path: Path, prepared: Prepared, used: Sequence[Path] = (), recipe: Recipe | None = None
) -> tuple[Run, dict[str, Tracker]]:
    """Make the folder of a new run and its trackers; where a tracker cannot be started, all is as it was before."""
    with replacing(path):
        run = create_run(path, prepared, used, recipe)
        return run, build_trackers(run, prepared.config)


def build_trackers(run: Run, config: RunConfig) -> dict[str, Tracker]:
    """Build the trackers of the config that are enabled."""
    trackers: dict[str, Tracker] = {}
    for name, section in config.tracking.items():
        try:
            if section.enabled:
                trackers[name] = section.build(run.path)
                check_tracker(trackers[name], where=f"tracking.{name}")
        except PacelineError:
            raise
        except Exception as error:  # a service that is away, a wrong password: anything a tracker's own code raises
            raise ConfigError(f"the tracker cannot be started: {type(error).__name__}: {error}",
                              where=f"tracking.{name}", hint=f"tracking.{name}.enabled=false") from error  # fmt: skip
    return trackers


def _task_of(overrides: Overrides, base: Mapping[str, Any] | None) -> str | None:
    if isinstance(overrides, Mapping):
        chosen = overrides.get("task")
    else:
        chosen = next((text.partition("=")[2] for text in overrides if text.startswith("task=")), None)
    if chosen is None and base is not None:
        task = base.get("task")
        chosen = task.get("name") if isinstance(task, Mapping) else None
    return chosen


def _refuse_bare_words(overrides: Sequence[str]) -> None:
    """Raise ConfigError for what is not `key=value`, such as the task's name alone."""
    if isinstance(overrides, str):
        raise ConfigError("overrides are a list or a mapping", got=overrides, hint=f"[{overrides!r}]")
    for text in overrides:
        if "=" not in text:
            fix = f"task={text}" if text in recipes.names() else "training.num_epochs=15, or --help for the options"
            raise ConfigError("an argument is not of the form key=value", where="command line", got=text, hint=fix)


def _recipe(task: str | None, extensions: Sequence[Extension]) -> Recipe:
    own = {extension.recipe.name: extension.recipe for extension in extensions if extension.recipe is not None}
    if task is None and len(own) == 1:
        (task,) = own
    if task is None:
        raise ConfigError("no task was chosen", where="task", hint=" or ".join(f"task={n}" for n in recipes.names()))
    if not isinstance(task, str):
        raise ConfigError("the name of a task is a text", where="task.name", got=task)
    recipe = own[task] if task in own else recipes.find(task)
    for extension in extensions:
        recipe = recipe.extended(extension)
    return recipe


def _values(overrides: Overrides, hint: str = "compose a new config: leave out --config") -> dict[str, Any]:
    """Read overrides on top of a given config: values only, since nothing is composed."""
    from paceline.config.compose import GROUPS, parse_values

    if isinstance(overrides, Mapping):
        values = undot(overrides)
        groups = [f"{name}={overrides[name]}" for name in GROUPS if isinstance(overrides.get(name), str)]
    else:
        values = {}
        groups = [text for text in overrides if text.partition("=")[0].lstrip("+") in GROUPS]
    if groups:
        raise ConfigError("a group cannot be chosen on top of a given config", where="command line", got=groups[0],
                          hint=hint)  # fmt: skip
    return values or parse_values(list(overrides))


def _plan_beside(config: Path, resolved: RunConfig) -> Plan | None:
    """Return the plan of the run whose config is reused, so that the bits are the same.

    None for any other config, and where overrides change what a plan is made from.
    """
    if not (config.parent / "plan.json").is_file():
        return None
    before, now = read_yaml(config), resolved.tree()
    if any(before.get(section) != now[section] for section in ("members", "numerics", "device")):
        return None
    run = Run(config.parent)
    return plan_from_json(run.read_json("plan.json"), where=str(run.path / "plan.json"))
