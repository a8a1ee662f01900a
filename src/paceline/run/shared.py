"""Prepared data on disk: written once by the parent, mapped into memory by every worker, removed when they are done.

A worker neither loads nor scales anything again, and workers share the pages. Arrays are plain .npy files.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paceline.data.dataset import Dataset
from paceline.data.fingerprint import assume, fingerprint
from paceline.data.prepare import Preparation
from paceline.errors import RunError
from paceline.run.folder import Run, write_json
from paceline.run.inputs import InMemory, Ready

if TYPE_CHECKING:
    from paceline.run.build import Prepared

Array = NDArray[Any]


@contextmanager
def shared_data(run: Run, prepared: Prepared) -> Iterator[None]:
    """Keep the prepared data of a run in its folder meanwhile. Raises RunError where they cannot be written."""
    inputs = {id(job.inputs.split): job.inputs for job in prepared.jobs if isinstance(job.inputs, InMemory)}
    folder = _folder(run)
    shutil.rmtree(folder, ignore_errors=True)  # of a parent that was killed
    try:
        try:
            folder.mkdir()
            _write(folder, [inputs[id(split)] for split in prepared.splits])
        except OSError as error:
            raise RunError("the prepared data cannot be written", where=str(folder), got=str(error),
                           hint="more disk space, or training.processes=1") from error  # fmt: skip
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def open_shared(run: Run) -> tuple[Dataset, list[Ready]]:
    """Return a run's data, and for each split the preparation and the prepared `x`, mapped from disk.

    Pages that nobody writes to are shared; a write stays in the process that makes it.
    """
    folder = _folder(run)
    content = run.read_json(f"{folder.name}/data.json")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content["plain"].items()
    }
    fields |= {name: _mapped(folder / f"{name}.npy") for name in content["arrays"]}
    columns = {name: _mapped(folder / f"column-{i}.npy") for i, name in enumerate(content["columns"])}
    dataset = Dataset(columns=columns, **fields)
    assume(dataset, content["fingerprint"])
    states = [None if state is None else Preparation.from_dict(state) for state in content["preparations"]]
    x = list(content["columns"]).index("x")
    names = [f"column-{x}" if state is None else f"prepared-{i}" for i, state in enumerate(states)]
    return dataset, [(s, _mapped(folder / f"{name}.npy")) for s, name in zip(states, names, strict=True)]


def _write(folder: Path, inputs: Sequence[InMemory]) -> None:
    dataset = inputs[0].dataset
    plain: dict[str, Any] = {}
    arrays: list[str] = []
    for field in dataclasses.fields(dataset):
        value = getattr(dataset, field.name)
        if isinstance(value, np.ndarray):
            arrays.append(field.name)
            np.save(folder / f"{field.name}.npy", value, allow_pickle=False)
        elif field.name != "columns":
            plain[field.name] = value
    for i, column in enumerate(dataset.columns.values()):
        np.save(folder / f"column-{i}.npy", column, allow_pickle=False)
    for i, own in enumerate(inputs):
        if own.preparation is not None:
            np.save(folder / f"prepared-{i}.npy", own.columns()["x"], allow_pickle=False)
    states = [None if own.preparation is None else own.preparation.to_dict() for own in inputs]
    write_json(folder / "data.json", {
        "plain": plain, "arrays": arrays, "columns": list(dataset.columns), "preparations": states,
        "fingerprint": fingerprint(dataset),
    })  # fmt: skip


def _mapped(path: Path) -> Array:
    """Map an array copy-on-write: torch takes no read-only ones."""
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    return np.asarray(array)


def _folder(run: Run) -> Path:
    return run.path / "prepared"
