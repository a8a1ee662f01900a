"""`prove`: train a configuration whole, then under SIGKILLs at random instants, and compare every bit."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from paceline.api.runs import PathLike, configure, open_with_recipe
from paceline.api.trial import KILLED, REFERENCE, Kill, Start, Trial, Watcher, spawn
from paceline.config.tree import Tree, put
from paceline.errors import ConfigError
from paceline.run.build import build
from paceline.run.config import resolve
from paceline.run.equality import Compared, compare_bits
from paceline.run.fitted import ENGINE
from paceline.run.folder import Run
from paceline.run.plan import plan_from_json
from paceline.run.recipe import GIVEN
from paceline.run.scope import scope_of
from paceline.run.start import Overrides
from paceline.types import Plan


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What `prove` did and found."""

    seed: int
    asked: int  # kills
    kills: tuple[Kill, ...]  # those that hit a training
    steps: int  # of the reference, over all cohorts
    again: tuple[int, ...]  # of each kill: steps that had to be trained again
    compared: Compared
    scope: dict[str, Any]
    folder: Path

    @property
    def verdict(self) -> str:
        """`equal`, `different`, or `not proved` where no kill hit a training that had something to resume from."""
        if self.compared.differences:
            return "different"
        return "equal" if any(kill.checkpoint for kill in self.kills) else "not proved"

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        own = {"schema_version": 1, "verdict": self.verdict, "in_save": sum(kill.in_save for kill in self.kills)}
        return json.loads(json.dumps(own | asdict(self), default=str))  # type: ignore[no-any-return]


def prove(
    task: str | None = None,
    overrides: Overrides = (),
    *,
    folder: PathLike,
    run: Run | PathLike | None = None,
    use: Sequence[PathLike] = (),
    config_dir: PathLike | None = None,
    kills: int = 5,
    seed: int = 0,
    watcher: Watcher | None = None,
    start: Start = spawn,
) -> Proof:
    """Train twice in `folder`, once whole and once killed and resumed, and compare the two bit for bit.

    task, overrides, use, config_dir: as for `train`. run: a run whose configuration and plan to take, instead of
    composing one; `overrides` then only change values. kills: how many SIGKILLs, at instants drawn from `seed`; about
    half wait for a save to be under way. watcher: is told how the proof goes. start: starts a command.

    Trackers are left out, the killed training saves as often as its kills need, and cohorts train one after another
    in one process: none of that changes a bit. Raises PacelineError for bad input, TrainingError where a training
    fails.
    """
    if kills < 1:
        raise ConfigError("at least one kill is needed", where="kills", got=kills)
    tree, plan = _configuration(task, overrides, run, use, config_dir)
    options = [word for path in use for word in ("--use", str(Path(path).resolve()))]
    options += [] if config_dir is None else ["--config-dir", str(Path(config_dir).resolve())]
    trial = Trial(Path(folder).resolve(), tree, plan, options, start, watcher or Watcher())
    began = time.monotonic()
    trial.train_whole()
    trial.say(f"reference: {trial.total} steps in {time.monotonic() - began:.0f} s")
    found = trial.train_killed(kills, random.Random(seed))
    compared = compare_bits(trial.run(KILLED), trial.run(REFERENCE))
    return Proof(seed=seed, asked=kills, kills=tuple(found), steps=trial.total, again=tuple(trial.again()),
                 compared=compared, scope=scope_of(plan), folder=trial.folder)  # fmt: skip


def _configuration(
    task: str | None,
    overrides: Overrides,
    run: Run | PathLike | None,
    use: Sequence[PathLike],
    config_dir: PathLike | None,
) -> tuple[Tree, Plan]:
    """Return the configuration and the plan that both trainings start from."""
    earlier = None
    if run is None:
        config, recipe = configure(task, overrides, use=use, config_dir=config_dir)
    else:
        run, _ = open_with_recipe(run, use)
        config, recipe = configure(None, overrides, config=run.path / "config.yaml", use=use)
        earlier = plan_from_json(run.read_json("plan.json"), where=str(run.path / "plan.json"))
    if config.data.name == GIVEN:
        raise ConfigError("the data was given in Python, and the processes of a proof have none of it", where="data",
                          hint="a file (data=npz), or a recipe (paceline new NAME)")  # fmt: skip
    tree = config.tree()
    put(tree, "training.log_batches", True)
    tree["tracking"] = {name: {**section, "enabled": False} for name, section in tree["tracking"].items()}
    folder = None if config_dir is None else Path(config_dir)
    plan = build(resolve(tree, recipe), recipe, config_dir=folder, plan=earlier).plan
    if any(cohort.engine == ENGINE for cohort in plan.cohorts):
        raise ConfigError("an estimator saves nothing on its way: it is fitted again from the start", where="model",
                          got=tree["model"]["name"], hint="a network, such as the recipe's first model")  # fmt: skip
    return tree, replace(plan, processes=1)
