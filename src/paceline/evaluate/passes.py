"""Passes over a part of the data without gradients: losses and metrics, or predictions.

`no_grad` rather than `inference_mode`: what a module makes here and keeps may enter a later training step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from paceline.metrics.state import merge, on_host
from paceline.metrics.state import values as divide

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from paceline.types import Batch, MetricState, Task, Value


def evaluate(
    model: nn.Module, task: Task, batches: Iterable[Batch], autocast: AbstractContextManager[Any]
) -> dict[str, Value]:
    """Return `loss` and the task's metrics over all batches; equal for any batch size up to rounding.

    The model is put into evaluation mode and back. Nothing is read to the host before the pass is over.
    """
    sums: dict[str, Tensor] = {}
    weights: dict[str, float | Tensor] = {}
    states: Mapping[str, MetricState] = {}
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast:
            for batch in batches:
                outputs = task.forward(model, batch)
                for term, value in task.loss_sums(outputs, batch).items():
                    sums[term] = sums[term] + value.double() if term in sums else value.double()
                for term, weight in task.weights(batch).items():
                    weights[term] = weights[term] + weight if term in weights else weight
                states = merge(states, task.metric_sums(outputs, batch))
    finally:
        model.train(was_training)
    values: dict[str, Value] = {"loss": sum(float(sums[term] / weights[term]) for term in sums)}
    return values | divide(on_host(states))


def predict(
    model: nn.Module, task: Task, batches: Iterable[Batch], autocast: AbstractContextManager[Any]
) -> dict[str, np.ndarray]:
    """Return the task's predictions as arrays, axis 0 the samples.

    They come in the order of the batches, or by the batches' column `sample_index` where there is one.
    """
    parts: dict[str, list[Tensor]] = {}
    places: list[Tensor] = []
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast:
            for batch in batches:
                for name, value in task.predict(task.forward(model, batch)).items():
                    parts.setdefault(name, []).append(value)
                places += [batch["sample_index"]] if "sample_index" in batch else []
    finally:
        model.train(was_training)
    found = {name: torch.cat(values).cpu().numpy() for name, values in parts.items()}
    if not places:
        return found
    order = torch.cat(places).argsort().cpu().numpy()
    return {name: values[order] for name, values in found.items()}
