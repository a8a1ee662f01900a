"""`fit_model`: a model, loaders, criterion and optimizer of one's own, trained by paceline's loop.

Shapes: B batch, T time, F features, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset, default_collate

from paceline.api.parts import Part, columns_of
from paceline.api.trainer import Trainer
from paceline.config.tree import Tree, merge
from paceline.data.foreign import as_batch
from paceline.errors import ConfigError, ModelError
from paceline.recipes.pain.compat import config as flat
from paceline.recipes.pain.compat.losses import Criterion, build_criterion, loss_of
from paceline.recipes.pain.compat.optimizers import settings
from paceline.recipes.pain.compat.state import Result, best_state_of, history_of, save
from paceline.recipes.pain.compat.tracking import WriterTracker, sections
from paceline.run.blame import users_errors
from paceline.run.folder import Run
from paceline.run.misfit import sizes_explained
from paceline.tasks import Classification
from paceline.tasks.inputs import call
from paceline.train.runtime import resolve_device

if TYPE_CHECKING:
    from paceline.types import Batch

LOG = logging.getLogger("paceline")
INPUTS = ("x", "mask")  # columns that the model is called with, the second where there is one


def fit_model(
    model: nn.Module,
    train_loader: Part,
    valid_loader: Part,
    criterion: Criterion | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    config: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    writer: Any = None,
    tensorboard: bool | None = None,
    *,
    class_names: Sequence[str] = (),
    runs: str | Path = "runs",
    overwrite: bool = False,
) -> Result:
    """Train a classifier in `<runs>/<run_name>`; load the best weights into `model`; return a `Result`.

    model: called with x (B, T, F), and a mask (B, T) where the data has one; returns logits (B, C).
    train_loader, valid_loader: `DataLoader`s of (x, y) or (x, y, mask), or arrays (x, y). Loaders that only shuffle and
        cut a `TensorDataset`, as those of `create_dataloaders`, are trained from memory with the same batch size.
    criterion: criterion(logits, y) -> a number; by default `build_criterion(config)`.
    optimizer: Adam, AdamW or SGD over the model's parameters, with the config's learning rate; by default made from the
        config. Afterwards it has the moments of the best epoch. Any other is an error, as paceline makes the steps.
    config: of `prepare_config`. device: instead of the config's.
    writer: a `SummaryWriter` to log to; without one, `tensorboard` (by default the config's) makes event files in the
        run folder.
    class_names: by index. overwrite: replace a run of the same name.

    Raises PacelineError for whatever does not fit together, before training.
    """
    config = _settled(config, device, writer, tensorboard)
    train, valid, sizes = in_memory(train_loader, valid_loader)
    n_classes = len(class_names) or _n_classes(model, train)
    names = [str(name) for name in class_names or range(n_classes)]
    criterion = criterion or build_criterion(config, _class_counts(train, n_classes))
    loss = loss_of(criterion, resolve_device(flat.value(config, "device")))
    task = Classification(n_classes=n_classes, loss=loss, inputs=INPUTS)
    steps = sizes if optimizer is None else {**sizes, **settings(optimizer, model, config)}
    tracker = None if writer is None else WriterTracker(writer, config, names)
    tracking = sections(config) if writer is None else {}
    values = merge(flat.training(config), {"training": {**steps, "engine": "eager"}, "tracking": tracking})
    own = Trainer(model, values, task=task, classes=names, tracker=tracker, folder=runs, name=config["run_name"])
    run = own.fit(train, valid, overwrite=overwrite)
    return _result(run, config, model, optimizer)


def _result(run: Run, config: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Result:
    """Make the best state and its file; give the optimizer the moments of the best epoch."""
    history = history_of(run, config)
    state = best_state_of(run, config, config["run_name"], history)
    state.pop("split_idx", None)  # which rows the parts are of is not known here
    save(run, state)
    if optimizer is not None and "optimizer_state_dict" in state:
        optimizer.load_state_dict(state["optimizer_state_dict"])
    return Result(state, history, model, run)


def in_memory(train: Part, valid: Part) -> tuple[Part, Part, Tree]:
    """Return the tensors behind two loaders that do nothing but shuffle and cut them, and their batch size.

    A `DataLoader` collates sample by sample, which for a small model takes longer than its step. Other parts are
    returned as they are.
    """
    if not (_is_plain(train, RandomSampler) and _is_plain(valid, SequentialSampler)):
        return train, valid, {}
    if train.num_workers or valid.num_workers:
        LOG.info("the data is in memory: the loaders' workers are not used")
    return train.dataset.tensors, valid.dataset.tensors, {"batch_size": train.batch_size}


def _is_plain(part: Part, sampler: type[Any]) -> bool:
    if not isinstance(part, DataLoader) or type(part.dataset) is not TensorDataset or type(part.sampler) is not sampler:
        return False
    drawn: Any = part.sampler
    drawn_once = getattr(drawn, "replacement", False) is False and len(drawn) == len(part.dataset)
    whole = type(part.batch_sampler) is BatchSampler and not part.drop_last and part.collate_fn is default_collate
    return drawn_once and whole and len(part.dataset.tensors) in (2, 3)


def _settled(
    config: Mapping[str, Any] | None, device: str | torch.device | None, writer: Any, tensorboard: bool | None
) -> dict[str, Any]:
    """Return the config with what was given beside it, and a name."""
    settled = dict(flat.prepare_config(None) if config is None else config)
    if writer is not None and tensorboard is False:
        raise ConfigError("a writer was given, and logging is turned off", where="fit_model(tensorboard=...)",
                          got=False, hint="writer=None")  # fmt: skip
    if device is not None:
        settled["device"] = str(device)
    if tensorboard is not None:
        settled["tensorboard"] = tensorboard
    settled["run_name"] = flat.run_name(settled)
    return settled


def _n_classes(model: nn.Module, train: Part) -> int:
    """Return the number of logits that the model gives for two samples of the training part."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    was_training = model.training
    model.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        batch = _two_samples(train, device)
        shapes = ", ".join(f"{name} {tuple(column.shape)}" for name, column in batch.items())
        where = f"model={type(model).__name__}"
        with users_errors("the model fails on two samples of the data", where, shapes), sizes_explained(model):
            logits = call(model, batch, INPUTS)
    model.train(was_training)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError("a classifier must return logits of shape (samples, classes)", where=where, got=got)
    return logits.shape[1]


def _two_samples(train: Part, device: torch.device) -> Batch:
    if isinstance(train, DataLoader):
        batch = as_batch(next(iter(train)), device)
    else:
        columns = columns_of(train, "train_loader")
        batch = {name: torch.from_numpy(column[:2].copy()).to(device) for name, column in columns.items()}
    return {name: column[:2] for name, column in batch.items()}


def _class_counts(train: Part, n_classes: int) -> list[int] | None:
    """Count the labels of a part in memory."""
    if isinstance(train, DataLoader):
        return None
    y = columns_of(train, "train_loader").get("y")
    if y is None or y.ndim != 1 or y.dtype.kind not in "iu" or y.min() < 0:
        return None
    return [int(count) for count in np.bincount(y, minlength=n_classes)]
