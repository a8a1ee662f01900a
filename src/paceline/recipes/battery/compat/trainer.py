"""`Trainer`: the group's call over `paceline.Trainer`, whose loop, checkpoints, run folder and report it has.

Shapes: N samples, T steps.
"""

from __future__ import annotations

import copy
import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from paceline.api.trainer import Trainer as CoreTrainer
from paceline.api.using import PREDICT_BATCH
from paceline.checkpoint.store import read_state, write_state
from paceline.config.tree import Tree, merge
from paceline.data.loader import ArrayPass, take
from paceline.data.target import with_scales
from paceline.errors import ConfigError, ModelError, RunError
from paceline.evaluate import passes
from paceline.recipes.battery.compat import config as flat
from paceline.recipes.battery.compat.callbacks import ModelCheckpoint
from paceline.recipes.battery.compat.criterion import loss_of
from paceline.recipes.battery.compat.files import BestFiles, free_name, run_dir_of
from paceline.recipes.battery.compat.models import Network
from paceline.recipes.battery.compat.registry import BaseLoss, LossRegistry
from paceline.recipes.battery.compat.relay import Relay
from paceline.recipes.battery.compat.rule import Rule
from paceline.recipes.battery.compat.samples import Columns, Sample, columns_of
from paceline.recipes.battery.compat.tracker import Reporter
from paceline.run.folder import Run
from paceline.tasks import Regression
from paceline.train.config import TrainingConfig
from paceline.train.runtime import amp_enabled, autocast, resolve_device
from paceline.types import DataSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOG = logging.getLogger("paceline")
History = dict[str, list[float]]


class Trainer:
    """Train a regression on lists of samples.

    model: a module, called as its `forward` says: with x, and with `mask` and `t` if it has parameters of these names;
        returns a number per sample, or per step where the samples' y has one per step. Every `fit` starts from the
        weights that it has then, and leaves the best ones in it. Several seeds need a function that makes the module.
    config: the keys of `DEFAULTS` and `OPTIONS`; `trainer.config` has all of them.
    tracker: a `DualTracker`, or anything with `log_metrics(dict, step=epoch)`. loss_config: `{"name": "huber",
        "delta": 0.5}`, or a `BaseLoss`; by default mse. callbacks: `BaseCallback`s.
    seed: instead of the config's. runs: where runs are made that no tracker has a folder for.

    Raises PacelineError for whatever is not valid: an unknown key of the config names the nearest.
    """

    def __init__(
        self,
        model: nn.Module | Callable[[], nn.Module],
        config: Mapping[str, Any] | None = None,
        tracker: Any = None,
        loss_config: Mapping[str, Any] | BaseLoss | None = None,
        callbacks: Sequence[Any] = (),
        *,
        seed: int | None = None,
        runs: str | Path = "artifacts/runs",
    ) -> None:
        self.config = flat.settled({**(config or {}), **({} if seed is None else {"seed": seed})})
        self.model: nn.Module | None = model if isinstance(model, nn.Module) else None
        self._make: Any = None if isinstance(model, nn.Module) else model  # may turn out not to make modules
        self.criterion = _criterion(loss_config)
        self.callbacks = list(callbacks)
        self._reporter, self._tracker, self._runs = Reporter(tracker), tracker, Path(runs)
        self._sections = _sections(self.config, self.callbacks)
        self.device = resolve_device(self.config["device"])
        self.use_amp = amp_enabled(self._training.amp, self.device)
        self.history: History = {}
        self.best_val_loss = math.inf
        self.run: Run | None = None
        self.run_dir: Path | None = None
        self._inputs = _inputs(self._module())

    @property
    def _training(self) -> TrainingConfig:
        return TrainingConfig.model_validate(self._sections["training"])

    def fit(
        self,
        train_samples: Sequence[Sample],
        val_samples: Sequence[Sample],
        test_samples: Sequence[Sample] | None = None,
        *,
        resume: str | Path | None = None,
    ) -> History:
        """Train; return equal-length lists, an entry per epoch: train_loss, val_loss, lr, val_rmse, val_mae, ...

        The validation samples stop the training and choose its epoch: their figures are `val_`. test_samples: evaluated
        once, at the end, with the best weights. resume: the folder `.../training` of an interrupted training, to go on
        from its last checkpoint with the same samples and config, bit for bit.

        Raises DataError naming the sample for one that cannot be used.
        """
        given = {"train": train_samples, "val": val_samples} | ({} if test_samples is None else {"test": test_samples})
        parts = columns_of(given)
        _warn_of_padding(parts["train"], self._inputs)
        spec = _spec(parts["train"])
        task = Regression(loss=loss_of(self.criterion, spec), inputs=self._inputs)
        self.run_dir, name = self._where(resume)
        best = self._best_files(self.run_dir)
        rule = Rule(self._training, len(parts["train"]["x"]))
        newest = partial(best.copy, self.run_dir / name)
        relay = Relay(self.callbacks, [self._reporter.epoch, lambda _, found: newest(found["member"])], rule)
        own = CoreTrainer(self._scaled(spec), self._sections, task=task, callbacks=[relay], folder=self.run_dir,
                          name=name)  # fmt: skip
        self._reporter.start(self.config, self.criterion)
        relay.start(resumed=resume is not None)
        begun = own.fit if resume is None else partial(own.resume, Path(resume))
        self.run = begun(parts["train"], parts["val"], parts.get("test"))
        self.history = history_of(self.run)
        self.best_val_loss = min((v for v in self.history["val_loss"] if math.isfinite(v)), default=math.inf)
        for member in self.run.members:
            self._reporter.file(newest(member))
        relay.end()
        return self.history

    def predict(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Return (N,) predictions in the order of the samples; (N, T) where each step has one, NaN where none is.

        They are those of the model as it is: after `fit` or `load`, of its best weights. With several seeds they are
        the mean over them.
        """
        columns = columns_of({"samples": samples}, targets=False)["samples"]
        if self.model is None and self.run is None:
            raise RunError("the trainer has no model yet", where="Trainer.predict", hint="fit, then predict")
        models = [self.model] if self.model is not None else self._of_members()
        found: NDArray[np.float32] = np.mean([self._predicted(model, columns) for model in models], axis=0)
        mask = columns.get("mask")
        if mask is not None and found.shape[:2] == mask.shape:
            found[~mask] = np.nan
        return found

    def save(self, path: str | Path) -> Path:
        """Write the best state to a file: weights, optimizer, schedule, best loss, config, history."""
        if self.run is None:
            raise RunError("there is nothing to save before fit", where="Trainer.save", got=str(path))
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_state(target, self._state(self.run.best()))
        return target

    def load(self, path: str | Path) -> dict[str, Any]:
        """Load weights of `save`, or of `checkpoints/best.pt`, into the model; return all that the file holds.

        A later `fit` starts from these weights; to start from a file otherwise: `{"init_from": path}`. Raises
        CheckpointError for a damaged file, ModelError for weights of another model.
        """
        state = read_state(Path(path))
        if self.model is None:
            self.model, self._make = self._module(), None
        try:
            self.model.load_state_dict(state["model_state_dict"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise ModelError("the weights do not fit the model", where=str(path),
                             got=str(error).splitlines()[-1].strip()) from None  # fmt: skip
        self.history = state.get("history", {})
        self.best_val_loss = state.get("best_val_loss", state.get("metrics", {}).get("val_loss", math.inf))
        return state

    def _state(self, best: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a saved file holds, in tensors and plain values."""
        schedule = self._training.schedule
        at = self.history["epoch"].index(best["epoch"])
        return {
            "model_state_dict": best["model_state_dict"],
            "optimizer_state_dict": best.get("optimizer_state_dict"),
            "scheduler_state_dict": {**schedule.model_dump(mode="json"), "last_epoch": best["epoch"],
                                     "last_lr": [self.history["lr"][at]]},
            "epoch": best["epoch"],
            "best_val_loss": self.best_val_loss,
            "config": {k: str(v) if isinstance(v, Path) else v for k, v in self.config.items()},
            "history": copy.deepcopy(self.history),
        }  # fmt: skip

    def _where(self, resume: str | Path | None) -> tuple[Path, str]:
        """Return the folder of the run, and the name of paceline's own run folder in it."""
        if resume is not None:
            return Path(resume).parent, Path(resume).name
        folder = run_dir_of(self._tracker, self._runs, type(self._module()).__name__)
        return folder, free_name(folder)

    def _best_files(self, run_dir: Path) -> BestFiles:
        seeds = self.config["seed"]
        several = isinstance(seeds, (list, tuple)) and len(seeds) > 1
        also = tuple(callback.path for callback in self.callbacks if isinstance(callback, ModelCheckpoint))
        return BestFiles(Path(self.config["checkpoint_dir"] or run_dir / "checkpoints"), several=several, also=also)

    def _predicted(self, model: nn.Module, columns: Columns) -> NDArray[np.float32]:
        model = model.to(self.device)
        batches = ArrayPass(take(columns, np.arange(len(columns["x"])), self.device), PREDICT_BATCH)
        found = passes.predict(
            model, Regression(inputs=self._inputs), batches, autocast(self._training.amp, self.device)
        )["prediction"]
        return np.asarray(found, dtype=np.float32)

    def _of_members(self) -> list[nn.Module]:
        assert self.run is not None
        models = []
        for member in self.run.members:
            model = self._module()
            model.load_state_dict(self.run.best(member)["model_state_dict"])
            models.append(model)
        return models

    def _scaled(self, spec: DataSpec) -> nn.Module | Callable[[], nn.Module]:
        """Return the model or what makes it; new networks of the guide's kind get the unit of the targets."""
        if self.model is not None:
            return self._with_scale(self.model, spec)
        return lambda: self._with_scale(self._make(), spec)

    def _with_scale(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        if self.config["rescale"] and isinstance(model, Network) and not model.is_scaled:
            model.scale_to(spec.target_mean, spec.target_std)
        return model

    def _module(self) -> nn.Module:
        if self.model is not None:
            return self.model
        with torch.random.fork_rng(devices=[]):  # looking at it draws no numbers
            made: object = self._make()
        if not isinstance(made, nn.Module):
            raise ModelError("the model is neither a module nor a function that makes one", where="Trainer(model=...)",
                             got=type(made).__name__)  # fmt: skip
        return made


def history_of(run: Run, member: str | None = None) -> History:
    """Return the run's history of one member, NaN where a value was not finite; without the step."""
    found = run.history(member)
    return {name: [math.nan if v is None else v for v in column] for name, column in found.items() if name != "step"}


def _criterion(given: Mapping[str, Any] | BaseLoss | None) -> BaseLoss:
    if isinstance(given, BaseLoss):
        return given
    if given is not None and not (isinstance(given, Mapping) and isinstance(given.get("name"), str)):
        raise ConfigError("a loss is chosen by its name", where="loss_config", got=given,
                          hint='{"name": "huber", "delta": 0.5}')  # fmt: skip
    chosen = dict(given or {"name": "mse"})
    return LossRegistry.get(chosen.pop("name"), **chosen)


def _sections(config: Mapping[str, Any], callbacks: Sequence[Any]) -> Tree:
    """Return the core's sections, those that callbacks set laid over them."""
    found = flat.sections(config)
    for callback in callbacks:
        settings = getattr(callback, "settings", {})
        if "schedule" in settings:  # a replaced choice keeps none of the keys
            found["training"].pop("schedule", None)
            found["training"]["early_stopping"].pop("grace_after_restart", None)
        found["training"] = merge(found["training"], settings)
    flat.judge(found)
    return found


def _spec(columns: Columns) -> DataSpec:
    """Return what the loss may know of the training part."""
    shapes = {name: column.shape[1:] for name, column in columns.items()}
    return with_scales(DataSpec(shapes=shapes), columns, np.arange(len(columns["x"])))


def _inputs(model: nn.Module) -> tuple[str, ...]:
    """Return the columns that a model is called with, by the names of its forward's parameters: x, then mask and t.

    A name may carry its shape: mask_BT. What has another name is left at None.
    """
    parameters = list(inspect.signature(model.forward).parameters.values())
    places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = [name if (plain := name.partition("_")[0]) not in ("mask", "t") else plain for name in places]
    known = [i for i, name in enumerate(named) if i and name in ("mask", "t")]
    return ("x", *named[1 : known[-1] + 1]) if known else ("x",)


def _warn_of_padding(columns: Columns, inputs: Sequence[str]) -> None:
    mask = columns.get("mask")
    if mask is not None and not mask.all() and "mask" not in inputs:
        LOG.warning("the sequences differ in length and the model's forward takes no mask: right for a model whose "
                    "steps know only themselves and those before them")  # fmt: skip
