"""`run_experiment` and `run_cross_validation`: from arrays and a flat dict to trained, published runs.

Shapes: N samples, T steps, F channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from paceline.api import runs as api
from paceline.config.tree import Tree, merge
from paceline.data.dataset import Dataset, dataset
from paceline.errors import DataError
from paceline.recipes.pain.compat import config as flat
from paceline.recipes.pain.compat.loaders import say_without_workers
from paceline.recipes.pain.compat.seeding import set_seed
from paceline.recipes.pain.compat.state import Result, best_state_of, history_of, save
from paceline.recipes.pain.compat.tracking import sections
from paceline.recipes.pain.compat.using import load_model
from paceline.recipes.pain.recipe import recipe
from paceline.run.build import load
from paceline.run.config import resolve
from paceline.run.folder import Run
from paceline.run.start import refuse_changes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def run_experiment(
    config: Mapping[str, Any],
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    feature_names: Sequence[str] | None = None,
    label2idx: Mapping[str, int] | None = None,
    runs: str | Path = "runs",
    overwrite: bool = False,
    resume: bool = False,
) -> Result:
    """Train one config on one split, in `<runs>/<run_name>`; write `<run_name>.pt` there; return a `Result`.

    X: (N, T, F) raw numbers, scaled here by the statistics of the training part unless `scale` is False. y: (N,) class
    indices or names. lengths: (N,) valid steps, where sequences differ. Without X the data is that of `config["data"]`:
    the name of a data source of the recipe `pain`, or a dict of its name and keys.
    feature_names: of the channels. label2idx: index by class name.
    overwrite: replace a run of the same name. resume: go on with it where it was interrupted, or take its result; it
        must have the same config and data.

    `set_seed(config["seed"])` comes first. The best state holds, besides the guide's six entries: config, run_name,
    split_idx, selection, label2idx, idx2label, input, and where known feature_names, scaler_mean, scaler_std;
    data_split with `save_data_split`. Arrays of the guide are tensors. Raises PacelineError for bad input.
    """
    set_seed(flat.value(config, "seed"))
    config = {**config, "run_name": flat.run_name(config)}
    data = _data(config, X, y, lengths, feature_names, label2idx)
    run = _train(config, data, {}, runs, overwrite=overwrite, resume=resume)
    return _published(run, config, config["run_name"], run.members[0], data)


def run_cross_validation(
    config: Mapping[str, Any],
    n_splits: int = 5,
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    feature_names: Sequence[str] | None = None,
    label2idx: Mapping[str, int] | None = None,
    runs: str | Path = "runs",
    overwrite: bool = False,
    resume: bool = False,
) -> dict[str, Any]:
    """Train stratified folds as one run `<runs>/<run_name>`; return its summary.

    Arguments as for `run_experiment`. The summary has `run_name`, `n_splits`, mean and standard deviation over folds of
    the selected epochs' macro F1 and accuracy on the validation parts (`f1_mean`, `f1_std`, `accuracy_mean`,
    `accuracy_std`), their 95 % intervals corrected for the overlap of the training parts (`f1_ci95`, `accuracy_ci95`;
    Nadeau and Bengio, 2003), and `results`, a `Result` per fold. Folds count from 0; each has its
    `<run_name>_fold<k>.pt`.
    """
    set_seed(flat.value(config, "seed"))
    config = {**config, "run_name": flat.run_name(config)}
    data = _data(config, X, y, lengths, feature_names, label2idx)
    run = _train(config, data, {"members": {"folds": n_splits}}, runs, overwrite=overwrite, resume=resume)
    results = [
        _published(run, config, f"{config['run_name']}_fold{k}", member, data) for k, member in enumerate(run.members)
    ]
    summary: dict[str, Any] = {"run_name": config["run_name"], "n_splits": n_splits}
    for name, own in (("f1", "val_f1_macro"), ("accuracy", "val_accuracy")):
        found = run.summary["metrics"].get(own, {})  # nothing where every fold failed
        summary |= {f"{name}_{figure}": found.get(figure) for figure in ("mean", "std", "ci95")}
    return {**summary, "results": results}


def _train(
    config: Mapping[str, Any], data: Dataset | None, more: Tree, runs: str | Path, *, overwrite: bool, resume: bool
) -> Run:
    say_without_workers(flat.value(config, "num_workers"))
    tree, name = merge(flat.tree(config), {**more, "tracking": sections(config)}), config["run_name"]
    begun = Run(Path(runs) / name)
    if not (resume and begun.is_run()):
        return api.train(config=tree, data=data, runs=runs, name=name, overwrite=overwrite)
    made_with, now = (resolve(t, recipe).tree() for t in (begun.config, tree))
    refuse_changes(made_with, now, where=str(begun.path), hint="overwrite=True")
    return api.resume(begun, data=data)


def _published(run: Run, config: Mapping[str, Any], name: str, member: str, data: Dataset | None) -> Result:
    """Make the result of one member and write its file."""
    history = history_of(run, config, member)
    state = best_state_of(run, config, name, history, member)
    if flat.value(config, "save_data_split"):
        state["data_split"] = _parts(run, state, data)
    save(run, state)
    return Result(state, history, load_model(state), run)


def _parts(run: Run, state: Mapping[str, Any], data: Dataset | None) -> dict[str, torch.Tensor]:
    """Return the raw arrays of both parts."""
    if data is None:
        data = load(resolve(run.config, recipe).data)
    return {
        f"{name}_{part}": torch.from_numpy(data.columns[name.lower()][state["split_idx"][f"{part}_idx"].numpy()])
        for part in ("train", "valid")
        for name in ("X", "y")
    }


def _data(
    config: Mapping[str, Any],
    X: ArrayLike | None,
    y: ArrayLike | None,
    lengths: ArrayLike | None,
    feature_names: Sequence[str] | None,
    label2idx: Mapping[str, int] | None,
) -> Dataset | None:
    """Return the data set of the arrays, or None where the config names its data."""
    source = config.get("data")
    if X is None or y is None:
        if source is None or X is not None or y is not None:
            raise DataError("there is no data", where="X, y", got="only one of the two" if source else "neither",
                            hint='X and y, or a source in the config: {"data": "vowels"}')  # fmt: skip
        return None
    if source is not None:
        raise DataError("the data is given twice", where='X, y and config["data"]', got=source, hint="one of the two")
    labels, classes = _labels(y, label2idx)
    return dataset(x=X, y=labels, lengths=lengths, channels=feature_names, classes=classes, source="X, y")


def _labels(y: ArrayLike, label2idx: Mapping[str, int] | None) -> tuple[Any, list[str] | None]:
    """Return labels and, where they are known, the class names in the order of their indices."""
    labels = y.numpy(force=True) if isinstance(y, torch.Tensor) else np.asarray(y)
    if label2idx is None:
        return labels, None
    names = sorted(label2idx, key=lambda name: label2idx[name])
    if [int(label2idx[name]) for name in names] != list(range(len(names))):
        raise DataError("label2idx must number the classes from 0 without a gap", where="label2idx",
                        got=dict(label2idx))  # fmt: skip
    return labels, [str(name) for name in names]
