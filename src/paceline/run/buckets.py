"""Whether members train on batches that end with their longest sample, and of samples of similar length.

Shapes: N samples, T steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from paceline.data.buckets import WORTH_IT, cut, stepwise
from paceline.errors import ConfigError
from paceline.run.inputs import InMemory
from paceline.train.learner import seeded_model

if TYPE_CHECKING:
    from paceline.run.job import Job
    from paceline.types import Batch

TRIED = 4  # samples in the trial: the shortest, which lose the most padding


def batches_of(job: Job, device: torch.device) -> str:
    """Decide for a member and all that are like it, whichever engine trains them: batches make the result.

    `auto` only cuts, which changes nothing beyond rounding; batches by length are another order. Raises ConfigError
    where `data.loader.bucket_by_length=true` cannot be had.
    """
    wanted = job.config.data.loader.bucket_by_length
    if wanted is False:
        return "whole"
    reason = _why_not(job, device, forced=wanted is True)
    if reason is not None and wanted is True:
        raise ConfigError(f"there can be no batches by length: {reason}", where="data.loader.bucket_by_length",
                          got=True, hint="auto or false")  # fmt: skip
    return "whole" if reason is not None else "by_length" if wanted is True else "cut"


def _why_not(job: Job, device: torch.device, *, forced: bool) -> str | None:
    if not isinstance(job.inputs, InMemory):
        return "a DataLoader makes its own batches"
    if "mask" not in job.inputs.dataset.columns:
        return "all samples have the same length"
    lengths = job.inputs.lengths(np.concatenate([job.inputs.split.train, job.inputs.split.val]))
    if lengths is None:
        return "padding stands before valid steps"
    if not forced and lengths.mean() >= WORTH_IT * lengths.max():
        return "the lengths differ little"
    return _trial(job, job.inputs, device)


def _trial(job: Job, inputs: InMemory, device: torch.device) -> str | None:
    """Run the shortest samples with all their padding and without: loss in training mode, and predictions, agree."""
    lengths = inputs.lengths(inputs.split.train)
    assert lengths is not None
    shortest = np.argsort(lengths, kind="stable")[:TRIED]
    columns = inputs.columns(inputs.split.train[shortest])
    whole = {name: torch.from_numpy(np.array(column)).to(device) for name, column in columns.items()}
    short = cut(whole, stepwise(whole), max(1, int(lengths[shortest].max())))
    try:
        model = seeded_model(job.build_model, job.member).to(device)
        padded, trimmed = (_predictions(job, model, batch) for batch in (whole, short))
        padded["loss"], trimmed["loss"] = (_training_loss(job, model, batch) for batch in (whole, short))
    except Exception as error:  # a model of one's own may want one length, and says so in any way
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    for name, value in padded.items():
        if value.shape != trimmed[name].shape or not torch.allclose(value, trimmed[name], rtol=1e-3, atol=1e-4):
            return f"the {name} depends on the padding"
    return None


@torch.no_grad()
def _predictions(job: Job, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    return {name: value.double() for name, value in job.task.predict(job.task.forward(model.eval(), batch)).items()}


@torch.no_grad()
def _training_loss(job: Job, model: nn.Module, batch: Batch) -> Tensor:
    """Return the loss terms in training mode, (terms,), with noise that begins alike for every length."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sums = job.task.loss_sums(job.task.forward(model.train(), batch), batch)
    return torch.stack(list(sums.values())).double()
