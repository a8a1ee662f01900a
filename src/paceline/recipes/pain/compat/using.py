"""From `<run_name>.pt` alone to a model and its predictions on raw input.

Shapes: N samples, T steps, F channels, C classes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from paceline.api.new_input import checked_columns, prepared, read_input, spec_of, table_of
from paceline.api.using import PREDICT_BATCH, with_weights
from paceline.checkpoint.store import read_state
from paceline.data.loader import ArrayPass
from paceline.evaluate import passes
from paceline.recipes.pain.compat import config as flat
from paceline.recipes.pain.recipe import recipe
from paceline.run.config import resolve
from paceline.tasks import Classification
from paceline.train.runtime import autocast, resolve_device
from paceline.types import DataSpec

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

State = Mapping[str, Any]
PathLike = str | os.PathLike[str]


def build_model(config: Mapping[str, Any], n_features: int, n_classes: int) -> nn.Module:
    """Return the config's model with new weights, drawn from torch's generator: logits = model(x (B, T, F), mask)."""
    return _build(config, DataSpec(shapes={"x": (1, n_features)}, classes=tuple(map(str, range(n_classes)))))


def load_model(checkpoint: State | PathLike) -> nn.Module:
    """Return the model of a best state or of its file, with its weights, in evaluation mode.

    A model of your own takes `best_state["model_state_dict"]` instead. Raises CheckpointError where the weights are not
    those of the config's model.
    """
    state = _state(checkpoint)
    build = partial(_build, state["config"], spec_of(state["input"]))
    with torch.random.fork_rng(devices=[]):
        return with_weights(build, state, f"{state['run_name']}.pt").eval()


def predict(checkpoint: State | PathLike, X: ArrayLike | PathLike, lengths: ArrayLike | None = None) -> pd.DataFrame:
    """Predict raw input: a row per sample with `prediction`, the class, and its probabilities `p_<class>`.

    X: (N, T, F) as it was in training, or a file of any kind that `paceline predict` takes. lengths: (N,) valid steps.
    Nothing but the checkpoint is needed. Raises DataError for input of another form.
    """
    state = _state(checkpoint)
    resolved, best = resolve(flat.tree(state["config"]), recipe), state["input"]
    arrays = {"x": X} if lengths is None else {"x": X, "lengths": lengths}
    given = read_input(X if isinstance(X, (str, Path)) else arrays, best, resolved.data)
    columns = prepared(checked_columns(given, best, resolved.data), best, given.source)
    device = resolve_device(resolved.device)
    batches = ArrayPass({name: torch.from_numpy(c).to(device) for name, c in columns.items()}, PREDICT_BATCH)
    task = Classification(n_classes=len(best["classes"]), inputs=("x", "mask"))
    precision = autocast(resolved.training.amp, device)
    return table_of([passes.predict(load_model(state).to(device), task, batches, precision)], best["classes"])


def _state(checkpoint: State | PathLike) -> State:
    return checkpoint if isinstance(checkpoint, Mapping) else read_state(Path(checkpoint))


def _build(config: Mapping[str, Any], spec: DataSpec) -> nn.Module:
    model = resolve(flat.tree(config), recipe).model.build(spec)
    assert isinstance(model, nn.Module)
    return model
