"""The forms in which torch users have data, as columns of NumPy arrays or as their own loaders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from paceline.api.using import PREDICT_BATCH
from paceline.data.dataset import Dataset
from paceline.data.fingerprint import fingerprint
from paceline.data.foreign import ForeignPass, as_batch
from paceline.data.loader import ArrayPass, take
from paceline.data.split import Split
from paceline.errors import ConfigError, DataError
from paceline.run.inputs import Foreign, InMemory
from paceline.tasks import Classification, Regression
from paceline.types import DataSpec

if TYPE_CHECKING:
    from paceline.types import Batch, Task

Columns = dict[str, np.ndarray[Any, Any]]
Part = Any  # (x, y) arrays or tensors, a dict of them, a Dataset of torch, or a DataLoader


def inputs_of(
    train: Part, val: Part, test: Part | None, *, named: bool, classes: tuple[str, ...] = ()
) -> InMemory | Foreign:
    """Return what the parts are trained on.

    classes: the names of the classes by index; where there are none, `named` makes `0`, `1`, ... of integer targets.

    Raises DataError for parts that are empty, not finite, or do not fit together.
    """
    from torch.utils.data import DataLoader

    parts = {"train": train, "val": val} | ({} if test is None else {"test": test})
    loaders = {name: part for name, part in parts.items() if isinstance(part, DataLoader)}
    if loaders:
        if len(loaders) < len(parts):
            raise DataError("the parts are of different kinds", got={n: type(p).__name__ for n, p in parts.items()},
                            hint="DataLoaders for all parts, or arrays for all")  # fmt: skip
        batch = as_batch(next(iter(loaders["train"])), torch.device("cpu"))
        spec = DataSpec(shapes={name: tuple(column.shape[1:]) for name, column in batch.items()}, classes=classes)
        return Foreign(train=loaders["train"], val=loaders["val"], test=loaders.get("test"), spec=spec)
    return _in_memory({name: columns_of(part, name) for name, part in parts.items()}, classes, named=named)


def _in_memory(parts: Mapping[str, Columns], classes: tuple[str, ...], *, named: bool) -> InMemory:
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
    if classes and "y" in joined:
        _check_classes(joined["y"], classes)
    elif named and "y" in joined:
        classes = _classes(joined["y"])
    dataset = Dataset(columns=joined, classes=classes, test=rows.get("test"), source="given in Python")
    split = Split(
        rule="given", seed=0, train=rows["train"], val=rows["val"],
        test=rows.get("test", np.empty(0, np.int64)), fingerprint=fingerprint(dataset),
    )  # fmt: skip
    return InMemory(dataset=dataset, split=split, open_test=True)


def _check_classes(y: np.ndarray[Any, Any], classes: Sequence[str]) -> None:
    if y.ndim != 1 or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= len(classes):
        raise DataError("the targets are not indices of the classes", where="column y", got=f"{y.min()} to {y.max()}",
                        hint=f"0 to {len(classes) - 1}")  # fmt: skip


def _classes(y: np.ndarray[Any, Any]) -> tuple[str, ...]:
    counted = y.ndim == 1 and y.dtype.kind in "iu" and y.min() >= 0
    return tuple(str(label) for label in range(int(y.max()) + 1)) if counted else ()


def columns_of(part: Part, name: str) -> Columns:
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
    return checked(columns, name)


def checked(columns: Mapping[str, Any], name: str) -> Columns:
    """Return the columns of a part as arrays. Raises DataError where they are no finite numbers of equal length."""
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


def batches_of(x: Any, shapes: Mapping[str, Sequence[int]], device: torch.device) -> Iterable[Batch]:
    """Return batches of input to predict: an array, a dict of columns or a DataLoader.

    `shapes` are those of one sample in training; steps, the first of several axes, may be more or fewer. Raises
    DataError for anything else.
    """
    from torch.utils.data import DataLoader

    if isinstance(x, DataLoader):
        return ForeignPass(x, device)
    columns = checked(x if isinstance(x, Mapping) else {"x": x}, "input")
    for name, column in columns.items():
        shape = tuple(shapes.get(name, column.shape[1:]))
        if column.ndim - 1 != len(shape) or (shape and column.shape[-1] != shape[-1]):
            raise DataError("the input does not look like the training data", where=f"input, column {name}",
                            got=f"shape {column.shape}", hint=f"(samples, {', '.join(map(str, shape))})")  # fmt: skip
    rows = np.arange(len(next(iter(columns.values()))))
    return ArrayPass(take(columns, rows, device), PREDICT_BATCH)


def default_task(inputs: InMemory | Foreign) -> Task:
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
