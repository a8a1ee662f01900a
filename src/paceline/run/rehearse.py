"""One small batch through every model, loss and task, before anything is written. Shapes: B samples, here two."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from paceline.config.suggest import hint
from paceline.errors import ConfigError, DataError, ModelError
from paceline.evaluate.passes import evaluate
from paceline.models.building import refuse_oversized
from paceline.run.blame import users_errors
from paceline.run.decide import check_decidable
from paceline.run.fitted import rehearse_estimator
from paceline.run.inputs import InMemory
from paceline.run.misfit import sizes_explained
from paceline.run.recipe import GIVEN
from paceline.train.augment import augment_of
from paceline.train.learner import seeded_model
from paceline.train.runtime import autocast
from paceline.train.selection import doubt_of_patience

if TYPE_CHECKING:
    from paceline.run.job import Job
    from paceline.types import Batch, Value

LOG = logging.getLogger("paceline")


def rehearse(jobs: Sequence[Job], device: torch.device) -> list[str]:
    """Evaluate two samples per variant: shapes fit, the loss is one, the selection metric exists.

    Return the class of each variant's model; an estimator is none.

    Raises PacelineError with the line of the user's own file where its code fails.
    """
    found = []
    for job in {job.member.variant: job for job in reversed(jobs)}.values():
        training = job.config.training
        check_decidable(job)
        if job.estimator is not None:
            rehearse_estimator(job)
            continue
        _check_samples(job)
        model = _model(job).to(device)
        found.append(type(model).__name__)
        batch = next(iter(job.inputs.passes(training, device)["val"]), None)
        if batch is None:
            raise DataError("the validation part is empty", where="data.split")
        small = {name: column[:2] for name, column in batch.items()}
        values = _values(job, model, small, autocast(training.amp, device))
        numbers = [f"val_{name}" for name, value in values.items() if not isinstance(value, list)]
        if training.selection.metric not in numbers:
            raise ConfigError("the task has no metric of that name", where="training.selection.metric",
                              got=training.selection.metric, hint=hint(training.selection.metric, numbers))  # fmt: skip
        if _needs_the_whole_sequence(job, model):
            LOG.info("model=%s is offline / non-causal: it needs the whole sequence", job.config.model.name)
    for text in filter(None, {doubt_of_patience(job.config.training): None for job in jobs if job.estimator is None}):
        LOG.warning(text)
    return found


def _check_samples(job: Job) -> None:
    """Raise ConfigError where the data does not have what augmentation or oversampling name."""
    training = job.config.training
    augment_of(training.augment, job.inputs.spec)
    if isinstance(job.inputs, InMemory):
        job.inputs.trained(training)
    elif training.oversample.factor != 1:
        raise ConfigError("a DataLoader chooses its own samples", where="training.oversample",
                          hint="arrays instead of a DataLoader, or a sampler of its own")  # fmt: skip


def _needs_the_whole_sequence(job: Job, model: nn.Module) -> bool:
    """Whether two directions were asked for: by the key of that name, or in a model of the user's own."""
    own = any(isinstance(module, nn.RNNBase) and module.bidirectional for module in model.modules())
    return own or bool(getattr(job.config.model, "bidirectional", False))


def _model(job: Job) -> nn.Module:
    where = f"model={job.config.model.name}"
    if job.config.task.name != GIVEN:  # a model that came as a Python object has no size in a config
        refuse_oversized(job.build_model, where)
    with users_errors("the model cannot be built", where):
        model: object = seeded_model(job.build_model, job.member)
    if not isinstance(model, nn.Module):
        raise ModelError("the model is not a torch.nn.Module", where=where, got=type(model).__name__)
    return model


def _values(job: Job, model: nn.Module, batch: Batch, precision: AbstractContextManager[Any]) -> dict[str, Value]:
    """Take the steps of an evaluation one by one, so that each error says whose it is; return the metrics."""
    given = job.config.task.name == GIVEN
    task = f"task={type(job.task).__name__ if given else job.config.task.name}"
    loss = task if given else f"loss={job.config.loss.name}"
    model_called = f"model={type(model).__name__ if given else job.config.model.name}"
    shapes = ", ".join(f"{name} {tuple(column.shape)}" for name, column in batch.items())
    model.eval()
    with precision:
        with users_errors("the model fails on two samples of the data", model_called, shapes), sizes_explained(model):
            outputs = job.task.forward(model, batch)
        with users_errors("the loss fails on two samples of the data", loss, shapes):
            sums = job.task.loss_sums(outputs, batch)
            _check_sums(job.task.weights(batch), sums)
            if any(p.requires_grad for p in model.parameters()) and not any(v.requires_grad for v in sums.values()):
                raise ModelError("the loss does not depend on the model's parameters",
                                 hint="nothing detached, rounded or turned into a number on the way")  # fmt: skip
    with users_errors("the task fails on two samples of the data", task, shapes):
        return evaluate(model, job.task, [batch], precision)


def _check_sums(weights: object, sums: object) -> None:
    """Raise ModelError unless a loss gives a number per term, and a weight to divide it by."""
    for name, found in (("weights", weights), ("sums", sums)):
        if not isinstance(found, Mapping) or not found:
            raise ModelError(f"`{name}` of the loss must be a dict with an entry per term", got=type(found).__name__)
    assert isinstance(weights, Mapping) and isinstance(sums, Mapping)
    for term, value in sums.items():
        if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
            got = f"shape {tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise ModelError(f"the loss term {term!r} must be one number: the sum over the samples", got=got,
                             hint="a float tensor of shape ()")  # fmt: skip
        weight = weights.get(term)
        if not isinstance(weight, (int, float)) and not (isinstance(weight, Tensor) and not weight.ndim):
            got = f"shape {tuple(weight.shape)}" if isinstance(weight, Tensor) else repr(weight)
            raise ModelError(f"the loss term {term!r} needs a weight: the number of samples in its sum", got=got)
